//! The run state of an operation, and the rows of the states.

use crate::error::LedgerError;
use crate::rows::{BindRow, ReadRow, damaged, maybe_number, maybe_text, maybe_time, number};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::{
    Continuation, Counts, ErrorCode, EventKind, UpstreamContact, Verdict, WaitingFor,
};
use cloakroom_domain::sealer::{SealContext, SealedValue, Sealer};

/// The most characters of an event's message.
const LONGEST_MESSAGE: usize = 200;

/// Behind every event that there may be of an operation whose number of the latest is lost.
const UNKNOWN_SEQUENCE: u32 = 1 << 30;

/// The columns of what is carried, behind the name of their table and a point, if any.
/// Columns are named wherever rows are read: a statement that is kept prepared fails once
/// where a later release adds one to what it brings.
macro_rules! carried {
    ($of:literal) => {
        concat!(
            $of,
            "attempts, ",
            $of,
            "resumes, ",
            $of,
            "rescues, ",
            $of,
            "refusals, ",
            $of,
            "contact, ",
            $of,
            "last_try, ",
            $of,
            "token, ",
            $of,
            "sequence, ",
            $of,
            "started_at, ",
            $of,
            "percent, ",
            $of,
            "message"
        )
    };
}

/// The columns of a row of `ready` that are read.
macro_rules! ready_row {
    ($of:literal) => {
        concat!($of, "seq, ", $of, "lane, ", $of, "due_at, ", carried!($of))
    };
}

/// What an INSERT into `ready` does where damage has put a row of the operation there already: the
/// later one counts, so that the end of an attempt is stored all the same.
macro_rules! ready_twin {
    () => {
        "ON CONFLICT (seq) DO UPDATE SET lane = excluded.lane, due_at = excluded.due_at, attempts = excluded.attempts, \
         resumes = excluded.resumes, rescues = excluded.rescues, refusals = excluded.refusals, contact = excluded.contact, \
         last_try = excluded.last_try, token = excluded.token, sequence = excluded.sequence, \
         started_at = excluded.started_at, percent = excluded.percent, message = excluded.message"
    };
}

/// The columns of a row of `running` that are read.
macro_rules! running_row {
    ($of:literal) => {
        concat!($of, "seq, ", $of, "lane, ", $of, "cancel, ", carried!($of))
    };
}

/// The columns of a row of `waiting` that are read.
macro_rules! waiting_row {
    ($of:literal) => {
        concat!(
            $of,
            "seq, ",
            $of,
            "lane, ",
            $of,
            "serial_digest, ",
            $of,
            "version, ",
            $of,
            "continuation, ",
            carried!($of)
        )
    };
}

/// The places of the two operations of which one is the next of a key: the first accepted of
/// those without a delay, and the first of the others whose time has come.
macro_rules! next_of_key {
    ($digest:literal, $now:literal) => {
        concat!(
            "(SELECT seq FROM waiting WHERE serial_digest = ",
            $digest,
            r"
            AND turn_at IS NULL
            ORDER BY seq
            LIMIT 1), (SELECT d.seq
            FROM (SELECT seq, turn_at, delayed_until FROM waiting WHERE serial_digest = ",
            $digest,
            r"
            AND turn_at IS NOT NULL
            ORDER BY turn_at, seq
            LIMIT 1) AS d WHERE d.delayed_until IS NULL OR d.turn_at <= ",
            $now,
            ")"
        )
    };
}

pub(crate) use {carried, next_of_key, ready_row, ready_twin, running_row, waiting_row};

/// The highest token that has a next one; a higher one comes of damage, and counts as this one.
/// The statements that take rows say the same.
const HIGHEST_TOKEN: i64 = i64::MAX / 2;
/// The highest number of attempts or events of one operation; a higher one is damage.
const HIGHEST_COUNT: u32 = u32::MAX / 2;

/// Whether an operation waits for its key, and not for its own time.
pub(crate) fn waited(row: &impl ReadRow) -> Result<bool, LedgerError> {
    Ok(maybe_time(row, "delayed_until")?.is_none())
}

/// What an operation carries from state to state.
#[derive(Clone, Debug)]
pub(crate) struct RunState {
    pub(crate) counts: Counts,
    pub(crate) token: i64,
    pub(crate) sequence: u32,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) percent: Option<u8>,
    /// As it is stored.
    pub(crate) message: Option<String>,
}

