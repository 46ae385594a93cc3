//! The one statement that writes a batch of new operations down.
//!
//! Owns the columns that such a batch travels in. Each value travels once, whatever the
//! tables that it goes to, and the places in the order accepted are taken by the same
//! statement: nothing has to be asked for before. Its invariant: what it writes is what
//! one statement a table would write.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use sqlx::AssertSqlSafe;

use crate::cluster::limits::shares::stored as whole;
use crate::db::postgres::arrays::{Column, Columns, Travel, Values, type_of};
use crate::db::postgres::transaction::PgTransaction;
use crate::db::postgres::watermarks::Shelf;
#[cfg(test)]
use crate::db::statements::{Backend, Declared, Texts};
use crate::error::LedgerError;
use crate::model::Placed;
use crate::rows::{
    BindRow, RunState, StoredWork, TAG_SEPARATOR, as_micros, delivery_name, number, on_failure_name,
};
use crate::webhooks::sql::PendingEvent;
use cloakroom_domain::operation::{EventKind, NewOperation, WaitingFor, Work};
use cloakroom_domain::webhooks::{Callback, Topic};
use cloakroom_domain::{OperationId, Timestamp};

/// How a column travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A value for each row.
    Each,
    /// Mostly empty: not at all, as long as it is in every row.
    Rare,
    /// What a route promises: once, where all rows were promised the same.
    Promise,
    /// Whose it is: once, where all are the same principal's.
    Owner,
    /// How long the body is: not at all, where all bodies are in their rows as they are.
    Length,
    /// Where it begins: not at all, where all begin in the same place.
    Place,
}

/// The columns of `operations` behind the place, with a letter each as [`Columns`] takes them.
/// Deadline and when it is due travel as the time from the acceptance on.
const OF_OPERATION: [(&str, char, Kind); 33] = [
    ("id", 'o', Kind::Each),
    ("accepted_at", 'n', Kind::Each),
    ("principal", 'o', Kind::Owner),
    ("route", 't', Kind::Promise),
    ("lane", 'n', Kind::Promise),
    ("method", 't', Kind::Promise),
    ("target", 't', Kind::Each),
    ("task", 't', Kind::Rare),
    ("octets", 'n', Kind::Each),
    ("delivery", 't', Kind::Promise),
    ("timeout_us", 'n', Kind::Promise),
    ("deadline_at", 'n', Kind::Promise),
    ("retry_attempts", 'n', Kind::Promise),
    ("retry_min_us", 'n', Kind::Promise),
    ("retry_max_us", 'n', Kind::Promise),
    ("wait_us", 'n', Kind::Promise),
    ("due_at", 'n', Kind::Promise),
    ("upstream_key", 't', Kind::Rare),
    ("key_digest", 'o', Kind::Rare),
    ("serial_digest", 'o', Kind::Rare),
    ("serial_key", 't', Kind::Rare),
    ("parent", 'o', Kind::Rare),
    ("root", 'o', Kind::Rare),
    ("retry_of", 'o', Kind::Rare),
    ("client_reference", 't', Kind::Rare),
    ("tags", 't', Kind::Rare),
    ("on_failure", 't', Kind::Rare),
    ("recheck", 't', Kind::Rare),
    ("success", 't', Kind::Rare),
    ("retry_statuses", 't', Kind::Rare),
    ("callback_receiver", 'n', Kind::Rare),
    ("callback_url", 't', Kind::Rare),
    ("callback_events", 'n', Kind::Rare),
];
/// The columns that go elsewhere.
const OF_REST: [(&str, char, Kind); 7] = [
    ("taken", 'n', Kind::Rare),
    ("placed", 'n', Kind::Place),
    ("fields", 'o', Kind::Each),
    ("body", 'o', Kind::Each),
    ("body_key", 'n', Kind::Rare),
    ("body_length", 'n', Kind::Length),
    ("credentials", 'o', Kind::Rare),
];
/// What comes before the columns: the node, the version of receivers that is relied on, and the
/// earliest time since when what it hands out runs.
const BEFORE: usize = 3;

