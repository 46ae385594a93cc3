//! The poller: reads the changes of other nodes, which are lanes that they filled, watched operations
//! that they moved, and running operations that they called off.
//!
//! Owns the pace: often after something was new, seldom when nothing is, and never so
//! often that looking costs more than a tenth of the time. Looking is the truth; hints
//! only hurry it. The clock is the real one, because the other nodes are.

use std::time::Duration;

use tokio::sync::Notify;

use crate::error::LedgerError;
use crate::model::Hint;
use crate::operations::{cancel, pause, read};
use crate::state::Shared;
use crate::store::on_store;
use crate::webhooks::publish;
use cloakroom_runtime::clock::Clock;

/// How soon there is another look after something was new.
const SOON: Duration = Duration::from_millis(20);
/// The longest between two looks at the lanes.
const LANES_IDLE: Duration = Duration::from_secs(1);
/// The longest between two looks at what is watched.
const WATCHED_IDLE: Duration = Duration::from_millis(250);
/// The most operations in one look.
const GROUP: usize = 500;
/// A look may take one part in so many of the time.
const SHARE: u32 = 10;

/// Looks and listens until dropped.
pub(crate) async fn run(shared: &Shared) {
    let clock = Clock::system();
    let (hurry, subscribed) = (Notify::new(), Notify::new());
    tokio::join!(
        lanes(shared, &clock, &hurry),
        watched(shared, &clock),
        called_off(shared, &clock),
        paused(shared, &clock),
        made(shared, &clock, &hurry),
        receivers(shared, &clock, &subscribed),
        hear(shared, &hurry, &subscribed),
        shared.hints.run(&shared.store, &clock),
    );
}

/// How long until the next look.
#[derive(Clone, Copy, Debug)]
struct PollingPace {
    pause: Duration,
    longest: Duration,
}

impl PollingPace {
    fn new(longest: Duration) -> Self {
        Self { pause: SOON, longest }
    }

    /// After a look that took so long.
    fn after(&mut self, news: bool, took: Duration) -> Duration {
        self.pause = if news { SOON } else { (self.pause * 3 / 2).min(self.longest) };
        self.pause.max(took * SHARE)
    }
}

/// How long a look took that began then. Ledger time may step meanwhile, and a pause that followed from
/// it would be as long as the step.
fn took(clock: &Clock, begun: Duration) -> Duration {
    clock.elapsed().saturating_sub(begun)
}

/// Keeps the lanes that this node knows up to date.
async fn lanes(shared: &Shared, clock: &Clock, hurry: &Notify) {
    let mut pace = PollingPace::new(LANES_IDLE);
    loop {
        let begun = clock.elapsed();
        let news = told(look_at_lanes(shared).await).unwrap_or(false);
        if news {
            shared.work.notify_one();
        }
        let pause = pace.after(news, took(clock, begun));
        tokio::select! {
            () = clock.sleep(pause) => {}
            () = hurry.notified() => pace = PollingPace::new(LANES_IDLE),
        }
    }
}

async fn look_at_lanes(shared: &Shared) -> Result<bool, LedgerError> {
    let (since, lanes) = (shared.lanes.moment(), shared.lanes.all());
    if lanes.is_empty() {
        return Ok(false);
    }
    let heads = read::oldest_due(&shared.store, &lanes).await?;
    let mut news = false;
    for (lane, head) in lanes.iter().zip(heads) {
        news |= shared.lanes.looked(lane, head, since);
    }
    Ok(news)
}

/// Wakes callers that wait here for changes made on other nodes.
async fn watched(shared: &Shared, clock: &Clock) {
    let mut pace = PollingPace::new(WATCHED_IDLE);
    loop {
        let ids = shared.waiters.ids();
        if ids.is_empty() {
            shared.waiters.came().await;
            pace = PollingPace::new(WATCHED_IDLE);
            continue;
        }
        let (begun, mut news) = (clock.elapsed(), false);
        for group in ids.chunks(GROUP) {
            let seen = told(read::sequences(&shared.store, group).await).unwrap_or_default();
            for (id, sequence) in seen {
                news |= shared.waiters.looked(id, sequence);
            }
        }
        clock.sleep(pace.after(news, took(clock, begun))).await;
    }
}

/// Tells the engine what is called off elsewhere and runs here; again and again, until
/// it has ended.
async fn called_off(shared: &Shared, clock: &Clock) {
    loop {
        let begun = clock.elapsed();
        for id in told(cancel::called_off(&shared.store).await).unwrap_or_default() {
            shared.call_off(id);
        }
        clock.sleep(LANES_IDLE.max(took(clock, begun) * SHARE * 10)).await;
    }
}

/// Sees which queues others have paused or resumed.
async fn paused(shared: &Shared, clock: &Clock) {
    loop {
        clock.sleep(LANES_IDLE).await;
        if let Some(queues) = told(on_store!(&shared.store, reader => pause::paused(reader).await))
            && shared.paused.replace(queues)
        {
            shared.work.notify_one();
        }
    }
}

/// Sees which lanes others have made: their queues may be new to this node.
async fn made(shared: &Shared, clock: &Clock, hurry: &Notify) {
    loop {
        clock.sleep(LANES_IDLE).await;
        let lanes = told(shared.store.learn_lanes().await).unwrap_or_default();
        if shared.lanes.learn(lanes) {
            hurry.notify_one();
        }
    }
}

/// Sees how receivers were changed elsewhere: what this node sends to one, and signs it with,
/// is no older than this.
async fn receivers(shared: &Shared, clock: &Clock, hurry: &Notify) {
    loop {
        tokio::select! {
            () = hurry.notified() => {}
            () = clock.sleep(LANES_IDLE) => {}
        }
        told(on_store!(&shared.store, reader => publish::look(reader).await));
    }
}

/// Takes in what other nodes tell.
async fn hear(shared: &Shared, hurry: &Notify, subscribed: &Notify) {
    loop {
        let hint = shared.store.hear().await;
        let Hint { lanes, changed, called_off, permits, receivers, receivers_changed } = hint;
        if !lanes.is_empty() {
            hurry.notify_one();
        }
        if permits {
            shared.stirred.notify_one();
        }
        if receivers_changed {
            subscribed.notify_one();
        }
        shared.due_elsewhere(receivers);
        shared.waiters.changed(changed);
        called_off.into_iter().for_each(|id| shared.call_off(id));
    }
}

/// What was found, or nothing: while the database is away, the writers complain.
fn told<T>(found: Result<T, LedgerError>) -> Option<T> {
    found.inspect_err(|error| tracing::debug!(%error, "could not look")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_grow_rare_while_nothing_is_new_and_never_cost_much() {
        let mut pace = PollingPace::new(LANES_IDLE);
        assert!(pace.after(false, Duration::ZERO) > SOON);
        for _ in 0..20 {
            pace.after(false, Duration::ZERO);
        }
        assert_eq!(pace.after(false, Duration::ZERO), LANES_IDLE);
        assert_eq!(pace.after(true, Duration::ZERO), SOON);
        assert_eq!(pace.after(true, Duration::from_secs(1)), Duration::from_secs(10));
    }
}
