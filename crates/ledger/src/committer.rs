//! The group commit: writes queue up while the previous commit is in flight and go down
//! together in one transaction, each caller told of its own fate.
//!
//! Owns the order *reserve, write, commit, tell*. Nobody is told of anything before it
//! is durable, and nothing waits for a timer: an idle ledger commits a lone write at once.
//! What the next group depends on follows a commit at once; callers are told beside it,
//! while the next group is already on its way.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use super::answers::answer;
use super::error::{LedgerError, StaleLease};
use super::fleet::{Beaten, Counted, Dead, LeaseKey, Vitals};
use super::handoff::Reservation;
use super::lanes::Moment;
use super::permits::{Asking, Divided, Leaving};
use super::reconcile::{Step, Stepped, Sweep, Swept};
use super::recount::Recount;
use super::shared::Shared;
use super::store::Transaction;
use super::turns::{BATCH_WRITES, Turns};
use super::verbs::{
    AcceptVerdict, Acceptance, Accepted, Canceled, Claimed, Freeing, Held, Judged, Lease, Leased,
    Moved, Pausing, Piece, Placed, ProgressReport, Progressed, Pruned, SerialName, SettledAs,
    Settlement, Unblocked, Want,
};
use super::webhooks::Errand;
use super::webhooks::announce::Announcement;
use cloakroom_domain::operation::{
    Body, BodyKey, Counts, Lane, NewOperation, Status, Verdict, Work,
};
use cloakroom_domain::pruning::{MOST_OCTETS, Portion};
use cloakroom_domain::{OperationId, Timestamp};

/// Committed groups whose callers have not been told; more make the committer wait.
const UNTOLD: usize = 16;
/// About how many octets of bodies go into one transaction.
const BATCH_OCTETS: u64 = 4 * 1024 * 1024;
/// How often a batch is tried again that stood in another's way.
const TRIES: usize = 8;

/// Where the fate of a write is told.
pub(super) type Tell<T> = oneshot::Sender<Result<T, LedgerError>>;

/// A write that waits for its turn.
#[derive(Debug)]
pub(super) enum Write {
    Accept(Box<Acceptance>, Tell<Accepted>),
    Settle(Box<Settlement>, Tell<Result<Status, StaleLease>>),
    Claim(Vec<Want>, Timestamp, Tell<Vec<Claimed>>),
    ClaimWaiting {
        wants: Vec<Want>,
        now: Timestamp,
        visible_again: Timestamp,
        tell: Tell<Vec<Leased>>,
    },
    ClaimOverdue {
        limit: usize,
        now: Timestamp,
        visible_again: Timestamp,
        tell: Tell<Vec<Leased>>,
    },
    ReleaseDelayed {
        limit: usize,
        now: Timestamp,
        tell: Tell<usize>,
    },
    ClaimOrphans {
        dead: Vec<Dead>,
        limit: usize,
        now: Timestamp,
        tell: Tell<Vec<Leased>>,
    },
    ClaimExpired {
        lane: Lane,
        seqs: Vec<i64>,
        now: Timestamp,
        tell: Tell<Vec<Leased>>,
    },
    Reclaim {
        lost: Vec<LeaseKey>,
        begun: bool,
        now: Timestamp,
        tell: Tell<Vec<Leased>>,
    },
    Beat(Box<Beat>, Timestamp, Tell<Beaten>),
    Leave(Box<Leaving>, Timestamp, Tell<()>),
    Divide(Box<Asking>, Timestamp, Tell<Vec<Divided>>),
    Cancel(OperationId, Freeing, Timestamp, Tell<Canceled>),
    Free(OperationId, Timestamp, Tell<bool>),
    Progress(ProgressReport, Tell<Progressed>),
    Pause(Pausing, Tell<bool>),
    Stash(Vec<Piece>, Timestamp, Tell<()>),
    Discard(BodyKey, Tell<()>),
    Prune(Portion, Timestamp, Tell<Pruned>),
    Unblock(SerialName, Timestamp, Tell<Unblocked>),
    Judge(OperationId, Verdict, Tell<Judged>),
    Reconcile(Step, Tell<Stepped>),
    Recount(Box<Recount>, Tell<()>),
    Sweep(Box<Sweep>, Tell<Swept>),
    /// A verb of webhooks.
    Errand(Box<dyn Errand>),
}

