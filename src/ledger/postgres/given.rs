//! The one statement that writes a batch of new operations down.
//!
//! Owns the columns that such a batch travels in. Each value travels once, whatever the
//! tables that it goes to, and the places in the order accepted are taken by the same
//! statement: nothing has to be asked for before. Its invariant: what it writes is what
//! one statement a table would write.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use sqlx::AssertSqlSafe;

use super::batch::{Columns, Values, names, parameters};
use super::writing::Writing;
use crate::domain::delivery::{Callback, Topic};
use crate::domain::operation::{Body, EventKind, NewOperation, WaitingFor, Work};
use crate::domain::{OperationId, Timestamp};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{
    Carried, Cells, TAG_SEPARATOR, as_micros, delivery_name, number, on_failure_name, put_body,
};
use crate::ledger::verbs::Placed;
use crate::ledger::webhooks::sql::Told;

/// The columns of `operations` behind the place.
const OF_OPERATION: &str = "id, accepted_at, principal, route, lane, method, target, task, delivery, timeout_us, \
     deadline_at, retry_attempts, retry_min_us, retry_max_us, first_is_final, due_at, upstream_key, key_digest, \
     serial_digest, serial_key, parent, root, retry_of, client_reference, tags, on_failure, recheck, \
     callback_receiver, callback_url, callback_events";
const OF_OPERATION_LETTERS: &str = "onotnttTtnnnnnfnTOOTOOOTTTTNTN";
/// The columns that go elsewhere.
const OF_REST: &str = "taken, placed, fields, body, body_key, body_length, credentials";
const LETTERS: &str = "onotnttTtnnnnnfnTOOTOOOTTTTNTNNnooNnO";

/// A new operation with its place, where that had to be taken before, and its ties to others.
pub(super) struct Given<'a> {
    pub(super) taken: Option<i64>,
    pub(super) operation: &'a NewOperation,
    pub(super) lane: i64,
    pub(super) placed: Placed,
    /// The parent, and the root of its tree.
    pub(super) parent: Option<(OperationId, OperationId)>,
    /// Where its callbacks go.
    pub(super) callback: Option<Cow<'a, Callback>>,
}

/// What a batch has to have written.
#[derive(Clone, Copy)]
struct Shape {
    /// Columns that are mostly empty have values.
    full: bool,
    /// Whether any begins there, by place.
    begins: [bool; PLACES.len()],
}

const PLACES: [Placed; 3] = [Placed::Ready, Placed::Running, Placed::Waiting];

/// Writes these down; their places in the order accepted, in their order here.
pub(super) async fn write(
    writing: &mut Writing,
    batch: &[Given<'_>],
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
    }
    Ok(seqs)
}

