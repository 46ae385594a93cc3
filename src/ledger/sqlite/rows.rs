//! Rows as values: what every state's row carries, and the reading of operations.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use super::batch::Values;
use crate::domain::operation::{
    Body, BodyKey, Continuation, Counts, Delivery, ErrorCode, Event, EventKind, Failure, Lane,
    Policy, Request, RetryPolicy, SerialKey, State, WaitingFor, Work,
};
use crate::domain::{Fields, OperationId, Principal, Timestamp};
use crate::ledger::error::LedgerError;
use crate::ledger::verbs::{Held, KeptAnswer, Lease, Leased, Operation, Promised, Subject};

/// Says that a stored value makes no sense.
pub(super) fn damaged(what: impl std::fmt::Display) -> LedgerError {
    LedgerError::Damaged(what.to_string())
}

/// The value of a column.
pub(super) fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    column: &str,
) -> Result<T, LedgerError> {
    row.try_get(column).map_err(damaged)
}

pub(super) fn time(row: &SqliteRow, column: &str) -> Result<Timestamp, LedgerError> {
    get(row, column).map(Timestamp::from_micros)
}

pub(super) fn maybe_time(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, LedgerError> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_micros))
}

pub(super) fn id(row: &SqliteRow, column: &str) -> Result<OperationId, LedgerError> {
    maybe_id(row, column)?.ok_or_else(|| damaged(format!("{column} is missing")))
}

pub(super) fn maybe_id(row: &SqliteRow, column: &str) -> Result<Option<OperationId>, LedgerError> {
    let octets = get::<Option<&[u8]>>(row, column)?;
    let id = |octets: &[u8]| octets.try_into().map(OperationId::from_bytes).map_err(damaged);
    octets.map(id).transpose()
}

fn micros(row: &SqliteRow, column: &str) -> Result<Duration, LedgerError> {
    get::<i64>(row, column).map(|micros| Duration::from_micros(micros.unsigned_abs()))
}

/// A duration as it is stored.
pub(super) fn as_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Tags as they are stored beside their operation, for showing; `tags` is for finding.
pub(super) const TAG_SEPARATOR: &str = "\n";

/// What an operation carries from state to state.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    pub(super) counts: Counts,
    pub(super) token: i64,
    pub(super) sequence: u32,
    pub(super) started_at: Option<Timestamp>,
    pub(super) percent: Option<u8>,
    pub(super) message: Option<String>,
}

impl Carried {
    /// At the moment of acceptance, which is event number 1.
    pub(super) fn fresh() -> Self {
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
    pub(super) fn begun(mut self, now: Timestamp) -> Self {
        self.counts.attempts += 1;
        self.token += 1;
        self.sequence += 1;
        self.started_at.get_or_insert(now);
        self
    }

    /// From a row that has all of its columns.
    pub(super) fn of(row: &SqliteRow) -> Result<Self, LedgerError> {
        Ok(Self {
            counts: counts(row)?,
            token: get(row, "token")?,
            sequence: get(row, "sequence")?,
            started_at: maybe_time(row, "started_at")?,
            percent: get(row, "percent")?,
            message: get(row, "message")?,
        })
    }

    /// Puts all of its columns but the token, in the order of the tables.
    pub(super) fn put_without_token(&self, values: &mut Values) {
        self.put_counts(values);
        self.put_rest(values);
    }

    /// Puts all of its columns in the order of the tables.
    pub(super) fn put(&self, values: &mut Values) {
        self.put_counts(values);
        values.put(self.token);
        self.put_rest(values);
    }

    fn put_counts(&self, values: &mut Values) {
        let Counts { attempts, resumes, rescues, refusals } = self.counts;
        values.put(attempts).put(resumes).put(rescues).put(refusals);
    }

    fn put_rest(&self, values: &mut Values) {
        values
            .put(self.sequence)
            .put(self.started_at.map(Timestamp::as_micros))
            .put(self.percent)
            .put(self.message.clone());
    }
}

fn counts(row: &SqliteRow) -> Result<Counts, LedgerError> {
    Ok(Counts {
        attempts: get(row, "attempts")?,
        resumes: get(row, "resumes")?,
        rescues: get(row, "rescues")?,
        refusals: get(row, "refusals")?,
    })
}

/// How delivery is stored.
pub(super) const fn delivery_name(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::AtMostOnce => "at-most-once",
        Delivery::AtLeastOnce => "at-least-once",
    }
}

