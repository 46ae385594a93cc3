//! The queue of writes that wait to be committed, and its committers.
//!
//! Owns the queues between those who write and the committers. Its invariant: each write
//! is taken once, and what is queued is taken as soon as that is worth a transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, mpsc};

use crate::commit::committer::Write;
use crate::error::LedgerError;
use cloakroom_runtime::clock::Clock;

/// Writes that wait for the committer; more make their callers wait.
const QUEUE: usize = 4096;
/// The most writes that go into one transaction.
pub(crate) const BATCH_WRITES: usize = 256;
/// How many classes of writes there are.
const CLASSES: usize = 6;
/// So many writes go down beside what another committer is committing.
const WORTH_IT: usize = 64;
/// So long is a commit waited for by those that would go down together behind it.
const LONG: Duration = Duration::from_millis(20);

/// What a write is for, in the order of its urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// That this node is alive, and its part of shared limits.
    Liveness,
    /// What is handed out.
    Claims,
    Acceptances,
    Settlements,
    /// What clients and operators ask for otherwise.
    Others,
    /// What can wait, and may take long.
    Maintenance,
}

impl Class {
    fn of(write: &Write) -> Self {
        match write {
            Write::Accept(..) => Self::Acceptances,
            Write::Settle(..) => Self::Settlements,
            Write::Verb(verb) => verb.class(),
        }
    }
}

/// Takes writes in. Where enough transactions may be open at once, each class of writes has a
/// queue of its own: what is alike goes down in one statement, and no class waits for the round
/// trips of another or fails with it. Where classes share a queue, the urgent ones go first.
#[derive(Clone)]
pub(crate) struct WriteQueue([WriteSender; CLASSES]);

impl WriteQueue {
    /// Queues a write; waits while the queue is full.
    pub(crate) async fn send(&self, write: Write) -> Result<(), LedgerError> {
        self.of(&write).send(write).await
    }

    fn of(&self, write: &Write) -> &WriteSender {
        &self.0[Class::of(write) as usize]
    }
}

/// Where writes of one queue come in.
#[derive(Clone)]
struct WriteSender {
    sender: mpsc::Sender<Write>,
    word: Arc<QueueSignals>,
    /// It goes before what comes in otherwise.
    urgent: bool,
}

impl WriteSender {
    async fn send(&self, write: Write) -> Result<(), LedgerError> {
        let gone = |_| LedgerError::Unavailable("the gateway is stopping".to_owned());
        self.sender.send(write).await.map_err(gone)?;
        // Only then: a committer that gathers is not woken for each write.
        if self.urgent || self.sender.max_capacity() - self.sender.capacity() >= WORTH_IT {
            self.word.may_go.notify_one();
        }
        Ok(())
    }
}

/// What committers of one queue, and those who write, tell each other.
#[derive(Default)]
struct QueueSignals {
    busy: AtomicUsize,
    may_go: Notify,
}

/// A queue for writes, and what each of that many committers takes from.
pub(crate) fn queue(committers: usize) -> (WriteQueue, Vec<Arc<WriteReceiver>>) {
    if committers < CLASSES {
        return shared(committers);
    }
    let (entrances, turns): (Vec<_>, Vec<_>) = (0..CLASSES)
        .map(|_| {
            let (_, entrance, turns) = open();
            (entrance, turns)
        })
        .unzip();
    // Further ones help with what most writes are for.
    let helped = [Class::Acceptances, Class::Settlements, Class::Others];
    let helpers: Vec<_> = helped.iter().cycle().take(committers - CLASSES).collect();
    let helpers = helpers.into_iter().map(|class| Arc::clone(&turns[*class as usize]));
    let helpers: Vec<_> = helpers.collect();
    let entrances = std::array::from_fn(|class| entrances[class].clone());
    (WriteQueue(entrances), turns.into_iter().chain(helpers).collect())
}