/// A new operation may go ahead of one that has been due for less than this. Otherwise
/// each claim would last long enough for others to come to be due, which another claim would
/// be for: once a lane had fallen behind, nothing in it would ever be handed off again. Whoever
/// carries operations out may refuse that.
const OVERTAKES: Duration = Duration::from_millis(50);

/// What a node tells of itself.
#[derive(Debug)]
pub(super) struct Beat {
    pub(super) vitals: Vitals,
    pub(super) counted: Vec<Counted>,
}

impl Write {
    /// Whether it gets a transaction of its own, before the others: what it locks, all nodes want,
    /// or it changes what others in its transaction go by. A single statement does not change that; where
    /// others write too, it is better off by itself all the same.
    fn is_apart(&self, is_shared: bool) -> bool {
        match self {
            Self::Divide(..) => true,
            // A statement that fails takes its whole transaction with it.
            Self::Beat(..) | Self::Leave(..) => is_shared,
            Self::Errand(errand) => is_shared || !errand.is_single(),
            _ => false,
        }
    }

    /// Whether it gets a transaction of its own, behind the others: it is long and may fail, and no
    /// other write is to wait for it or to fail with it.
    const fn is_maintenance(&self) -> bool {
        matches!(
            self,
            Self::Prune(..)
                | Self::Reconcile(..)
                | Self::Recount(..)
                | Self::Sweep(..)
                | Self::ReleaseDelayed { .. }
        )
    }

    fn octets(&self) -> u64 {
        match self {
            Self::Accept(acceptance, _) => match &acceptance.operation.work {
                Work::Call(request) => inline_octets(&request.body),
                Work::Task { arguments, .. } => arguments.len() as u64,
            },
            Self::Settle(settlement, _) => {
                settlement.answer.as_ref().map_or(0, |a| inline_octets(&a.body))
            }
            // As much as goes at once.
            Self::Discard(..) => MOST_OCTETS,
            Self::Stash(pieces, ..) => pieces.iter().map(|piece| piece.octets.len() as u64).sum(),
            _ => 0,
        }
    }

    pub(super) fn fail(self, error: LedgerError) {
        // Whoever asked may have gone away; then nobody needs to know.
        match self {
            Self::Accept(_, tell) => drop(tell.send(Err(error))),
            Self::Settle(_, tell) => drop(tell.send(Err(error))),
            Self::Claim(_, _, tell) => drop(tell.send(Err(error))),
            Self::ClaimWaiting { tell, .. }
            | Self::ClaimOverdue { tell, .. }
            | Self::ClaimOrphans { tell, .. }
            | Self::Reclaim { tell, .. }
            | Self::ClaimExpired { tell, .. } => drop(tell.send(Err(error))),
            Self::Beat(_, _, tell) => drop(tell.send(Err(error))),
            Self::Cancel(_, _, _, tell) => drop(tell.send(Err(error))),
            Self::Progress(_, tell) => drop(tell.send(Err(error))),
            Self::Free(_, _, tell) | Self::Pause(_, tell) => drop(tell.send(Err(error))),
            Self::Divide(_, _, tell) => drop(tell.send(Err(error))),
            Self::Stash(_, _, tell) | Self::Discard(_, tell) | Self::Leave(_, _, tell) => {
                drop(tell.send(Err(error)));
            }
            Self::Prune(_, _, tell) => drop(tell.send(Err(error))),
            Self::ReleaseDelayed { tell, .. } => drop(tell.send(Err(error))),
            Self::Unblock(_, _, tell) => drop(tell.send(Err(error))),
            Self::Reconcile(_, tell) => drop(tell.send(Err(error))),
            Self::Recount(_, tell) => drop(tell.send(Err(error))),
            Self::Sweep(_, tell) => drop(tell.send(Err(error))),
            Self::Judge(_, _, tell) => drop(tell.send(Err(error))),
            Self::Errand(errand) => errand.fail(error),
        }
    }
}

