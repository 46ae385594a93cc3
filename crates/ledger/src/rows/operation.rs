//! Operations, their work and their answers, from the rows that hold them.

use std::sync::Arc;

use http::Method;

use crate::error::LedgerError;
use crate::model::{
    Blocked, Held, KeptAnswer, KeyInUse, Lease, Leased, Operation, Promised, SerialName, Subject,
};
use crate::rows::carried::counts;
use crate::rows::{
    ReadRow, RunState, TAG_SEPARATOR, damaged, exactly, id, maybe_id, maybe_number, maybe_sealed,
    maybe_text, maybe_time, micros, number, octets, sealed, text, time,
};
use cloakroom_domain::operation::{
    Continuation, Counts, DeliveryGuarantee, ErrorCode, Event, EventKind, Failure, Lane, OnFailure,
    OperationState, Policy, ReadableParts, Recheck, Request, ResponseFraming, RetryPolicy,
    SerialKey, Statuses, Verdict, WaitingFor, Work,
};
use cloakroom_domain::sealer::{SealContext, SealedValue, Sealer};
use cloakroom_domain::{OperationId, Principal, Timestamp};

/// The columns of `operations` that say what an operation was accepted as.
macro_rules! origins {
    () => {
        r"o.id, o.principal, o.accepted_at, o.route, o.method, o.target, o.task,
                o.delivery, o.deadline_at, o.tags, o.client_reference, o.parent, o.retry_of,
                o.callback_receiver, o.callback_url, o.callback_events"
    };
}

/// Operations with their state, from whichever table has that. How the tables of those that have
/// not ended are joined, as `u`, `r` and `w`, each engine says: `places`.
macro_rules! operations {
    () => {
        concat!(
            r"SELECT o.seq, ",
            origins!(),
            r", coalesce(l.queue, 'unknown') AS queue, coalesce(l.upstream, 'unknown') AS upstream,
                CASE WHEN x.seq IS NOT NULL THEN x.state
                WHEN u.seq IS NOT NULL THEN 'running' WHEN r.seq IS NOT NULL
                OR w.delayed_until IS NOT NULL THEN 'queued' ELSE 'waiting' END AS status,
                    coalesce(x.attempts, u.attempts, r.attempts, w.attempts) AS attempts,
                    coalesce(x.resumes, u.resumes, r.resumes, w.resumes) AS resumes,
                    coalesce(x.rescues, u.rescues, r.rescues, w.rescues) AS rescues,
                    coalesce(x.refusals, u.refusals, r.refusals, w.refusals) AS refusals,
                    coalesce(x.contact, u.contact, r.contact, w.contact) AS contact,
                    coalesce(x.last_try, u.last_try, r.last_try, w.last_try) AS last_try,
                    coalesce(x.sequence, u.sequence, r.sequence, w.sequence) AS sequence,
                    coalesce(x.started_at, u.started_at, r.started_at,
                    w.started_at) AS started_at, coalesce(x.percent, u.percent, r.percent,
                    w.percent) AS percent, coalesce(x.message, u.message, r.message,
                    w.message) AS message, coalesce(r.due_at, w.due_at,
                    w.delayed_until) AS due, u.since, w.waiting_for, x.finished_at,
                    x.expires_at, x.freed_at, x.response_status, x.response_framing,
                    x.created_location, x.error_code, x.error_cause, x.error_status, (
                SELECT s.id
                FROM operations s
                WHERE s.retry_of = o.id
                ORDER BY s.seq DESC
                LIMIT 1
            ) AS retried_by, v.at AS verdict_at, v.happened AS verdict_happened,
                v.location AS verdict_location, v.note AS verdict_note
            FROM operations o
            LEFT JOIN lanes l ON l.lane = o.lane
            LEFT JOIN outcomes x ON x.seq = o.seq
            LEFT JOIN verdicts v ON v.seq = x.seq"
        )
    };
}