fn delivery(row: &SqliteRow) -> Result<Delivery, LedgerError> {
    match get::<&str>(row, "delivery")? {
        "at-most-once" => Ok(Delivery::AtMostOnce),
        "at-least-once" => Ok(Delivery::AtLeastOnce),
        other => Err(damaged(format!("unknown delivery {other}"))),
    }
}

fn policy(row: &SqliteRow) -> Result<Policy, LedgerError> {
    Ok(Policy {
        delivery: delivery(row)?,
        timeout: micros(row, "timeout_us")?,
        deadline_at: time(row, "deadline_at")?,
        retry: RetryPolicy {
            attempts: get(row, "retry_attempts")?,
            min: micros(row, "retry_min_us")?,
            max: micros(row, "retry_max_us")?,
        },
        first_answer_is_final: get(row, "first_is_final")?,
    })
}

/// A stored body: in the row, or where its pieces are.
pub(super) fn body(row: &SqliteRow) -> Result<Body, LedgerError> {
    match get::<Option<i64>>(row, "body_key")? {
        Some(key) => {
            let length = get::<i64>(row, "body_length")?.unsigned_abs();
            Ok(Body::Chunked { key: BodyKey(key), length })
        }
        None => Ok(Body::Inline(get::<Option<Vec<u8>>>(row, "body")?.unwrap_or_default().into())),
    }
}

/// Puts the three columns of a body.
pub(super) fn put_body(body: &Body, values: &mut Values) {
    match body {
        Body::Inline(octets) => values.put(Some(octets.to_vec())).put(None::<i64>),
        Body::Chunked { key, .. } => values.put(None::<Vec<u8>>).put(Some(key.0)),
    };
    values.put(body.length() as i64);
}

fn fields(row: &SqliteRow, column: &str) -> Result<Fields, LedgerError> {
    let octets = get::<Option<Vec<u8>>>(row, column)?.unwrap_or_default();
    Fields::decode(octets).map_err(damaged)
}

/// What it was accepted as; none once its request is gone.
pub(super) fn promised(row: &SqliteRow) -> Result<Option<Promised>, LedgerError> {
    let Some(work) = work(row)? else { return Ok(None) };
    let digest = get::<Option<&[u8]>>(row, "serial_digest")?.map(TryInto::try_into).transpose();
    let text = get::<Option<String>>(row, "serial_key")?;
    Ok(Some(Promised {
        work,
        policy: policy(row)?,
        upstream_key: get(row, "upstream_key")?,
        serial_key: digest
            .map_err(damaged)?
            .zip(text)
            .map(|(digest, text)| SerialKey { digest, text }),
    }))
}

/// The stored work; none once its request is gone.
fn work(row: &SqliteRow) -> Result<Option<Work>, LedgerError> {
    if get::<Option<i64>>(row, "body_length")?.is_none() {
        return Ok(None);
    }
    if let Some(name) = get::<Option<String>>(row, "task")? {
        let arguments = get::<Option<Vec<u8>>>(row, "body")?.unwrap_or_default().into();
        return Ok(Some(Work::Task { name, arguments }));
    }
    Ok(Some(Work::Call(Request {
        method: Method::from_bytes(get::<&str>(row, "method")?.as_bytes()).map_err(damaged)?,
        target: get(row, "target")?,
        fields: fields(row, "fields")?,
        credentials: fields(row, "credentials")?,
        body: body(row)?,
    })))
}

/// An operation that is handed out, from a row of operation, request and credentials.
pub(super) fn leased(
    row: &SqliteRow,
    lane: Lane,
    carried: &Carried,
    held: Held,
    continuation: Option<Continuation>,
    cancel_asked: bool,
) -> Result<Leased, LedgerError> {
    let serial = get::<Option<&[u8]>>(row, "serial_digest")?.map(TryInto::try_into).transpose();
    Ok(Leased {
        lease: Lease {
            seq: get(row, "seq")?,
            token: carried.token,
            held,
            serial: serial.map_err(damaged)?,
        },
        id: id(row, "id")?,
        route: Arc::from(get::<&str>(row, "route")?),
        lane,
        work: work(row)?.ok_or_else(|| damaged("an unfinished operation has no request"))?,
        policy: policy(row)?,
        counts: carried.counts,
        upstream_key: get(row, "upstream_key")?,
        accepted_at: time(row, "accepted_at")?,
        continuation,
        cancel_asked,
    })
}