fn inline_octets(body: &Body) -> u64 {
    match body {
        Body::Inline(octets) => octets.len() as u64,
        Body::Chunked { .. } => 0,
    }
}

/// Commits what is queued until the queue is closed and empty. Several may run at once,
/// each with its own transaction: then what one is committing, the others do not know of,
/// and the database decides who comes first. A panic fails the writes of its group and no
/// others: a class of writes whose committer is gone would wait for ever.
pub(super) async fn run(shared: Arc<Shared>, queue: Arc<Turns>, told: Told) {
    let mut batch = Vec::with_capacity(BATCH_WRITES);
    while queue.take(&shared.clock, &mut batch).await > 0 {
        for part in by_octets(&mut batch, shared.store.is_shared()) {
            let committed = AssertUnwindSafe(commit(&shared, part, &told)).catch_unwind();
            if committed.await.is_err() {
                tracing::error!("a group of writes panicked and was undone; please report this");
            }
        }
        queue.committed();
    }
}

/// Takes in what is to be told after a commit.
pub(super) type Told = mpsc::Sender<Vec<After>>;

pub(super) fn told() -> (Told, mpsc::Receiver<Vec<After>>) {
    mpsc::channel(UNTOLD)
}

/// Tells the callers of each group, group by group.
pub(super) async fn tell(shared: Arc<Shared>, mut told: mpsc::Receiver<Vec<After>>) {
    while let Some(afters) = told.recv().await {
        for after in afters {
            after(&shared);
        }
    }
}