/// The columns of `operations` that say what was promised.
macro_rules! promises {
    () => {
        r"o.id, o.due_at, o.method, o.target, o.task, o.delivery, o.timeout_us,
                o.deadline_at, o.retry_attempts, o.retry_min_us, o.retry_max_us, o.wait_us,
                o.on_failure, o.recheck, o.success, o.retry_statuses, o.upstream_key,
                o.serial_digest, o.serial_key, o.callback_receiver, o.callback_url,
                o.callback_events"
    };
}

/// The columns of an event.
macro_rules! events {
    () => {
        r"e.seq, e.sequence, e.at, e.kind, e.attempt, e.status, e.code, e.next_at,
                e.percent, e.message"
    };
}

pub(crate) use {events, operations, origins, promises};

/// How delivery is stored.
pub(crate) const fn delivery_name(delivery: DeliveryGuarantee) -> &'static str {
    match delivery {
        DeliveryGuarantee::AtMostOnce => "at-most-once",
        DeliveryGuarantee::AtLeastOnce => "at-least-once",
    }
}

fn delivery(row: &impl ReadRow) -> Result<DeliveryGuarantee, LedgerError> {
    match text(row, "delivery")? {
        "at-most-once" => Ok(DeliveryGuarantee::AtMostOnce),
        "at-least-once" => Ok(DeliveryGuarantee::AtLeastOnce),
        other => Err(damaged(format!("unknown delivery {other}"))),
    }
}

fn policy(row: &impl ReadRow) -> Result<Policy, LedgerError> {
    Ok(Policy {
        delivery: delivery(row)?,
        timeout: micros(row, "timeout_us")?,
        deadline_at: time(row, "deadline_at")?,
        retry: RetryPolicy {
            attempts: number(row, "retry_attempts")?,
            min: micros(row, "retry_min_us")?,
            max: micros(row, "retry_max_us")?,
            statuses: statuses(row, "retry_statuses")?,
        },
        success: statuses(row, "success")?,
        wait: row.number("wait_us")?.map(|_| micros(row, "wait_us")).transpose()?,
        on_failure: on_failure(row)?,
        recheck: recheck(row)?,
    })
}

/// How a failure's policy is stored: the usual one is not.
pub(crate) fn on_failure_name(policy: &Policy) -> Option<&'static str> {
    (policy.on_failure != OnFailure::Skip).then(|| policy.on_failure.as_str())
}

fn on_failure(row: &impl ReadRow) -> Result<OnFailure, LedgerError> {
    let Some(name) = row.text("on_failure")? else { return Ok(OnFailure::Skip) };
    OnFailure::named(name).ok_or_else(|| damaged(format!("unknown policy {name}")))
}

fn statuses(row: &impl ReadRow, column: &str) -> Result<Option<Statuses>, LedgerError> {
    row.text(column)?.map(str::parse).transpose().map_err(damaged)
}

fn recheck(row: &impl ReadRow) -> Result<Option<Recheck>, LedgerError> {
    row.text("recheck")?.map(Recheck::of_target).transpose().map_err(damaged)
}

/// What a person found out, from the joined row of a reading.
fn verdict(row: &impl ReadRow, sealer: &Sealer) -> Result<Option<Verdict>, LedgerError> {
    let Some(at) = maybe_time(row, "verdict_at")? else { return Ok(None) };
    let place = SealContext::in_row(SealedValue::Verdict, number(row, "seq")?);
    Ok(Some(Verdict {
        happened: row.flag("verdict_happened")?,
        location: maybe_sealed(row, "verdict_location", place, sealer)?,
        note: maybe_sealed(row, "verdict_note", place, sealer)?,
        at,
    }))
}

/// A serial key in use.
pub(crate) fn key_name(row: &impl ReadRow) -> Result<SerialName, LedgerError> {
    let digest = exactly(row, "digest")?.ok_or_else(|| damaged("a key without a name"))?;
    Ok(SerialName(digest))
}