/// Puts them into their tables; none of them where receivers are no longer as was relied on.
async fn insert(writing: &mut Writing, batch: &[Given<'_>]) -> Result<Vec<i64>, LedgerError> {
    let mut columns = Columns::of(LETTERS);
    batch.iter().for_each(|given| put(given, &mut columns));
    let any = |placed| batch.iter().any(|given| given.placed == placed);
    let shape = Shape { full: columns.is_full(), begins: PLACES.map(any) };
    let values = Values::default().with(writing.book.incarnation).with(writing.relies_on());
    let rows = writing.rows(AssertSqlSafe(shape.sql()), columns.bound(values)).await?;
    rows.iter().map(|row| number(row, "seq")).collect()
}

/// What those are told of it who want to know of beginnings.
fn begins(given: &Given<'_>, seq: i64) -> impl Iterator<Item = Told> + use<> {
    let at = given.operation.accepted_at;
    let told = move |sequence, topic| Told { seq, sequence, topic, at };
    let started = given.placed == Placed::Running;
    let begun = Carried::fresh().begun(at).sequence;
    std::iter::once(told(1, Topic::Accepted)).chain(started.then(|| told(begun, Topic::Started)))
}

fn put(given: &Given<'_>, cells: &mut Columns) {
    put_operation(given, cells);
    cells.number(given.taken).number(given.placed as i64);
    match &given.operation.work {
        Work::Call(request) => {
            cells.octets(request.fields.encode());
            put_body(&request.body, cells);
            let secret = (!request.credentials.is_empty()).then(|| request.credentials.encode());
            cells.octets(secret);
        }
        Work::Task { arguments, .. } => {
            cells.octets(Vec::new());
            put_body(&Body::Inline(arguments.clone()), cells);
            cells.octets(None);
        }
    }
}

fn put_operation(given: &Given<'_>, cells: &mut Columns) {
    let Given { operation, lane, parent, .. } = given;
    let octets = |id: OperationId| id.as_bytes().to_vec();
    cells.octets(octets(operation.id)).number(operation.accepted_at.as_micros());
    cells.octets(operation.principal.as_bytes().to_vec());
    cells.text(operation.route.to_string()).number(*lane);
    match &operation.work {
        Work::Call(request) => {
            cells.text(request.method.as_str().to_owned()).text(request.target.clone()).text(None)
        }
        Work::Task { name, .. } => cells.text(None).text(None).text(name.clone()),
    };
    let policy = &operation.policy;
    cells.text(delivery_name(policy.delivery).to_owned());
    cells.number(as_micros(policy.timeout)).number(policy.deadline_at.as_micros());
    cells.number(i64::from(policy.retry.attempts));
    cells.number(as_micros(policy.retry.min)).number(as_micros(policy.retry.max));
    cells.flag(policy.first_answer_is_final).number(operation.due_at.as_micros());
    cells.text(operation.upstream_key.clone());
    cells.octets(operation.idempotency.map(|claim| claim.digest.to_vec()));
    cells.octets(operation.serial_key.as_ref().map(|key| key.digest.to_vec()));
    cells.text(operation.serial_key.as_ref().map(|key| key.text.clone()));
    cells.octets(parent.map(|(id, _)| octets(id))).octets(parent.map(|(_, root)| octets(root)));
    cells.octets(operation.retry_of.map(octets)).text(operation.client_reference.clone());
    cells.text((!operation.tags.is_empty()).then(|| operation.tags.join(TAG_SEPARATOR)));
    cells.text(on_failure_name(policy).map(str::to_owned));
    cells.text(policy.recheck.as_ref().map(|recheck| recheck.target().to_owned()));
    let callback = given.callback.as_ref();
    cells.number(callback.map(|callback| callback.receiver.0));
    cells.text(callback.map(|callback| callback.url.clone()));
    cells.number(callback.map(|callback| callback.topics.bits()));
}

impl Shape {
    fn sql(self) -> Arc<str> {
        static TEXTS: [OnceLock<Arc<str>>; 16] = [const { OnceLock::new() }; 16];
        let flags = std::iter::once(self.full).chain(self.begins);
        let index: usize = flags.fold(0, |index, flag| index * 2 + usize::from(flag));
        TEXTS.get(index).map_or_else(
            || self.text().into(),
            |text| Arc::clone(text.get_or_init(|| self.text().into())),
        )
    }

    fn text(self) -> String {
        let all = names(&format!("{OF_OPERATION}, {OF_REST}"), LETTERS, self.full);
        let arrays = parameters(LETTERS, 3, self.full);
        let place = "nextval('operations_order')";
        let seq = if self.full { format!("coalesce(u.taken, {place})") } else { place.to_owned() };
        let parts: Vec<_> = self
            .parts()
            .into_iter()
            .enumerate()
            .map(|(number, part)| format!(", part{number} AS ({part})"))
            .collect();
        format!(
            "WITH given AS MATERIALIZED (SELECT {seq} AS seq, $1::bigint AS node, u.* \
             FROM UNNEST({arrays}) WITH ORDINALITY AS u ({all}, number) \
             WHERE $2::bigint IS NULL OR (SELECT version FROM webhooks) = $2){} \
             SELECT seq FROM given ORDER BY number",
            parts.concat()
        )
    }

    fn parts(self) -> Vec<String> {
        let own = names(OF_OPERATION, OF_OPERATION_LETTERS, self.full);
        let key = if self.full { ", body_key" } else { "" };
        let body = format!("seq, fields, body{key}, body_length");
        let mut parts = vec![
            format!("INSERT INTO operations (seq, {own}) SELECT seq, {own} FROM given"),
            format!("INSERT INTO requests ({body}) SELECT {body} FROM given"),
        ];
        if self.full {
            parts.push(CREDENTIALS.to_owned());
            parts.push(tags());
        }
        let begins = PLACES.into_iter().zip(self.begins).filter(|(_, begins)| *begins);
        parts.extend(begins.flat_map(|(placed, _)| placing(placed)));
        parts
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

/// What puts those into their state that begin there.
fn placing(placed: Placed) -> Vec<String> {
    let (fresh, from) = (Carried::fresh(), format!("FROM given WHERE placed = {}", placed as i64));
    match placed {
        Placed::Ready => vec![format!(
            "INSERT INTO ready (seq, lane, due_at, {CARRIED}) SELECT seq, lane, due_at, {} {from}",
            carried(&fresh)
        )],
        Placed::Running => {
            let begun = fresh.begun(Timestamp::EPOCH);
            let (attempt, sequence) = (begun.counts.attempts, begun.sequence);
            vec![
                format!(
                    "INSERT INTO running (seq, lane, node, since, {CARRIED}, started_at) \
                     SELECT seq, lane, node, accepted_at, {}, accepted_at {from}",
                    carried(&begun)
                ),
                event(EventKind::Started, sequence, attempt, &from),
            ]
        }
        Placed::Waiting => {
            // The acceptance and the wait are both told.
            let told = Carried { sequence: 2, ..fresh };
            let on = WaitingFor::SerialKey.as_str();
            vec![
                format!(
                    "INSERT INTO waiting (seq, lane, waiting_for, serial_digest, {CARRIED}) \
                     SELECT seq, lane, '{on}', serial_digest, {} {from}",
                    carried(&told)
                ),
                event(EventKind::Waiting, told.sequence, told.counts.attempts, &from),
            ]
        }
    }
}

fn event(kind: EventKind, sequence: u32, attempt: u32, from: &str) -> String {
    format!(
        "INSERT INTO events (seq, sequence, at, kind, attempt) \
         SELECT seq, {sequence}, accepted_at, '{}', {attempt} {from}",
        kind.as_str()
    )
}

/// Every text that there can be, for whoever checks them.
#[cfg(test)]
pub(super) fn every_text() -> Vec<String> {
    let flag = |bits: usize, place: usize| bits >> place & 1 == 1;
    let shape = |bits| Shape {
        full: flag(bits, PLACES.len()),
        begins: std::array::from_fn(|place| flag(bits, place)),
    };
    // Who waits does so for a key, which is one of the columns that are mostly empty.
    let can_be = |shape: &Shape| shape.full || !shape.begins[Placed::Waiting as usize];
    (0..2 << PLACES.len()).map(shape).filter(can_be).map(Shape::text).collect()
}

const CARRIED: &str = "attempts, resumes, rescues, refusals, token, sequence";

fn carried(carried: &Carried) -> String {
    let counts = carried.counts;
    format!(
        "{}, {}, {}, {}, {}, {}",
        counts.attempts,
        counts.resumes,
        counts.rescues,
        counts.refusals,
        carried.token,
        carried.sequence
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_its_letter() {
        let of = |names: &str| names.split(", ").count();
        assert_eq!(of(OF_OPERATION), OF_OPERATION_LETTERS.len());
        assert_eq!(of(OF_OPERATION) + of(OF_REST), LETTERS.len());
        assert!(LETTERS.starts_with(OF_OPERATION_LETTERS));
    }
}
