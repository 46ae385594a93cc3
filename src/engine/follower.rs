//! The follower: polls the monitors that upstreams named in a 202, and resumes paused jobs.
//!
//! Its invariant: it only polls, so it may repeat whatever fails, and sends no request twice. It must
//! not know how the monitor came to be.

use std::sync::Arc;
use std::time::Duration;

use super::attempt_timeout::AttemptTimeout;
use super::loops::EngineLoop;
use super::monitor_slots::{MonitorSlot, MonitorSlots, PollOutcome};
use super::response::{self, ResponseContext};
use super::settle::{self, AttemptResult};
use super::{EngineContext, jobs, recheck, request};
use crate::upstream::{Monitor, MonitorAnswer, MonitorQuery, SentMarker};
use cloakroom_domain::Timestamp;
use cloakroom_domain::http::retry_after;
use cloakroom_domain::operation::{
    Continuation, ErrorCode, Lane, Outcome, Request, RequestPurpose, SendState, Work,
};
use cloakroom_ledger::{Leased, LedgerError, Want};

/// How long a claimed operation is hidden from the next claim. Longer than asking,
/// reading and a recheck take together.
const HIDDEN: Duration = Duration::from_mins(2);
/// How long a monitor may take to answer.
const ASKING: Duration = Duration::from_secs(30);
/// How long its answer may take to read, behind that.
const READING: Duration = Duration::from_mins(1);
/// How long a recheck may take behind those, where the end leaves open what the upstream did.
const RECHECKING: Duration = Duration::from_secs(25);
/// How long trouble with a monitor has to last before the log tells of it.
const LASTING: Duration = Duration::from_mins(5);
/// How often due monitors are claimed while operations wait.
const POLL: Duration = Duration::from_secs(1);
/// The same while no operation is known to wait.
const IDLE_POLL: Duration = Duration::from_secs(10);

/// Follows until the tasks drain.
pub(super) async fn run(engine: Arc<EngineContext>) {
    let slots = Arc::<MonitorSlots>::default();
    let mut seen_at = engine.clock.now();
    while !engine.tasks.is_draining() {
        let now = engine.clock.now();
        match step(&engine, &slots, now).await {
            Ok(claimed) => {
                engine.loop_health.succeeded(EngineLoop::Follower, now);
                if claimed > 0 || slots.is_some_full() {
                    seen_at = now;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "claiming waiting operations failed; trying again soon");
            }
        }
        tokio::select! {
            () = engine.tasks.draining() => return,
            () = engine.ledger.waits_came() => seen_at = engine.clock.now(),
            // More may be due than there were slots for.
            () = slots.freed() => {}
            // From when it looked: what fell due meanwhile is not slept through.
            () = engine.clock.sleep_until(now + poll_interval(now, seen_at)) => {}
        }
    }
}

/// A waiting operation becomes due within the time for which a claim hides it. So after that
/// long without one, none waits.
fn poll_interval(now: Timestamp, seen_at: Timestamp) -> Duration {
    if now.since(seen_at) > HIDDEN + IDLE_POLL { IDLE_POLL } else { POLL }
}

/// How often more is claimed at once where a lane had more than its part of the slots.
const ROUNDS: usize = 8;

/// Claims what is due and has a slot, and asks for each in a task of its own; how many.
async fn step(
    engine: &Arc<EngineContext>,
    slots: &Arc<MonitorSlots>,
    now: Timestamp,
) -> Result<usize, LedgerError> {
    let mut lanes = followed(engine);
    let mut claimed = 0;
    for _ in 0..ROUNDS {
        let wants = slots.wants(&lanes);
        if wants.is_empty() {
            break;
        }
        let leased = engine.ledger.claim_waiting(wants.clone(), now, now + HIDDEN).await?;
        claimed += leased.len();
        lanes = filled(&wants, &leased);
        for leased in leased {
            let slot = slots.take(&leased.lane.upstream);
            engine.tasks.spawn(follow(Arc::clone(engine), leased, slot));
        }
        if lanes.is_empty() {
            break;
        }
    }
    Ok(claimed)
}