/// A serial key that an operation holds.
pub(crate) fn key_in_use(row: &impl ReadRow) -> Result<KeyInUse, LedgerError> {
    let by = maybe_id(row, "blocked_by")?;
    let blocked = by.zip(maybe_time(row, "blocked_at")?).map(|(by, since)| Blocked { by, since });
    Ok(KeyInUse {
        name: key_name(row)?,
        key: maybe_text(row, "key_text")?,
        upstream: maybe_text(row, "upstream")?,
        holder: maybe_id(row, "holder")?,
        waiting: number(row, "waiting")?,
        blocked,
    })
}

/// What it was accepted as; none once its request is gone.
pub(crate) fn promised(
    row: &impl ReadRow,
    sealer: &Sealer,
) -> Result<Option<Promised>, LedgerError> {
    let Some(work) = work(row, sealer)? else { return Ok(None) };
    let digest = exactly(row, "serial_digest")?;
    let key = maybe_text(row, "serial_key")?;
    Ok(Some(Promised {
        work,
        policy: policy(row)?,
        due_at: time(row, "due_at")?,
        upstream_key: upstream_key(row, sealer)?,
        serial_key: digest.zip(key).map(|(digest, text)| SerialKey { digest, text }),
        callback: crate::webhooks::rows::callback(row, sealer)?,
    }))
}

fn upstream_key(row: &impl ReadRow, sealer: &Sealer) -> Result<Option<String>, LedgerError> {
    let place = SealContext::of_operation(SealedValue::UpstreamKey, id(row, "id")?);
    maybe_sealed(row, "upstream_key", place, sealer)
}

/// The stored work; none once its request is gone.
fn work(row: &impl ReadRow, sealer: &Sealer) -> Result<Option<Work>, LedgerError> {
    if row.number("body_length")?.is_none() {
        return Ok(None);
    }
    let id = id(row, "id")?;
    let place = |what| SealContext::of_operation(what, id);
    if let Some(name) = maybe_text(row, "task")? {
        let arguments = sealed::octets(row, "body", place(SealedValue::Body), sealer)?.into();
        return Ok(Some(Work::Task { name, arguments }));
    }
    Ok(Some(Work::Call(Request {
        method: Method::from_bytes(text(row, "method")?.as_bytes()).map_err(damaged)?,
        target: sendable(sealed::target(row, sealer)?)?,
        fields: sealed::fields(row, "fields", place(SealedValue::Fields), sealer)?,
        credentials: sealed::fields(row, "credentials", place(SealedValue::Credentials), sealer)?,
        body: sealed::body(row, place(SealedValue::Body), sealer)?,
    })))
}

/// The latest form of a row of `operations` that is known here.
const FORM: i64 = 1;

/// What decides about the end of an operation whose request cannot be opened here.
pub(crate) struct Plain {
    pub(crate) id: OperationId,
    pub(crate) policy: Policy,
    pub(crate) accepted_at: Timestamp,
}

impl Plain {
    pub(crate) fn of(row: &impl ReadRow) -> Result<Self, LedgerError> {
        let (id, accepted_at) = (id(row, "id")?, time(row, "accepted_at")?);
        Ok(Self { id, policy: policy(row)?, accepted_at })
    }
}

/// What can be read of an operation that is damaged, and its id.
pub(crate) fn remains(
    row: &impl ReadRow,
    counts: Counts,
    ran: bool,
) -> (Option<OperationId>, ReadableParts) {
    let on_failure = on_failure(row).unwrap_or(OnFailure::Skip);
    (id(row, "id").ok(), ReadableParts { delivery: delivery(row).ok(), on_failure, counts, ran })
}

/// What an operation that is damaged may hold: a serial key, and so many octets of its queue's.
pub(crate) fn holdings(row: &impl ReadRow) -> (Option<[u8; 16]>, u64) {
    let serial = exactly(row, "serial_digest").ok().flatten();
    (serial, number(row, "octets").unwrap_or_default())
}