fn columns() -> impl Iterator<Item = (&'static str, char, Kind)> {
    OF_OPERATION.into_iter().chain(OF_REST)
}

/// A new operation with its place, where that had to be taken before, and its ties to others.
pub(crate) struct OperationInsert<'a> {
    pub(crate) taken: Option<i64>,
    pub(crate) operation: &'a NewOperation,
    pub(crate) lane: i64,
    pub(crate) placed: Placed,
    /// The parent, and the root of its tree.
    pub(crate) parent: Option<(OperationId, OperationId)>,
    /// Where its callbacks go.
    pub(crate) callback: Option<Cow<'a, Callback>>,
    /// What of it is not to be read by others.
    pub(crate) stored: StoredWork,
}

/// What a batch has to have written, and what of it travels once.
#[expect(clippy::struct_excessive_bools, reason = "each decides by itself how columns travel")]
#[derive(Clone, Copy)]
struct Shape {
    /// Columns that are mostly empty have values.
    full: bool,
    /// All bodies are as long as their octets in the ledger.
    measured: bool,
    /// All were promised the same, and may begin at once.
    alike: bool,
    /// All are the same principal's.
    one_owner: bool,
    /// Whether any begins there, by place.
    begins: [bool; PLACES.len()],
}

const PLACES: [Placed; 3] = [Placed::Ready, Placed::Running, Placed::Waiting];

/// Writes these down; their places in the order accepted, in their order here.
pub(crate) async fn write(
    writing: &mut PgTransaction,
    batch: &[OperationInsert<'_>],
) -> Result<Vec<i64>, LedgerError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut seqs = insert(writing, batch).await?;
    if seqs.is_empty() && writing.relies_on().is_some() {
        writing.turn_back().await?;
        seqs = insert(writing, batch).await?;
    }
    for (given, seq) in batch.iter().zip(&seqs) {
        writing.told.extend(begins(given, *seq));
        if given.placed == Placed::Waiting {
            let (operation, marks) = (given.operation, &writing.book.marks);
            marks.put(Shelf::Deadlines, operation.policy.deadline_at);
            marks.put(Shelf::Delays, operation.due_at);
        }
    }
    Ok(seqs)
}