/// The same for few committers: one for liveness if there are two, and one queue for the rest.
fn shared(committers: usize) -> (WriteQueue, Vec<Arc<WriteReceiver>>) {
    let (urgent, others, turns) = open();
    let rest = committers.saturating_sub(1).max(1);
    let mut all = vec![turns; rest];
    let liveness = match committers {
        0 | 1 => urgent.clone(),
        _ => {
            let (_, entrance, turns) = open();
            all.push(turns);
            entrance
        }
    };
    let entrances = std::array::from_fn(|class| match class {
        _ if class == Class::Liveness as usize => liveness.clone(),
        _ if class == Class::Claims as usize => urgent.clone(),
        _ => others.clone(),
    });
    (WriteQueue(entrances), all)
}

/// The entrances of one queue, the urgent one first, and what is taken from.
fn open() -> (WriteSender, WriteSender, Arc<WriteReceiver>) {
    let ((urgent, first), (sender, then)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
    let word = Arc::<QueueSignals>::default();
    let waiting = QueuedWrites { urgent: first, others: then };
    let turns = WriteReceiver { queue: Mutex::new(waiting), word: Arc::clone(&word) };
    let urgent = WriteSender { sender: urgent, word: Arc::clone(&word), urgent: true };
    (urgent, WriteSender { sender, word, urgent: false }, Arc::new(turns))
}

/// What is queued.
struct QueuedWrites {
    urgent: mpsc::Receiver<Write>,
    others: mpsc::Receiver<Write>,
}

impl QueuedWrites {
    /// Whether it is to be taken though another committer is at work.
    fn is_worth_it(&self) -> bool {
        !self.urgent.is_empty() || self.others.len() >= WORTH_IT
    }

    /// Takes what is there, the urgent first; waits for the first of it. Nothing comes any more
    /// if that is nothing.
    async fn take(&mut self, batch: &mut Vec<Write>) {
        let first = tokio::select! {
            biased;
            Some(write) = self.urgent.recv() => Some(write),
            Some(write) = self.others.recv() => Some(write),
            else => None,
        };
        batch.extend(first);
        while !batch.is_empty() && batch.len() < BATCH_WRITES {
            let next = self.urgent.try_recv().or_else(|_| self.others.try_recv());
            match next {
                Ok(write) => batch.push(write),
                Err(_) => break,
            }
        }
    }
}

/// What several committers take from in turn.
pub(crate) struct WriteReceiver {
    queue: Mutex<QueuedWrites>,
    word: Arc<QueueSignals>,
}

impl WriteReceiver {
    /// Takes what is queued; 0 when the queue is closed and empty. While another committer
    /// is at it, more gathers meanwhile: many small groups cost the database more than few
    /// large ones. A group that is worth it goes beside the other, and so does one that the
    /// other keeps waiting.
    pub(crate) async fn take(&self, clock: &Clock, batch: &mut Vec<Write>) -> usize {
        let mut queue = self.queue.lock().await;
        let mut waited = std::pin::pin!(clock.sleep(LONG));
        while !queue.is_worth_it() && self.word.busy.load(Ordering::SeqCst) > 0 {
            tokio::select! {
                biased;
                () = self.word.may_go.notified() => {}
                () = &mut waited => break,
            }
        }
        queue.take(batch).await;
        if !batch.is_empty() {
            self.word.busy.fetch_add(1, Ordering::SeqCst);
        }
        batch.len()
    }

    /// What was taken is committed, or has failed.
    pub(crate) fn committed(&self) {
        self.word.busy.fetch_sub(1, Ordering::SeqCst);
        self.word.may_go.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use tokio::sync::oneshot;

    use super::*;
    use crate::cluster::Leave;
    use crate::cluster::limits::shares::Leaving;
    use crate::commit::verb::pending;
    use crate::operations::{Claim, DiscardBody, Prune};
    use cloakroom_domain::Timestamp;

    fn nothing() -> Leaving {
        Leaving { counted: Vec::new(), emptied: Vec::new() }
    }

    /// Queues a write that is not urgent.
    fn send(queue: &WriteQueue) {
        queue.send(discard()).now_or_never().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_group_gathers_while_another_one_is_committed_and_goes_when_that_is_done() {
        let clock = Clock::manual(Timestamp::EPOCH);
        let (queue, turns) = queue(3);
        let mut batch = Vec::new();
        send(&queue);
        assert_eq!(turns[0].take(&clock, &mut batch).await, 1);
        let mut next = Vec::new();
        let mut taking = std::pin::pin!(turns[1].take(&clock, &mut next));
        send(&queue);
        assert_eq!(taking.as_mut().now_or_never(), None);
        send(&queue);
        assert_eq!(taking.as_mut().now_or_never(), None);
        turns[0].committed();
        assert_eq!(taking.await, 2);
    }

    #[tokio::test]
    async fn a_group_that_is_worth_it_goes_beside_another_one() {
        let clock = Clock::manual(Timestamp::EPOCH);
        let (queue, turns) = queue(3);
        send(&queue);
        assert_eq!(turns[0].take(&clock, &mut Vec::new()).await, 1);
        let mut next = Vec::new();
        let mut taking = std::pin::pin!(turns[1].take(&clock, &mut next));
        assert_eq!(taking.as_mut().now_or_never(), None);
        (0..WORTH_IT).for_each(|_| send(&queue));
        assert_eq!(taking.await, WORTH_IT);
    }

    #[tokio::test]
    async fn a_commit_that_takes_long_keeps_nobody_waiting() {
        let clock = Clock::manual(Timestamp::EPOCH);
        let (queue, turns) = queue(3);
        send(&queue);
        assert_eq!(turns[0].take(&clock, &mut Vec::new()).await, 1);
        send(&queue);
        let mut next = Vec::new();
        let mut taking = std::pin::pin!(turns[1].take(&clock, &mut next));
        assert_eq!(taking.as_mut().now_or_never(), None);
        clock.advance(LONG);
        assert_eq!(taking.await, 1);
    }

    fn beat() -> Write {
        Write::Verb(pending(
            Leave { leaving: nothing(), now: Timestamp::EPOCH },
            oneshot::channel().0,
        ))
    }

    fn claim() -> Write {
        let claim = Claim { wants: Vec::new(), now: Timestamp::EPOCH };
        Write::Verb(pending(claim, oneshot::channel().0))
    }

    fn discard() -> Write {
        let body = cloakroom_domain::operation::BodyKey(1);
        Write::Verb(pending(DiscardBody { body }, oneshot::channel().0))
    }

    fn prune() -> Write {
        let portion = cloakroom_domain::pruning::Portion::default();
        Write::Verb(pending(Prune { portion, now: Timestamp::EPOCH }, oneshot::channel().0))
    }

    #[test]
    fn liveness_has_a_queue_of_its_own_from_two_committers_and_every_class_from_six() {
        for (committers, queues) in [(1, 2), (2, 3), (5, 3), (6, 6), (8, 6)] {
            let (queue, turns) = queue(committers);
            assert_eq!(turns.len(), committers);
            let writes = [beat(), claim(), discard(), prune()];
            let senders = writes.map(|write| queue.of(&write).sender.clone());
            let mut distinct: Vec<&mpsc::Sender<Write>> = Vec::new();
            for entrance in &queue.0 {
                if !distinct.iter().any(|other| other.same_channel(&entrance.sender)) {
                    distinct.push(&entrance.sender);
                }
            }
            assert_eq!(distinct.len(), queues, "{committers}");
            assert_eq!(senders[0].same_channel(&senders[1]), committers == 1);
            assert!(!senders[0].same_channel(&senders[2]));
        }
    }

    #[tokio::test]
    async fn what_is_urgent_goes_before_all_that_came_before_it() {
        let clock = Clock::manual(Timestamp::EPOCH);
        let (queue, turns) = queue(1);
        for _ in 0..2 * BATCH_WRITES {
            queue.send(discard()).await.unwrap();
        }
        queue.send(claim()).await.unwrap();
        queue.send(beat()).await.unwrap();
        let mut batch = Vec::new();
        assert_eq!(turns[0].take(&clock, &mut batch).await, BATCH_WRITES);
        let first: Vec<_> = batch.iter().take(3).map(Class::of).collect();
        assert_eq!(first, [Class::Claims, Class::Liveness, Class::Others]);
    }
}