/// An operation that is handed out, from a row of operation, request and credentials.
pub(crate) fn leased(
    row: &impl ReadRow,
    lane: Lane,
    carried: &RunState,
    held: Held,
    continuation: Option<Continuation>,
    cancel_asked: bool,
    sealer: &Sealer,
) -> Result<Leased, LedgerError> {
    let form = number::<i64>(row, "form")?;
    if form > FORM {
        return Err(LedgerError::Later(format!("its row has form {form}")));
    }
    let (serial, octets) = (exactly(row, "serial_digest")?, number(row, "octets")?);
    Ok(Leased {
        lease: Lease { seq: number(row, "seq")?, token: carried.token, held, serial, octets },
        id: id(row, "id")?,
        route: Arc::from(text(row, "route")?),
        lane,
        work: work(row, sealer)?
            .ok_or_else(|| damaged("an unfinished operation has no request"))?,
        policy: policy(row)?,
        counts: carried.counts,
        upstream_key: upstream_key(row, sealer)?,
        accepted_at: time(row, "accepted_at")?,
        continuation,
        cancel_asked,
        client_reference: maybe_text(row, "client_reference")?,
    })
}

/// How far an operation is.
pub(crate) struct Standing {
    pub(crate) state: OperationState,
    pub(crate) counts: Counts,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) freed_at: Option<Timestamp>,
    pub(crate) percent: Option<u8>,
    pub(crate) message: Option<String>,
    pub(crate) response_status: Option<u16>,
    pub(crate) response_framing: Option<ResponseFraming>,
    pub(crate) created_location: Option<String>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) retried_by: Option<OperationId>,
    pub(crate) sequence: u32,
}

/// An operation as it stands, from the joined row of a reading.
pub(crate) fn operation(row: &impl ReadRow, sealer: &Sealer) -> Result<Operation, LedgerError> {
    let seq = number(row, "seq")?;
    let sealed = |column, what| maybe_sealed(row, column, SealContext::in_row(what, seq), sealer);
    let standing = Standing {
        state: state(row)?,
        counts: counts(row)?,
        started_at: maybe_time(row, "started_at")?,
        expires_at: maybe_time(row, "expires_at")?,
        freed_at: maybe_time(row, "freed_at")?,
        percent: maybe_number(row, "percent")?,
        message: sealed("message", SealedValue::Progress)?,
        response_status: maybe_number(row, "response_status")?,
        response_framing: framing(row)?,
        created_location: sealed("created_location", SealedValue::Created)?,
        verdict: verdict(row, sealer)?,
        retried_by: maybe_id(row, "retried_by")?,
        sequence: number(row, "sequence")?,
    };
    standing_at(row, text(row, "queue")?, text(row, "upstream")?, standing, sealer)
}

/// An operation from a row of what it was accepted as, with its queue, its upstream, and how
/// far it is.
pub(crate) fn standing_at(
    row: &impl ReadRow,
    queue: &str,
    upstream: &str,
    standing: Standing,
    sealer: &Sealer,
) -> Result<Operation, LedgerError> {
    let subject = match maybe_text(row, "task")? {
        Some(name) => Subject::Task(name),
        None => Subject::Call {
            method: text(row, "method")?.to_owned(),
            target: sealed::target(row, sealer)?,
        },
    };
    let tags = row.text("tags")?;
    let Standing { state, counts, started_at, expires_at, freed_at, percent, .. } = standing;
    Ok(Operation {
        id: id(row, "id")?,
        principal: Principal::named(octets(row, "principal")?),
        accepted_at: time(row, "accepted_at")?,
        route: text(row, "route")?.to_owned(),
        queue: queue.to_owned(),
        upstream: upstream.to_owned(),
        subject,
        delivery: delivery(row)?,
        deadline_at: time(row, "deadline_at")?,
        state,
        counts,
        started_at,
        expires_at,
        freed_at,
        percent,
        message: standing.message,
        response_status: standing.response_status,
        response_framing: standing.response_framing,
        created_location: standing.created_location,
        tags: tags
            .map(|tags| tags.split(TAG_SEPARATOR).map(str::to_owned).collect())
            .unwrap_or_default(),
        client_reference: maybe_text(row, "client_reference")?,
        parent: maybe_id(row, "parent")?,
        retry_of: maybe_id(row, "retry_of")?,
        retried_by: standing.retried_by,
        verdict: standing.verdict,
        sequence: standing.sequence,
    })
}