/// Puts them into their tables; none of them where receivers are no longer as was relied on.
async fn insert(
    writing: &mut PgTransaction,
    batch: &[OperationInsert<'_>],
) -> Result<Vec<i64>, LedgerError> {
    let mut filled = Columns::of(letters());
    batch.iter().for_each(|given| put(given, &mut filled));
    let shape = Shape::of(&filled, batch);
    let values = Values::default().with(writing.book.incarnation).with(writing.relies_on());
    let values = values.with(writing.book.property.since(None));
    let travels = columns().map(|(_, _, kind)| shape.travel(kind));
    let rows = writing.rows(AssertSqlSafe(shape.sql()), filled.bound_as(travels, values)).await?;
    rows.iter().map(|row| number(row, "seq")).collect()
}

/// What those are told of it who want to know of beginnings.
fn begins(given: &OperationInsert<'_>, seq: i64) -> impl Iterator<Item = PendingEvent> + use<> {
    let at = given.operation.accepted_at;
    let told = move |sequence, topic| PendingEvent { seq, sequence, topic, at };
    let started = given.placed == Placed::Running;
    let begun = RunState::fresh().begun(at).sequence;
    std::iter::once(told(1, Topic::Accepted)).chain(started.then(|| told(begun, Topic::Started)))
}

fn put(given: &OperationInsert<'_>, cells: &mut Columns) {
    put_operation(given, cells);
    cells.number(given.taken).number(given.placed as i64);
    let StoredWork { fields, body, credentials, .. } = &given.stored;
    body.put(cells.octets(fields.clone()));
    cells.octets(credentials.clone());
}

fn put_operation(given: &OperationInsert<'_>, cells: &mut Columns) {
    let OperationInsert { operation, lane, parent, stored, .. } = given;
    let octets = |id: OperationId| id.as_bytes().to_vec();
    cells.octets(octets(operation.id)).number(operation.accepted_at.as_micros());
    cells.octets(operation.principal.as_bytes().to_vec());
    cells.text(operation.route.to_string()).number(*lane);
    match &operation.work {
        Work::Call(request) => {
            cells.text(request.method.as_str().to_owned()).text(stored.target.clone()).text(None)
        }
        Work::Task { name, .. } => cells.text(None).text(None).text(name.clone()),
    };
    cells.number(whole(operation.work.octets()));
    let policy = &operation.policy;
    cells.text(delivery_name(policy.delivery).to_owned());
    let from_then = |at: Timestamp| at.as_micros() - operation.accepted_at.as_micros();
    cells.number(as_micros(policy.timeout)).number(from_then(policy.deadline_at));
    cells.number(i64::from(policy.retry.attempts));
    cells.number(as_micros(policy.retry.min)).number(as_micros(policy.retry.max));
    cells.number(policy.wait.map(as_micros)).number(from_then(operation.due_at));
    cells.text(stored.upstream_key.clone());
    cells.octets(operation.idempotency.map(|claim| claim.digest.to_vec()));
    cells.octets(operation.serial_key.as_ref().map(|key| key.digest.to_vec()));
    cells.text(operation.serial_key.as_ref().map(|key| key.text.clone()));
    cells.octets(parent.map(|(id, _)| octets(id))).octets(parent.map(|(_, root)| octets(root)));
    cells
        .octets(operation.retry_of.map(|retry| octets(retry.of)))
        .text(operation.client_reference.clone());
    cells.text((!operation.tags.is_empty()).then(|| operation.tags.join(TAG_SEPARATOR)));
    cells.text(on_failure_name(policy).map(str::to_owned));
    cells.text(policy.recheck.as_ref().map(|recheck| recheck.target().to_owned()));
    cells.text(policy.success.as_ref().map(ToString::to_string));
    cells.text(policy.retry.statuses.as_ref().map(ToString::to_string));
    let callback = given.callback.as_ref();
    cells.number(callback.map(|callback| callback.receiver.0));
    cells.text(stored.callback_url.clone());
    cells.number(callback.map(|callback| callback.topics.bits()));
}

/// A letter for each column.
fn letters() -> &'static str {
    static LETTERS: OnceLock<String> = OnceLock::new();
    LETTERS.get_or_init(|| columns().map(|(_, letter, _)| letter).collect())
}

