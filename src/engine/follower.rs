//! Following upstreams that answered 202 with a monitor of their own, and going on with
//! jobs of the gateway's that were put aside.
//!
//! Owns the asking of those monitors. Its invariant: asking is all that is done, so
//! whatever breaks here is asked again and nothing is sent twice. It must not know how
//! the monitor came to be.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::allowance::Allowance;
use super::answer::{self, Asking};
use super::beats::Loop;
use super::ending::{self, Ended};
use super::{Shared, jobs, outgoing};
use crate::domain::Timestamp;
use crate::domain::http::retry_after;
use crate::domain::operation::{Continuation, Outcome, Purpose, Request, Sent, Work};
use crate::ledger::{Leased, LedgerError};
use crate::upstream::{Asked, Monitor, Question, SentMarker};

/// How many monitors are asked at once.
const AT_ONCE: usize = 64;
/// How long a claimed operation is hidden from the next claim. Longer than asking and
/// reading take together.
const HIDDEN: Duration = Duration::from_mins(2);
/// How long a monitor may take to answer.
const ASKING: Duration = Duration::from_secs(30);
/// How long its answer may take to read, behind that.
const READING: Duration = Duration::from_mins(1);
/// How long trouble with a monitor has to last before the log tells of it.
const LASTING: Duration = Duration::from_mins(5);
/// How often somebody may be due while anybody waits.
const POLL: Duration = Duration::from_secs(1);
/// How often it is looked all the same while nobody is known to wait.
const IDLE_POLL: Duration = Duration::from_secs(10);

/// Follows until the tasks drain.
pub(super) async fn run(shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut seen_at = shared.clock.now();
    while !shared.tasks.is_draining() {
        let now = shared.clock.now();
        let mut full = false;
        match step(&shared, &room, now).await {
            Ok(step) => {
                shared.beats.beat(Loop::Follower, now);
                full = step.full;
                if full || step.claimed > 0 {
                    seen_at = now;
                }
            }
            Err(error) => tracing::warn!(%error, "nothing could be followed; trying again soon"),
        }
        tokio::select! {
            () = shared.tasks.draining() => return,
            () = shared.ledger.waits_came() => seen_at = shared.clock.now(),
            // More may be due than there was room for.
            _ = room.acquire(), if full => {}
            // From when it looked: what fell due meanwhile is not slept through.
            () = shared.clock.sleep_until(now + poll_interval(now, seen_at)) => {}
        }
    }
}

/// Whoever waits is due within the time for which a claim hides it, so after that long
/// without a sign of anybody nobody waits.
fn poll_interval(now: Timestamp, seen_at: Timestamp) -> Duration {
    if now.since(seen_at) > HIDDEN + IDLE_POLL { IDLE_POLL } else { POLL }
}

/// What a claim came to.
struct Step {
    claimed: usize,
    /// It brought as many as there was room for.
    full: bool,
}

/// Claims once what is due, and asks for each in a task of its own.
async fn step(
    shared: &Arc<Shared>,
    room: &Arc<Semaphore>,
    now: Timestamp,
) -> Result<Step, LedgerError> {
    let limit = room.available_permits();
    if limit == 0 {
        return Ok(Step { claimed: 0, full: true });
    }
    let claimed = shared.ledger.claim_waiting(limit, now, now + HIDDEN).await?;
    let count = claimed.len();
    for leased in claimed {
        let place = Arc::clone(room).try_acquire_owned().ok();
        shared.tasks.spawn(follow(Arc::clone(shared), leased, place));
    }
    Ok(Step { claimed: count, full: count >= limit })
}

async fn follow(shared: Arc<Shared>, leased: Leased, place: Option<OwnedSemaphorePermit>) {
    let ended = tokio::select! {
        biased;
        // Handed back: the next start asks again.
        () = shared.tasks.draining() => Ended::of(Outcome::StillPending { retry_after: None }),
        ended = ask(&shared, &leased) => ended,
    };
    ending::commit(&shared, &leased, ended).await;
    drop(place);
}