impl RunState {
    /// At the moment of acceptance, which is event number 1.
    pub(crate) fn fresh() -> Self {
        Self {
            counts: Counts::default(),
            token: 0,
            sequence: 1,
            started_at: None,
            percent: None,
            message: None,
        }
    }

    /// After the next attempt has begun.
    pub(crate) fn begun(mut self, now: Timestamp) -> Self {
        self.counts.attempts += 1;
        self.token = self.token.min(HIGHEST_TOKEN) + 1;
        self.sequence += 1;
        self.started_at.get_or_insert(now);
        self
    }

    /// After it was handed out only to be ended.
    pub(crate) fn handed_out(mut self) -> Self {
        self.token = self.token.min(HIGHEST_TOKEN) + 1;
        self
    }

    /// As much as can be read of a row that is damaged.
    pub(crate) fn salvaged(row: &impl ReadRow) -> Self {
        let read = |column| row.number(column).ok().flatten();
        let count = |column| {
            let count = read(column).and_then(|count| u32::try_from(count).ok());
            count.filter(|count| *count <= HIGHEST_COUNT)
        };
        let contact = read("contact").and_then(|contact| u8::try_from(contact).ok());
        let counts = Counts {
            attempts: count("attempts").unwrap_or_default(),
            resumes: count("resumes").unwrap_or_default(),
            rescues: count("rescues").unwrap_or_default(),
            refusals: count("refusals").unwrap_or_default(),
            contact: contact.and_then(UpstreamContact::numbered).unwrap_or(UpstreamContact::Lost),
            last_try: read("last_try").is_some_and(|last_try| last_try != 0),
        };
        Self {
            counts,
            token: read("token").unwrap_or_default(),
            // Its events are numbered, and no number comes twice.
            sequence: count("sequence").unwrap_or(UNKNOWN_SEQUENCE),
            started_at: read("started_at").map(Timestamp::from_micros),
            percent: None,
            message: None,
        }
    }

    /// From a row that has all of its columns.
    pub(crate) fn of(row: &impl ReadRow) -> Result<Self, LedgerError> {
        let carried = Self {
            counts: counts(row)?,
            token: number(row, "token")?,
            sequence: number(row, "sequence")?,
            started_at: maybe_time(row, "started_at")?,
            percent: maybe_number(row, "percent")?,
            message: maybe_text(row, "message")?,
        };
        countable(carried.sequence)?;
        Ok(carried)
    }

    /// Puts all of its columns but the token, in the order of the tables.
    pub(crate) fn put_without_token(&self, cells: &mut impl BindRow) {
        self.put_counts(cells);
        self.put_rest(cells);
    }

    /// Puts all of its columns in the order of the tables.
    pub(crate) fn put(&self, cells: &mut impl BindRow) {
        self.put_counts(cells);
        cells.number(self.token);
        self.put_rest(cells);
    }

    fn put_counts(&self, cells: &mut impl BindRow) {
        let Counts { attempts, resumes, rescues, refusals, contact, last_try } = self.counts;
        for count in [attempts, resumes, rescues, refusals] {
            cells.number(i64::from(count));
        }
        cells.number(contact as i64).number(i64::from(last_try));
    }

    fn put_rest(&self, cells: &mut impl BindRow) {
        cells
            .number(i64::from(self.sequence))
            .number(self.started_at.map(Timestamp::as_micros))
            .number(self.percent.map(i64::from))
            .text(self.message.clone());
    }
}

pub(super) fn counts(row: &impl ReadRow) -> Result<Counts, LedgerError> {
    let counts = Counts {
        attempts: number(row, "attempts")?,
        resumes: number(row, "resumes")?,
        rescues: number(row, "rescues")?,
        refusals: number(row, "refusals")?,
        contact: UpstreamContact::numbered(number(row, "contact")?)
            .ok_or_else(|| damaged("an unknown contact"))?,
        last_try: number::<u8>(row, "last_try")? != 0,
    };
    countable(counts.attempts)?;
    Ok(counts)
}

/// An error where what rises with each claim was counted so far that only damage explains it.
fn countable(count: u32) -> Result<(), LedgerError> {
    match count <= HIGHEST_COUNT {
        true => Ok(()),
        false => Err(damaged("it has counted further than anything can be counted")),
    }
}

