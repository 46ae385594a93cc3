//! What waits to be committed, and who commits it when.
//!
//! Owns the queues between those who write and the committers. Its invariant: each write
//! is taken once, and what is queued is taken as soon as that is worth a transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, mpsc};

use super::committer::Write;
use super::error::LedgerError;
use crate::clock::Clock;

/// Writes that wait for the committer; more make their callers wait.
const QUEUE: usize = 4096;
/// The most writes that go into one transaction.
pub(super) const BATCH_WRITES: usize = 256;
/// Acceptances, settlements, and everything else.
const KINDS: usize = 3;
/// So many writes go down beside what another committer is committing.
const WORTH_IT: usize = 64;
/// So long is a commit waited for by those that would go down together behind it.
const LONG: Duration = Duration::from_millis(20);

/// Takes writes in. Where several transactions may be open at once, each kind of write has
/// a queue of its own: what is alike goes down in one statement, and no kind waits for the
/// round trips of another.
#[derive(Clone)]
pub(super) struct Queue {
    acceptances: Entrance,
    settlements: Entrance,
    others: Entrance,
}

impl Queue {
    /// Queues a write; waits while the queue is full.
    pub(super) async fn send(&self, write: Write) -> Result<(), LedgerError> {
        self.of(&write).send(write).await
    }

    const fn of(&self, write: &Write) -> &Entrance {
        match write {
            Write::Accept(..) => &self.acceptances,
            Write::Settle(..) => &self.settlements,
            _ => &self.others,
        }
    }
}

/// Where writes of one queue come in.
#[derive(Clone)]
struct Entrance {
    sender: mpsc::Sender<Write>,
    word: Arc<Word>,
}

impl Entrance {
    async fn send(&self, write: Write) -> Result<(), LedgerError> {
        let gone = |_| LedgerError::Unavailable("the gateway is stopping".to_owned());
        self.sender.send(write).await.map_err(gone)?;
        // Only then: a committer that gathers is not woken for each write.
        if self.sender.max_capacity() - self.sender.capacity() >= WORTH_IT {
            self.word.may_go.notify_one();
        }
        Ok(())
    }
}

/// What committers of one queue, and those who write, tell each other.
#[derive(Default)]
struct Word {
    busy: AtomicUsize,
    may_go: Notify,
}

/// A queue for writes, and what each of that many committers takes from.
pub(super) fn queue(committers: usize) -> (Queue, Vec<Arc<Turns>>) {
    let (acceptances, first) = open();
    if committers < KINDS {
        let (settlements, others) = (acceptances.clone(), acceptances.clone());
        return (Queue { acceptances, settlements, others }, vec![first; committers.max(1)]);
    }
    let ((settlements, second), (others, third)) = (open(), open());
    let turns = [first, second, third].iter().cycle().take(committers).map(Arc::clone).collect();
    (Queue { acceptances, settlements, others }, turns)
}

fn open() -> (Entrance, Arc<Turns>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let word = Arc::<Word>::default();
    let turns = Turns { queue: Mutex::new(receiver), word: Arc::clone(&word) };
    (Entrance { sender, word }, Arc::new(turns))
}

/// What several committers take from in turn.
pub(super) struct Turns {
    queue: Mutex<mpsc::Receiver<Write>>,
    word: Arc<Word>,
}

impl Turns {
    /// Takes what is queued; 0 when the queue is closed and empty. While another committer
    /// is at it, more gathers meanwhile: many small groups cost the database more than few
    /// large ones. A group that is worth it goes beside the other, and so does one that the
    /// other keeps waiting.
    pub(super) async fn take(&self, clock: &Clock, batch: &mut Vec<Write>) -> usize {
        let mut queue = self.queue.lock().await;
        let mut waited = std::pin::pin!(clock.sleep(LONG));
        while queue.len() < WORTH_IT && self.word.busy.load(Ordering::SeqCst) > 0 {
            tokio::select! {
                biased;
                () = self.word.may_go.notified() => {}
                () = &mut waited => break,
            }
        }
        let taken = queue.recv_many(batch, BATCH_WRITES).await;
        if taken > 0 {
            self.word.busy.fetch_add(1, Ordering::SeqCst);
        }
        taken
    }

    /// What was taken is committed, or has failed.
    pub(super) fn committed(&self) {
        self.word.busy.fetch_sub(1, Ordering::SeqCst);
        self.word.may_go.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use tokio::sync::oneshot;

    use super::*;
    use crate::domain::Timestamp;
    use crate::ledger::permits::Leaving;

    fn nothing() -> Leaving {
        Leaving { counted: Vec::new(), emptied: Vec::new() }
    }

    fn leave(queue: &Queue) {
        let (tell, _) = oneshot::channel();
        let write = Write::Leave(Box::new(nothing()), Timestamp::EPOCH, tell);
        queue.send(write).now_or_never().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_group_gathers_while_another_one_is_committed_and_goes_when_that_is_done() {
        let clock = Clock::manual(Timestamp::EPOCH);
        let (queue, turns) = queue(2);
        let mut batch = Vec::new();
        leave(&queue);
        assert_eq!(turns[0].take(&clock, &mut batch).await, 1);
        let mut next = Vec::new();
        let mut taking = std::pin::pin!(turns[1].take(&clock, &mut next));
        leave(&queue);
        assert_eq!(taking.as_mut().now_or_never(), None);
        leave(&queue);
        assert_eq!(taking.as_mut().now_or_never(), None);
        turns[0].committed();
        assert_eq!(taking.await, 2);
    }

    #[tokio::test]
    async fn a_group_that_is_worth_it_goes_beside_another_one() {
        let clock = Clock::manual(Timestamp::EPOCH);
        let (queue, turns) = queue(2);
        leave(&queue);
        assert_eq!(turns[0].take(&clock, &mut Vec::new()).await, 1);
        let mut next = Vec::new();
        let mut taking = std::pin::pin!(turns[1].take(&clock, &mut next));
        assert_eq!(taking.as_mut().now_or_never(), None);
        (0..WORTH_IT).for_each(|_| leave(&queue));
        assert_eq!(taking.await, WORTH_IT);
    }

    #[tokio::test]
    async fn a_commit_that_takes_long_keeps_nobody_waiting() {
        let clock = Clock::manual(Timestamp::EPOCH);
        let (queue, turns) = queue(2);
        leave(&queue);
        assert_eq!(turns[0].take(&clock, &mut Vec::new()).await, 1);
        leave(&queue);
        let mut next = Vec::new();
        let mut taking = std::pin::pin!(turns[1].take(&clock, &mut next));
        assert_eq!(taking.as_mut().now_or_never(), None);
        clock.advance(LONG);
        assert_eq!(taking.await, 1);
    }

    #[test]
    fn each_kind_of_write_has_its_queue_where_there_are_committers_enough() {
        let (tell, _) = oneshot::channel();
        let leave = Write::Leave(Box::new(nothing()), Timestamp::EPOCH, tell);
        for (committers, alike) in [(1, true), (2, true), (3, false), (6, false)] {
            let (queue, turns) = queue(committers);
            assert_eq!(turns.len(), committers);
            let same = |one: &Entrance| one.sender.same_channel(&queue.acceptances.sender);
            assert_eq!((same(queue.of(&leave)), same(&queue.settlements)), (alike, alike));
        }
    }
}