async fn ask(shared: &Shared, leased: &Leased) -> Ended {
    if leased.cancel_asked {
        return Ended::of(Outcome::Canceled { sent: Sent::Nothing });
    }
    if let Work::Task { name, arguments } = &leased.work
        && shared.can_do(leased)
    {
        return jobs::carry_on(shared, leased, name, arguments).await;
    }
    let (Work::Call(request), Some((upstream, max_response))) =
        (&leased.work, shared.upstream(&leased.lane.upstream))
    else {
        // Another node may know the upstream.
        return Ended::of(match shared.ledger.is_shared() {
            true => Outcome::StillPending { retry_after: None },
            false => Outcome::Unroutable,
        });
    };
    let saved = leased.continuation.as_ref().and_then(Continuation::as_monitor);
    let Some(monitor) = saved.and_then(|text| text.parse::<Monitor>().ok()) else {
        // Written by a later release, perhaps: that one can go on from it.
        return still_pending("what to go on from is not understood");
    };
    let (purpose, policy, public) =
        (&Purpose::of(&leased.work), &leased.policy, &shared.public(request));
    let asking = Asking { upstream, max_response, purpose, policy, public, follows: true };
    match ask_once(shared, asking, &monitor, leased, request).await {
        None => still_pending("the monitor did not answer in time"),
        Some(Asked::StillPending { retry_after, trouble, next }) => {
            let now = shared.clock.now();
            let retry_after = retry_after.and_then(|value| retry_after::parse(&value, now));
            complain(shared, leased, &monitor, trouble.as_deref());
            let outcome = match next {
                None => Outcome::StillPending { retry_after },
                Some(next) => {
                    let continuation = Continuation::monitor(next);
                    Outcome::Unfinished { continuation, retry_after }
                }
            };
            Ended { detail: trouble, ..Ended::of(outcome) }
        }
        Some(Asked::Finished { status, created, reply }) => {
            let mut time = Allowance::of(&shared.clock, READING);
            unbroken(answer::of_monitor(shared, asking, &mut time, status, created, *reply).await)
        }
    }
}

async fn ask_once(
    shared: &Shared,
    asking: Asking<'_>,
    monitor: &Monitor,
    leased: &Leased,
    request: &Request,
) -> Option<Asked> {
    let question = Question {
        fields: &outgoing::asking_fields(leased.id, request),
        marker: &SentMarker::new(),
        public: asking.public,
        prefix: &shared.settings.prefix,
        now: shared.clock.now(),
    };
    Box::pin(shared.clock.timeout(ASKING, asking.upstream.ask(monitor, question))).await.ok()
}

/// Tells of what keeps work from being seen to end, once that has lasted.
fn complain(shared: &Shared, leased: &Leased, monitor: &Monitor, trouble: Option<&str>) {
    let Some(trouble) = trouble else { return };
    let lasts = shared.clock.now().since(monitor.since) >= LASTING;
    if let Some(times) = lasts.then(|| shared.complaints.due(&shared.clock)).flatten() {
        tracing::warn!(
            operation = %leased.id,
            route = &*leased.route,
            upstream = &*leased.lane.upstream,
            times,
            "a monitor does not say how the work goes: {trouble}"
        );
    }
}

/// An answer of a monitor that broke off is asked for again.
fn unbroken(ended: Ended) -> Ended {
    match ended.outcome {
        Outcome::Broken { .. } | Outcome::Interrupted { .. } => {
            Ended { outcome: Outcome::StillPending { retry_after: None }, ..ended }
        }
        _ => ended,
    }
}

fn still_pending(why: &str) -> Ended {
    let outcome = Outcome::StillPending { retry_after: None };
    Ended { detail: Some(why.to_owned()), ..Ended::of(outcome) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::operation::ErrorCode;

    #[test]
    fn an_answer_that_breaks_off_is_asked_for_again() {
        let cause = ErrorCode::UpstreamProtocol;
        let broken = Ended::of(Outcome::Broken { sent: Sent::Perhaps, cause });
        assert_eq!(unbroken(broken).outcome, Outcome::StillPending { retry_after: None });
    }

    #[test]
    fn it_is_polled_every_second_until_nobody_can_be_waiting() {
        let seen_at = Timestamp::EPOCH;
        assert_eq!(poll_interval(seen_at + HIDDEN, seen_at), POLL);
        assert_eq!(poll_interval(seen_at + HIDDEN * 2, seen_at), IDLE_POLL);
    }
}