/// A row of `ready`.
#[derive(Debug)]
pub(crate) struct ReadyRow {
    pub(crate) seq: i64,
    pub(crate) lane: i64,
    pub(crate) due_at: Timestamp,
    pub(crate) carried: RunState,
}

impl ReadyRow {
    /// Of an operation that was just accepted.
    pub(crate) fn new(seq: i64, lane: i64, due_at: Timestamp) -> Self {
        Self { seq, lane, due_at, carried: RunState::fresh() }
    }

    pub(crate) fn put(&self, cells: &mut impl BindRow) {
        cells.number(self.seq).number(self.lane).number(self.due_at.as_micros());
        self.carried.put(cells);
    }
}

/// A row of `running`.
#[derive(Debug)]
pub(crate) struct RunningRow {
    pub(crate) seq: i64,
    pub(crate) lane: i64,
    pub(crate) node: i64,
    pub(crate) since: Timestamp,
    pub(crate) carried: RunState,
}

impl RunningRow {
    pub(crate) fn put(&self, cells: &mut impl BindRow) {
        cells.number(self.seq).number(self.lane).number(self.node).number(self.since.as_micros());
        self.carried.put(cells);
    }

    /// The event that goes with its beginning.
    pub(crate) fn started(&self) -> EventRow {
        let attempt = self.carried.counts.attempts;
        EventRow {
            attempt,
            ..EventRow::plain(self.seq, self.carried.sequence, self.since, EventKind::Started)
        }
    }
}

/// A row of `waiting`, of an operation that follows an upstream.
#[derive(Debug)]
pub(crate) struct WaitingRow {
    pub(crate) seq: i64,
    pub(crate) lane: i64,
    pub(crate) on: WaitingFor,
    pub(crate) due_at: Timestamp,
    /// As it is stored.
    pub(crate) continuation: Option<Continuation>,
    pub(crate) carried: RunState,
}

impl WaitingRow {
    pub(crate) fn put(&self, cells: &mut impl BindRow) {
        let continuation = self.continuation.as_ref();
        cells.number(self.seq).number(self.lane).text(self.on.as_str().to_owned());
        cells.number(self.due_at.as_micros());
        cells.number(continuation.map(|it| i64::from(it.version)));
        cells.octets(continuation.map(|it| it.state.to_vec()));
        self.carried.put(cells);
    }
}

/// A row of `events`.
#[derive(Debug)]
pub(crate) struct EventRow {
    pub(crate) seq: i64,
    pub(crate) sequence: u32,
    pub(crate) at: Timestamp,
    pub(crate) kind: EventKind,
    pub(crate) attempt: u32,
    pub(crate) status: Option<u16>,
    pub(crate) code: Option<ErrorCode>,
    pub(crate) next_at: Option<Timestamp>,
    pub(crate) percent: Option<u8>,
    /// As it is stored.
    pub(crate) message: Option<String>,
}

impl EventRow {
    /// An event of which there is no more to say.
    pub(crate) fn plain(seq: i64, sequence: u32, at: Timestamp, kind: EventKind) -> Self {
        Self {
            seq,
            sequence,
            at,
            kind,
            attempt: 0,
            status: None,
            code: None,
            next_at: None,
            percent: None,
            message: None,
        }
    }

    /// A person found out about an unknown outcome.
    pub(crate) fn reconciled(
        seq: i64,
        sequence: u32,
        attempt: u32,
        verdict: &Verdict,
        sealer: &Sealer,
    ) -> Result<Self, LedgerError> {
        let told = match &verdict.note {
            Some(note) => format!("{}: {note}", verdict.as_str()),
            None => verdict.as_str().to_owned(),
        };
        let told: String = told.chars().take(LONGEST_MESSAGE).collect();
        Ok(Self {
            attempt,
            message: Some(sealer.text(SealContext::in_row(SealedValue::Progress, seq), &told)?),
            ..Self::plain(seq, sequence, verdict.at, EventKind::Reconciled)
        })
    }

    pub(crate) fn put(&self, cells: &mut impl BindRow) {
        cells.number(self.seq).number(i64::from(self.sequence)).number(self.at.as_micros());
        cells.text(self.kind.as_str().to_owned()).number(i64::from(self.attempt));
        cells.number(self.status.map(i64::from));
        cells.text(self.code.map(|code| code.as_str().to_owned()));
        cells
            .number(self.next_at.map(Timestamp::as_micros))
            .number(self.percent.map(i64::from))
            .text(self.message.clone());
    }
}