fn state(row: &impl ReadRow) -> Result<OperationState, LedgerError> {
    Ok(match text(row, "status")? {
        "queued" => OperationState::Queued { due_at: time(row, "due")? },
        "running" => OperationState::Running { since: time(row, "since")? },
        "waiting" => OperationState::Waiting {
            on: text(row, "waiting_for")?.parse::<WaitingFor>().map_err(damaged)?,
            due_at: maybe_time(row, "due")?,
        },
        "succeeded" => OperationState::Succeeded { at: time(row, "finished_at")? },
        "failed" => {
            OperationState::Failed { at: time(row, "finished_at")?, failure: failure(row)? }
        }
        "canceled" => OperationState::Canceled { at: time(row, "finished_at")? },
        other => return Err(damaged(format!("unknown state {other}"))),
    })
}

fn code(row: &impl ReadRow, column: &str) -> Result<Option<ErrorCode>, LedgerError> {
    row.text(column)?.map(|code| code.parse().map_err(damaged)).transpose()
}

fn failure(row: &impl ReadRow) -> Result<Failure, LedgerError> {
    Ok(Failure {
        code: code(row, "error_code")?.ok_or_else(|| damaged("a failure without a code"))?,
        cause: code(row, "error_cause")?,
        status: maybe_number(row, "error_status")?,
    })
}

fn framing(row: &impl ReadRow) -> Result<Option<ResponseFraming>, LedgerError> {
    row.text("response_framing")?.map(str::parse).transpose().map_err(damaged)
}

/// A recorded answer, from a row of outcome and result.
pub(crate) fn answer(row: &impl ReadRow, sealer: &Sealer) -> Result<KeptAnswer, LedgerError> {
    let seq = number(row, "seq")?;
    let place = |what| SealContext::in_row(what, seq);
    let body = sealed::body(row, place(SealedValue::AnswerBody), sealer)?;
    sealed::check_pieces(row, &body)?;
    Ok(KeptAnswer {
        status: maybe_number::<u16>(row, "response_status")?
            .ok_or_else(|| damaged("a result without a status"))?,
        fields: sealed::fields(row, "fields", place(SealedValue::AnswerFields), sealer)?,
        body,
        framing: framing(row)?,
        created_location: maybe_sealed(
            row,
            "created_location",
            place(SealedValue::Created),
            sealer,
        )?,
    })
}

/// One line of the timeline.
pub(crate) fn event(row: &impl ReadRow, sealer: &Sealer) -> Result<Event, LedgerError> {
    let place = SealContext::in_row(SealedValue::Progress, number(row, "seq")?);
    let kind = text(row, "kind")?;
    Ok(Event {
        sequence: number(row, "sequence")?,
        at: time(row, "at")?,
        kind: EventKind::named(kind).ok_or_else(|| damaged(format!("unknown event {kind}")))?,
        attempt: number(row, "attempt")?,
        status: maybe_number(row, "status")?,
        code: code(row, "code")?,
        next_at: maybe_time(row, "next_at")?,
        percent: maybe_number(row, "percent")?,
        message: maybe_sealed(row, "message", place, sealer)?,
    })
}

/// A request target, if it can be one: a path and perhaps a query, or `*`, without blanks or control
/// octets (RFC 9112, section 3.2).
fn sendable(target: String) -> Result<String, LedgerError> {
    let is_path = target.starts_with('/') || target == "*";
    match is_path && !target.contains(|c: char| c.is_ascii_control() || c == ' ') {
        true => Ok(target),
        false => Err(damaged("its request target is not a path")),
    }
}