/// Cuts a batch where it grows too large for one transaction.
fn by_octets(batch: &mut Vec<Write>, is_shared: bool) -> Vec<Vec<Write>> {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    let mut parts = vec![Vec::with_capacity(batch.len())];
    let mut octets = 0;
    for write in batch.drain(..) {
        if write.is_apart(is_shared) {
            first.push(vec![write]);
            continue;
        }
        if write.is_maintenance() {
            last.push(vec![write]);
            continue;
        }
        octets += write.octets();
        if octets > BATCH_OCTETS {
            octets = write.octets();
            parts.push(Vec::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push(write);
        }
    }
    first.into_iter().chain(parts).chain(last).collect()
}

/// Commits a batch; one that fails is halved until only the guilty write fails.
async fn commit(shared: &Shared, batch: Vec<Write>, told: &Told) {
    let mut open = vec![(batch, 0)];
    while let Some((mut writes, tries)) = open.pop() {
        if writes.is_empty() {
            continue;
        }
        match Round::new(shared).run(shared, &mut writes, told).await {
            Ok(()) => {}
            Err(LedgerError::Contended(why)) if tries < TRIES => {
                tracing::debug!(why, "a batch stood in another's way; trying again");
                open.push((writes, tries + 1));
            }
            Err(error) if writes.len() > 1 && error.is_about_a_row() => {
                let second = writes.split_off(writes.len() / 2);
                open.push((second, 0));
                open.push((writes, 0));
            }
            Err(error) => {
                if writes.iter().all(Write::is_maintenance) {
                    shared.note_of_upkeep(&error);
                } else {
                    shared.note(&error);
                }
                writes.into_iter().for_each(|write| write.fail(error.clone()));
            }
        }
    }
}

/// One transaction: what was reserved for it, and what to do once it is durable.
struct Round {
    since: Moment,
    slots: Vec<Option<Box<dyn Reservation>>>,
    moved: Moved,
    announced: Announcement,
    after: Vec<After>,
}

/// What is done once the transaction is durable.
pub(super) type After = Box<dyn FnOnce(&Shared) + Send>;

impl Round {
    fn new(shared: &Shared) -> Self {
        Self {
            since: shared.lanes.moment(),
            slots: Vec::new(),
            moved: Moved::default(),
            announced: Announcement::default(),
            after: Vec::new(),
        }
    }

    /// Runs the writes; they stay in `writes` if that failed, and are gone otherwise.
    async fn run(
        mut self,
        shared: &Shared,
        writes: &mut Vec<Write>,
        told: &Told,
    ) -> Result<(), LedgerError> {
        let (count, begun) = (writes.len(), shared.clock.now());
        let mut sorted = Sorted::sort(std::mem::take(writes));
        let outcome = match shared.store.begin().await {
            Ok(transaction) => self.write(shared, transaction, &mut sorted).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            *writes = sorted.unsort();
            return Err(error);
        }
        metrics::histogram!("cloakroom_ledger_batch_writes").record(count as f64);
        metrics::histogram!("cloakroom_ledger_commit_seconds")
            .record(shared.clock.now().since(begun));
        shared.committed(&self.moved);
        if self.announced.fans {
            shared.fans.notify_one();
        }
        shared.made_due(self.announced.newly);
        self.announced.handed.into_iter().for_each(|handed| handed.space.take(handed.delivery));
        // It takes them as long as there is a committer.
        let _ = told.send(self.after).await;
        Ok(())
    }

    async fn write(
        &mut self,
        shared: &Shared,
        mut transaction: Box<dyn Transaction>,
        sorted: &mut Sorted,
    ) -> Result<(), LedgerError> {
        let alone = sorted.is_one_verb();
        transaction.prepare(&sorted.settlements, &sorted.acceptances, alone).await?;
        let settled = transaction.settle(&sorted.settlements, &mut self.moved).await?;
        self.reserve(shared, &mut sorted.acceptances);
        let verdicts = transaction.accept(&sorted.acceptances).await?;
        let mut answers = Vec::with_capacity(sorted.others.len());
        let scribe = shared.scribe.get().map(AsRef::as_ref);
        for other in &mut sorted.others {
            answers.push(answer(&mut *transaction, other, &mut self.moved, scribe).await?);
        }
        if let Some(scribe) = scribe {
            let outbox = shared.outbox.get().map(AsRef::as_ref);
            self.announced = transaction.deliveries().announce(scribe, outbox).await?;
        }
        transaction.commit().await?;
        self.tell_settled(sorted, settled);
        self.tell_accepted(shared, sorted, verdicts);
        for (other, answer) in sorted.others.drain(..).zip(answers) {
            answer.show(&other, &shared.lanes, self.since);
            self.after.push(answer.told_to(other));
        }
        Ok(())
    }

    /// Keeps a slot for each operation that may start at once.
    fn reserve(&mut self, shared: &Shared, acceptances: &mut [Acceptance]) {
        let mut queued_before = Vec::new();
        for acceptance in acceptances {
            let operation = &acceptance.operation;
            let due = operation.due_at <= operation.accepted_at;
            let first = shared.lanes.nobody_due(&operation.lane, operation.accepted_at - OVERTAKES)
                && !queued_before.contains(&operation.lane);
            let overtakes = !shared.lanes.nobody_due(&operation.lane, operation.accepted_at);
            let slot = || shared.reserve(&operation.lane, overtakes);
            let slot = (due && first).then(slot).flatten();
            acceptance.hand_off = slot.is_some();
            if due && slot.is_none() {
                queued_before.push(operation.lane.clone());
            }
            self.slots.push(slot);
        }
    }

    fn tell_settled(&mut self, sorted: &mut Sorted, settled: Vec<Result<SettledAs, StaleLease>>) {
        let tells = sorted.settled.drain(..);
        for ((settlement, tell), fate) in sorted.settlements.drain(..).zip(tells).zip(settled) {
            self.after.push(Box::new(move |shared| {
                if let Ok(SettledAs { status }) = &fate {
                    shared.settled(settlement.id, *status, &settlement);
                }
                let _ = tell.send(Ok(fate.map(|settled| settled.status)));
            }));
        }
    }

    fn tell_accepted(
        &mut self,
        shared: &Shared,
        sorted: &mut Sorted,
        verdicts: Vec<AcceptVerdict>,
    ) {
        let fates = sorted.acceptances.drain(..).zip(sorted.accepted.drain(..)).zip(verdicts);
        for (((acceptance, tell), verdict), slot) in fates.zip(std::mem::take(&mut self.slots)) {
            let operation = acceptance.operation;
            let route = Arc::clone(&operation.route);
            let accepted = match verdict {
                AcceptVerdict::Replayed(id) => Accepted::Replayed(id),
                AcceptVerdict::KeyConflict { of, differs } => Accepted::KeyConflict { of, differs },
                AcceptVerdict::Retried(id) => Accepted::Retried(id),
                AcceptVerdict::New { seq, placed } => {
                    let id = operation.id;
                    shared.accepted(&operation, placed);
                    if let (Placed::Running, Some(slot)) = (placed, slot) {
                        slot.start(handed_off(seq, operation));
                    }
                    Accepted::New(id)
                }
            };
            self.after.push(Box::new(move |_| {
                if let Accepted::New(_) = accepted {
                    Shared::count_accepted(&route);
                }
                let _ = tell.send(Ok(accepted));
            }));
        }
    }
}

/// A new operation as it is handed to the executor.
fn handed_off(seq: i64, operation: NewOperation) -> Leased {
    let serial = operation.serial_key.as_ref().map(|key| key.digest);
    let octets = operation.work.octets();
    Leased {
        lease: Lease { seq, token: FIRST_TOKEN, held: Held::Running, serial, octets },
        id: operation.id,
        route: operation.route,
        lane: operation.lane,
        work: operation.work,
        policy: operation.policy,
        counts: Counts { attempts: 1, ..Counts::default() },
        upstream_key: operation.upstream_key,
        accepted_at: operation.accepted_at,
        continuation: None,
        cancel_asked: false,
        client_reference: operation.client_reference,
    }
}

/// The token of an operation's first lease.
pub(super) const FIRST_TOKEN: i64 = 1;

/// A batch with its writes by kind, so that each kind goes down in few statements.
#[derive(Default)]
struct Sorted {
    acceptances: Vec<Acceptance>,
    accepted: Vec<Tell<Accepted>>,
    settlements: Vec<Settlement>,
    settled: Vec<Tell<Result<Status, StaleLease>>>,
    others: Vec<Write>,
}

impl Sorted {
    fn sort(writes: Vec<Write>) -> Self {
        let mut sorted = Self::default();
        for write in writes {
            match write {
                Write::Accept(acceptance, tell) => {
                    sorted.acceptances.push(*acceptance);
                    sorted.accepted.push(tell);
                }
                Write::Settle(settlement, tell) => {
                    sorted.settlements.push(*settlement);
                    sorted.settled.push(tell);
                }
                other => sorted.others.push(other),
            }
        }
        sorted
    }

    /// Whether one verb is all that there is.
    fn is_one_verb(&self) -> bool {
        let (settlements, acceptances) = (self.settlements.is_empty(), self.acceptances.is_empty());
        match self.others.as_slice() {
            [] => settlements || acceptances,
            [Write::Claim(..)] => settlements && acceptances,
            [Write::Errand(errand)] => settlements && acceptances && errand.is_single(),
            _ => false,
        }
    }

    fn unsort(self) -> Vec<Write> {
        let accepts = self.acceptances.into_iter().zip(self.accepted);
        let settles = self.settlements.into_iter().zip(self.settled);
        settles
            .map(|(settlement, tell)| Write::Settle(Box::new(settlement), tell))
            .chain(accepts.map(|(acceptance, tell)| Write::Accept(Box::new(acceptance), tell)))
            .chain(self.others)
            .collect()
    }
}

#[cfg(test)]
#[path = "committer_tests.rs"]
mod tests;