/// All lanes in which something may wait for an upstream.
fn followed(engine: &EngineContext) -> Vec<Lane> {
    let known = engine.ledger.lanes().into_iter().map(|depth| depth.lane);
    let mut lanes: Vec<_> = known
        .flat_map(|lane| [false, true].map(|quarantine| Lane { quarantine, ..lane.clone() }))
        .collect();
    lanes.sort_unstable();
    lanes.dedup();
    lanes
}

/// The lanes that brought as many as were wanted: there may be more.
fn filled(wants: &[Want], leased: &[Leased]) -> Vec<Lane> {
    let of = |lane: &Lane| leased.iter().filter(|leased| leased.lane == *lane).count();
    let full = wants.iter().filter(|want| of(&want.lane) >= want.limit);
    full.map(|want| want.lane.clone()).collect()
}

async fn follow(engine: Arc<EngineContext>, leased: Leased, slot: MonitorSlot) {
    let ended = tokio::select! {
        biased;
        // Handed back: the next start asks again.
        () = engine.tasks.draining() => AttemptResult::of(Outcome::StillPending { retry_after: None }),
        ended = ask_or_end(&engine, &leased) => paused(&engine, &leased, &slot, ended),
    };
    settle::commit(&engine, &leased, ended).await;
    drop(slot);
}

/// The same end, with a longer pause the more often the monitor has not answered.
fn paused(
    engine: &EngineContext,
    leased: &Leased,
    slot: &MonitorSlot,
    ended: AttemptResult,
) -> AttemptResult {
    let silent = matches!(ended.outcome, Outcome::StillPending { retry_after: None });
    let heard = match silent && ended.detail.is_some() {
        true => PollOutcome::Silence,
        false => PollOutcome::Answer,
    };
    match slot.note(leased.id, heard, engine.clock.now()) {
        None => ended,
        pause => AttemptResult { outcome: Outcome::StillPending { retry_after: pause }, ..ended },
    }
}

/// Asks; where the deadline has passed and the work goes on, that is the end. The upstream is
/// asked first whether the request took effect, where the route says how.
async fn ask_or_end(engine: &EngineContext, leased: &Leased) -> AttemptResult {
    let ended = ask(engine, leased).await;
    let goes_on =
        matches!(ended.outcome, Outcome::StillPending { .. } | Outcome::Unfinished { .. });
    if !goes_on || engine.clock.now() < leased.policy.deadline_at {
        return ended;
    }
    let outcome = match &leased.work {
        Work::Call(_) => Outcome::NoEnd { cause: ErrorCode::DeadlineExceeded },
        Work::Task { .. } => Outcome::Expired,
    };
    let ended = AttemptResult { outcome, ..ended };
    recheck::before_a_monitor_ends_it(engine, leased, ended, RECHECKING).await
}