impl Shape {
    fn of(filled: &Columns, batch: &[OperationInsert<'_>]) -> Self {
        let all = |of: Kind, holds: fn(&Column) -> bool| {
            let kinds = columns().map(|(_, _, kind)| kind);
            kinds.zip(filled.each()).filter(|(kind, _)| *kind == of).all(|(_, it)| holds(it))
        };
        let any = |placed| batch.iter().any(|given| given.placed == placed);
        Self {
            full: !all(Kind::Rare, Column::is_empty),
            measured: batch.iter().all(|given| given.stored.body.is_as_long_as_stored()),
            alike: all(Kind::Promise, Column::is_alike),
            one_owner: all(Kind::Owner, Column::is_alike),
            begins: PLACES.map(any),
        }
    }

    fn travel(self, kind: Kind) -> Travel {
        let once_if = |once: bool| if once { Travel::Once } else { Travel::Each };
        let if_needed = |needed: bool| if needed { Travel::Each } else { Travel::Never };
        match kind {
            Kind::Each => Travel::Each,
            Kind::Rare => if_needed(self.full),
            Kind::Length => if_needed(self.full || !self.measured),
            Kind::Promise => once_if(self.alike),
            Kind::Owner => once_if(self.one_owner),
            Kind::Place => if_needed(self.begins.iter().filter(|begins| **begins).count() > 1),
        }
    }

    fn sql(self) -> Arc<str> {
        static TEXTS: [OnceLock<Arc<str>>; 128] = [const { OnceLock::new() }; 128];
        let flags =
            [self.full, self.measured, self.alike, self.one_owner].into_iter().chain(self.begins);
        let index: usize = flags.fold(0, |index, flag| index * 2 + usize::from(flag));
        TEXTS.get(index).map_or_else(
            || self.text().into(),
            |text| Arc::clone(text.get_or_init(|| self.text().into())),
        )
    }

    /// The columns that travel so, with the numbers of their parameters.
    fn travelling(self, how: Travel) -> impl Iterator<Item = (usize, &'static str, char)> {
        let travels = columns().filter(move |(_, _, kind)| self.travel(*kind) != Travel::Never);
        let numbered = (BEFORE + 1..).zip(travels);
        let so = numbered.filter(move |(_, (_, _, kind))| self.travel(*kind) == how);
        so.map(|(number, (name, letter, _))| (number, name, letter))
    }

    /// What a column of a row is, in the words of a part of the statement.
    fn value(self, column: &str) -> String {
        let once = self.travelling(Travel::Once).find(|(_, name, _)| *name == column);
        let value = match once {
            Some((number, _, letter)) => format!("${number}::{}", type_of(letter)),
            None => column.to_owned(),
        };
        match column {
            "deadline_at" | "due_at" => format!("accepted_at + {value}"),
            "body_length" if !self.full && self.measured => "octet_length(body)".to_owned(),
            _ => value,
        }
    }

    fn values(self, columns: &[&str]) -> String {
        columns.iter().map(|column| self.value(column)).collect::<Vec<_>>().join(", ")
    }

    fn text(self) -> String {
        let each: Vec<_> = self.travelling(Travel::Each).collect();
        let named: Vec<_> = each.iter().map(|(_, name, _)| *name).collect();
        let array = |(number, _, letter): &(usize, &str, char)| {
            format!("${number}::{}[]", type_of(*letter))
        };
        let arrays: Vec<_> = each.iter().map(array).collect();
        let place = "nextval('operations_order')";
        let seq = if self.full { format!("coalesce(u.taken, {place})") } else { place.to_owned() };
        let parts: Vec<_> = self
            .parts()
            .into_iter()
            .enumerate()
            .map(|(number, part)| format!(", part{number} AS ({part})"))
            .collect();
        format!(
            "WITH given AS MATERIALIZED (SELECT {seq} AS seq, $1::bigint AS node, $3::bigint AS last_beat, u.* \
             FROM UNNEST({}) WITH ORDINALITY AS u({}, number) \
             WHERE $2::bigint IS NULL OR (SELECT version FROM webhooks) = $2){} \
             SELECT seq FROM given ORDER BY number",
            arrays.join(", "),
            named.join(", "),
            parts.concat()
        )
    }

    fn parts(self) -> Vec<String> {
        let stays = |(_, _, kind): &(&str, char, Kind)| self.full || *kind != Kind::Rare;
        let own: Vec<_> = OF_OPERATION.iter().filter(|c| stays(c)).map(|c| c.0).collect();
        let mut body = vec!["fields", "body", "body_length"];
        if self.full {
            body.push("body_key");
        }
        let mut parts = vec![
            format!(
                "INSERT INTO operations (seq, {}) SELECT seq, {} FROM given",
                own.join(", "),
                self.values(&own)
            ),
            format!(
                "INSERT INTO requests (seq, {}) SELECT seq, {} FROM given",
                body.join(", "),
                self.values(&body)
            ),
        ];
        if self.full {
            parts.push(CREDENTIALS.to_owned());
            parts.push(tags());
        }
        let begins = PLACES.into_iter().zip(self.begins).filter(|(_, begins)| *begins);
        parts.extend(begins.flat_map(|(placed, _)| self.placing(placed)));
        parts
    }

    /// What puts those into their state that begin there.
    fn placing(self, placed: Placed) -> Vec<String> {
        let from = match self.travel(Kind::Place) {
            Travel::Each => format!("FROM given WHERE placed = {}", placed as i64),
            _ => "FROM given".to_owned(),
        };
        let (fresh, lane) = (RunState::fresh(), self.value("lane"));
        match placed {
            Placed::Ready => vec![format!(
                "INSERT INTO ready (seq, lane, due_at, {CARRIED}) SELECT seq, {lane}, {}, {} {from}",
                self.value("due_at"),
                carried(&fresh)
            )],
            Placed::Running => {
                let begun = fresh.begun(Timestamp::EPOCH);
                let (attempt, sequence) = (begun.counts.attempts, begun.sequence);
                vec![
                    format!(
                        "INSERT INTO running (seq, lane, node, since, {CARRIED}, started_at) \
                         SELECT seq, {lane}, node, greatest(accepted_at, last_beat), {}, accepted_at {from}",
                        carried(&begun)
                    ),
                    event(EventKind::Started, sequence, attempt, &from),
                ]
            }
            Placed::Waiting => {
                let (at, on) = (self.value("due_at"), WaitingFor::SerialKey.as_str());
                let turn = format!("CASE WHEN {at} > accepted_at THEN {at} END");
                // The acceptance and the wait are both told; a delay is no wait.
                let told = format!("CASE WHEN {at} > accepted_at THEN 1 ELSE {WAIT} END");
                let carried = carried_but_sequence(&fresh);
                let undelayed = format!(
                    "{from} {} {at} <= accepted_at",
                    if from.contains("WHERE") { "AND" } else { "WHERE" }
                );
                vec![
                    format!(
                        "INSERT INTO waiting (seq, lane, waiting_for, deadline_at, serial_digest, turn_at, delayed_until, {CARRIED}) \
                         SELECT seq, {lane}, '{on}', {}, serial_digest, {turn}, {turn}, {carried}, {told} {from}",
                        self.value("deadline_at"),
                    ),
                    event(EventKind::Waiting, WAIT, fresh.counts.attempts, &undelayed),
                ]
            }
        }
    }
}

const CREDENTIALS: &str = "INSERT INTO credentials (seq, fields) SELECT seq, credentials FROM given \
     WHERE credentials IS NOT NULL";

fn tags() -> String {
    format!(
        "INSERT INTO tags (tag, seq) SELECT DISTINCT tag, seq FROM given, \
         string_to_table(tags, '{TAG_SEPARATOR}') AS tag"
    )
}

fn event(kind: EventKind, sequence: u32, attempt: u32, from: &str) -> String {
    format!(
        "INSERT INTO events (seq, sequence, at, kind, attempt) \
         SELECT seq, {sequence}, accepted_at, '{}', {attempt} {from}",
        kind.as_str()
    )
}

/// The one statement of a batch, in every form that it can have.
#[cfg(test)]
pub(crate) static STATEMENTS: Declared = Declared { file: file!(), all: &[&Batch] };

#[cfg(test)]
struct Batch;

#[cfg(test)]
impl Texts for Batch {
    fn texts(&self, backend: Backend) -> Vec<String> {
        if backend == Backend::Postgres { every_text() } else { Vec::new() }
    }
}

#[cfg(test)]
fn every_text() -> Vec<String> {
    let flag = |bits: usize, place: usize| bits >> place & 1 == 1;
    let shape = |bits| Shape {
        full: flag(bits, PLACES.len()),
        alike: flag(bits, PLACES.len() + 1),
        one_owner: flag(bits, PLACES.len() + 2),
        measured: flag(bits, PLACES.len() + 3),
        begins: std::array::from_fn(|place| flag(bits, place)),
    };
    // Who waits does so for a key, which is one of the columns that are mostly empty.
    let can_be = |shape: &Shape| shape.full || !shape.begins[Placed::Waiting as usize];
    (0..16 << PLACES.len()).map(shape).filter(can_be).map(Shape::text).collect()
}

/// The number of the event that an operation waits from its acceptance on.
const WAIT: u32 = 2;
const CARRIED: &str = "attempts, resumes, rescues, refusals, contact, last_try, token, sequence";

fn carried(carried: &RunState) -> String {
    format!("{}, {}", carried_but_sequence(carried), carried.sequence)
}

fn carried_but_sequence(carried: &RunState) -> String {
    let counts = carried.counts;
    format!(
        "{}, {}, {}, {}, {}, {}, {}",
        counts.attempts,
        counts.resumes,
        counts.rescues,
        counts.refusals,
        counts.contact as u8,
        u8::from(counts.last_try),
        carried.token
    )
}