/// What a waiting row goes on from.
pub(super) fn continuation(row: &SqliteRow) -> Result<Option<Continuation>, LedgerError> {
    let state = get::<Option<Vec<u8>>>(row, "continuation")?;
    let version = get::<Option<u16>>(row, "version")?;
    Ok(state.zip(version).map(|(state, version)| Continuation { version, state: state.into() }))
}

/// An operation as it stands, from the joined row of [`super::read`].
pub(super) fn operation(row: &SqliteRow) -> Result<Operation, LedgerError> {
    let subject = match get::<Option<String>>(row, "task")? {
        Some(name) => Subject::Task(name),
        None => Subject::Call { method: get(row, "method")?, target: get(row, "target")? },
    };
    let tags = get::<Option<&str>>(row, "tags")?;
    Ok(Operation {
        id: id(row, "id")?,
        principal: Principal::named(get::<&[u8]>(row, "principal")?),
        accepted_at: time(row, "accepted_at")?,
        route: get(row, "route")?,
        queue: get(row, "queue")?,
        upstream: get(row, "upstream")?,
        subject,
        delivery: delivery(row)?,
        deadline_at: time(row, "deadline_at")?,
        state: state(row)?,
        counts: counts(row)?,
        started_at: maybe_time(row, "started_at")?,
        expires_at: maybe_time(row, "expires_at")?,
        freed_at: maybe_time(row, "freed_at")?,
        percent: get(row, "percent")?,
        message: get(row, "message")?,
        response_status: get(row, "response_status")?,
        created_location: get(row, "created_location")?,
        tags: tags
            .map(|tags| tags.split(TAG_SEPARATOR).map(str::to_owned).collect())
            .unwrap_or_default(),
        client_reference: get(row, "client_reference")?,
        parent: maybe_id(row, "parent")?,
        retry_of: maybe_id(row, "retry_of")?,
        sequence: get(row, "sequence")?,
    })
}

fn state(row: &SqliteRow) -> Result<State, LedgerError> {
    Ok(match get::<&str>(row, "status")? {
        "queued" => State::Queued { due_at: time(row, "due")? },
        "running" => State::Running { since: time(row, "since")? },
        "waiting" => State::Waiting {
            on: get::<&str>(row, "waiting_for")?.parse::<WaitingFor>().map_err(damaged)?,
            due_at: maybe_time(row, "due")?,
        },
        "succeeded" => State::Succeeded { at: time(row, "finished_at")? },
        "failed" => State::Failed { at: time(row, "finished_at")?, failure: failure(row)? },
        "canceled" => State::Canceled { at: time(row, "finished_at")? },
        other => return Err(damaged(format!("unknown state {other}"))),
    })
}

fn code(row: &SqliteRow, column: &str) -> Result<Option<ErrorCode>, LedgerError> {
    get::<Option<&str>>(row, column)?.map(|code| code.parse().map_err(damaged)).transpose()
}

fn failure(row: &SqliteRow) -> Result<Failure, LedgerError> {
    Ok(Failure {
        code: code(row, "error_code")?.ok_or_else(|| damaged("a failure without a code"))?,
        cause: code(row, "error_cause")?,
        status: get(row, "error_status")?,
    })
}

/// A recorded answer, from a row of outcome and result.
pub(super) fn answer(row: &SqliteRow) -> Result<KeptAnswer, LedgerError> {
    Ok(KeptAnswer {
        status: get::<Option<u16>>(row, "response_status")?
            .ok_or_else(|| damaged("a result without a status"))?,
        fields: fields(row, "fields")?,
        body: body(row)?,
        created_location: get(row, "created_location")?,
    })
}

/// One line of the timeline.
pub(super) fn event(row: &SqliteRow) -> Result<Event, LedgerError> {
    let kind = get::<&str>(row, "kind")?;
    Ok(Event {
        sequence: get(row, "sequence")?,
        at: time(row, "at")?,
        kind: EventKind::named(kind).ok_or_else(|| damaged(format!("unknown event {kind}")))?,
        attempt: get(row, "attempt")?,
        status: get(row, "status")?,
        code: code(row, "code")?,
        next_at: maybe_time(row, "next_at")?,
        percent: get(row, "percent")?,
        message: get(row, "message")?,
    })
}

/// The octets of a piece.
pub(super) fn piece(row: &SqliteRow) -> Result<Bytes, LedgerError> {
    get::<Vec<u8>>(row, "octets").map(Bytes::from)
}