async fn ask(engine: &EngineContext, leased: &Leased) -> AttemptResult {
    if leased.cancel_asked {
        return AttemptResult::of(Outcome::Canceled { sent: SendState::Nothing });
    }
    if let Work::Task { name, arguments } = &leased.work
        && engine.can_do(leased)
    {
        return jobs::run_job(engine, leased, name, arguments).await;
    }
    let (Work::Call(request), Some((upstream, max_response))) =
        (&leased.work, engine.upstream(&leased.lane.upstream))
    else {
        // Another node may know the upstream, and another release the task.
        let is_task = matches!(leased.work, Work::Task { .. });
        return AttemptResult::of(match is_task || engine.ledger.is_shared() {
            true => Outcome::StillPending { retry_after: None },
            false => Outcome::NoEnd { cause: ErrorCode::RouteRemoved },
        });
    };
    let saved = leased.continuation.as_ref().and_then(Continuation::as_monitor);
    let Some(monitor) = saved.and_then(|text| text.parse::<Monitor>().ok()) else {
        // Written by a later release, perhaps: that one can go on from it.
        return still_pending("the stored monitor cannot be read by this release");
    };
    let (purpose, policy, public) =
        (&RequestPurpose::of(&leased.work), &leased.policy, &engine.public(upstream, request));
    let context =
        ResponseContext { upstream, max_response, purpose, policy, public, follows: true };
    match ask_once(engine, context, &monitor, leased, request).await {
        None => still_pending("the monitor did not answer in time"),
        Some(MonitorAnswer::StillPending { retry_after, trouble, next }) => {
            let now = engine.clock.now();
            let retry_after = retry_after.and_then(|value| retry_after::parse(&value, now));
            complain(engine, leased, &monitor, trouble.as_deref());
            let outcome = match next {
                None => Outcome::StillPending { retry_after },
                Some(next) => {
                    let continuation = Continuation::monitor(next);
                    Outcome::Unfinished { continuation, retry_after }
                }
            };
            AttemptResult { detail: trouble, ..AttemptResult::of(outcome) }
        }
        Some(MonitorAnswer::Finished { status, created, reply }) => {
            let mut time = AttemptTimeout::of(&engine.clock, READING);
            let ended =
                response::of_monitor(engine, context, &mut time, status, created, *reply).await;
            recheck::before_a_monitor_ends_it(engine, leased, unbroken(ended), RECHECKING).await
        }
    }
}

async fn ask_once(
    engine: &EngineContext,
    context: ResponseContext<'_>,
    monitor: &Monitor,
    leased: &Leased,
    request: &Request,
) -> Option<MonitorAnswer> {
    let question = MonitorQuery {
        fields: &request::monitor_fields(leased.id, request),
        marker: &SentMarker::new(),
        public: context.public,
        prefix: &engine.settings.prefix,
        now: engine.clock.now(),
    };
    Box::pin(engine.clock.timeout(ASKING, context.upstream.ask(monitor, question))).await.ok()
}

/// Tells of what keeps work from being seen to end, once that has lasted.
fn complain(engine: &EngineContext, leased: &Leased, monitor: &Monitor, trouble: Option<&str>) {
    let Some(trouble) = trouble else { return };
    let lasts = engine.clock.now().since(monitor.since) >= LASTING;
    if let Some(times) = lasts.then(|| engine.monitor_warnings.due(&engine.clock)).flatten() {
        tracing::warn!(
            operation = %leased.id,
            route = &*leased.route,
            upstream = &*leased.lane.upstream,
            times,
            "a monitor does not report its operation's status: {trouble}"
        );
    }
}

/// An answer of a monitor that broke off is asked for again.
fn unbroken(ended: AttemptResult) -> AttemptResult {
    match ended.outcome {
        Outcome::Broken { .. } | Outcome::Unreadable { .. } | Outcome::Interrupted { .. } => {
            AttemptResult { outcome: Outcome::StillPending { retry_after: None }, ..ended }
        }
        _ => ended,
    }
}

fn still_pending(why: &str) -> AttemptResult {
    let outcome = Outcome::StillPending { retry_after: None };
    AttemptResult { detail: Some(why.to_owned()), ..AttemptResult::of(outcome) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_breaks_off_is_asked_for_again() {
        let cause = ErrorCode::UpstreamProtocol;
        let broken = AttemptResult::of(Outcome::Broken { sent: SendState::Perhaps, cause });
        assert_eq!(unbroken(broken).outcome, Outcome::StillPending { retry_after: None });
    }

    #[test]
    fn it_is_polled_every_second_until_nobody_can_be_waiting() {
        let seen_at = Timestamp::EPOCH;
        assert_eq!(poll_interval(seen_at + HIDDEN, seen_at), POLL);
        assert_eq!(poll_interval(seen_at + HIDDEN * 2, seen_at), IDLE_POLL);
    }
}
