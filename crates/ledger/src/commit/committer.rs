//! The group commit: writes queue up while the previous commit is in flight and go down
//! together in one transaction, each caller told of its own fate.
//!
//! Owns the order *reserve, write, commit, tell*. No caller is told of anything before it
//! is durable, and nothing waits for a timer: an idle ledger commits a lone write at once.
//! What the next group depends on follows a commit at once; callers are told beside it,
//! while the next group is already on its way.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;

use cloakroom_domain::operation::{Counts, NewOperation, OperationBody, Status, Work};

use crate::cache::lane_depths::Moment;
use crate::commit::effects::Effects;
use crate::commit::handoff::Reservation;
use crate::commit::transaction::Transaction;
use crate::commit::verb::{Grouping, PendingVerb, Reply, Surroundings};
use crate::commit::write_queue::{BATCH_WRITES, WriteReceiver};
use crate::error::{LedgerError, StaleLease};
use crate::model::{
    AcceptVerdict, Acceptance, Accepted, Held, Lease, Leased, Placed, SettledAs, Settlement,
};
use crate::operations;
use crate::state::Shared;
use crate::webhooks::publish::Announcement;

/// Committed groups whose callers have not been told; more make the committer wait.
const UNTOLD: usize = 16;
/// About how many octets of bodies go into one transaction.
const BATCH_OCTETS: u64 = 4 * 1024 * 1024;
/// How often a batch is tried again that stood in another's way.
const TRIES: usize = 8;

/// A write that waits for its turn.
#[derive(Debug)]
pub(crate) enum Write {
    /// A new operation. Those of a group go down in few statements.
    Accept(Box<Acceptance>, Reply<Accepted>),
    /// The end of an attempt. Those of a group go down in few statements.
    Settle(Box<Settlement>, Reply<Result<Status, StaleLease>>),
    /// Every other verb.
    Verb(Box<dyn PendingVerb>),
}

/// A new operation may overtake operations that have been due for less than this. Without it, a lane
/// that fell behind once would never use the hand-off again: while one claim runs, more operations
/// become due, which need another claim. The engine may refuse to overtake.
const OVERTAKES: Duration = Duration::from_millis(50);

impl Write {
    fn grouping(&self, is_shared: bool) -> Grouping {
        match self {
            Self::Accept(..) | Self::Settle(..) => Grouping::Together,
            Self::Verb(verb) => verb.grouping(is_shared),
        }
    }

    fn is_maintenance(&self) -> bool {
        self.grouping(true) == Grouping::Last
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
            Self::Verb(verb) => verb.octets(),
        }
    }

    /// It was not done: tells its caller.
    fn fail(self, error: LedgerError) {
        // The caller may have gone away; then nothing is to be told.
        match self {
            Self::Accept(_, reply) => drop(reply.send(Err(error))),
            Self::Settle(_, reply) => drop(reply.send(Err(error))),
            Self::Verb(verb) => verb.fail(error),
        }
    }
}

fn inline_octets(body: &OperationBody) -> u64 {
    match body {
        OperationBody::Inline(octets) => octets.len() as u64,
        OperationBody::Chunked { .. } => 0,
    }
}

/// Commits what is queued until the queue is closed and empty. Several may run at once,
/// each with its own transaction: then what one is committing, the others do not know of,
/// and the database decides who comes first. A panic fails the writes of its group and no
/// others: a class of writes whose committer is gone would wait for ever.
pub(crate) async fn run(shared: Arc<Shared>, queue: Arc<WriteReceiver>, told: ReplySender) {
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
pub(crate) type ReplySender = mpsc::Sender<Vec<AfterCommit>>;

pub(crate) fn told() -> (ReplySender, mpsc::Receiver<Vec<AfterCommit>>) {
    mpsc::channel(UNTOLD)
}

/// Tells the callers of each group, group by group.
pub(crate) async fn tell(shared: Arc<Shared>, mut told: mpsc::Receiver<Vec<AfterCommit>>) {
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
        match write.grouping(is_shared) {
            Grouping::First => {
                first.push(vec![write]);
                continue;
            }
            Grouping::Last => {
                last.push(vec![write]);
                continue;
            }
            Grouping::Together => {}
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
async fn commit(shared: &Shared, batch: Vec<Write>, told: &ReplySender) {
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
    effects: Effects,
    announced: Announcement,
    after: Vec<AfterCommit>,
}

/// What is done once the transaction is durable.
pub(crate) type AfterCommit = Box<dyn FnOnce(&Shared) + Send>;

impl Round {
    fn new(shared: &Shared) -> Self {
        Self {
            since: shared.lanes.moment(),
            slots: Vec::new(),
            effects: Effects::default(),
            announced: Announcement::default(),
            after: Vec::new(),
        }
    }

    /// Runs the writes; they stay in `writes` if that failed, and are gone otherwise.
    async fn run(
        mut self,
        shared: &Shared,
        writes: &mut Vec<Write>,
        told: &ReplySender,
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
        shared.committed(self.effects);
        if self.announced.fans {
            shared.fans.notify_one();
        }
        shared.made_due(self.announced.newly);
        self.announced.handed.into_iter().for_each(|handed| handed.slot.take(handed.delivery));
        // It takes them as long as there is a committer.
        let _ = told.send(self.after).await;
        Ok(())
    }

    async fn write(
        &mut self,
        shared: &Shared,
        mut transaction: Transaction,
        sorted: &mut Sorted,
    ) -> Result<(), LedgerError> {
        let alone = sorted.is_one_verb();
        transaction.prepare(&sorted.settlements, &sorted.acceptances, alone).await?;
        let settled =
            operations::settle(&mut transaction, &sorted.settlements, &mut self.effects).await?;
        self.reserve(shared, &mut sorted.acceptances);
        let verdicts = operations::accept(&mut transaction, &sorted.acceptances).await?;
        let renderer = shared.renderer.get().map(AsRef::as_ref);
        for verb in &mut sorted.verbs {
            let mut around = Surroundings { effects: &mut self.effects, renderer };
            verb.run(&mut transaction, &mut around).await?;
        }
        if let Some(renderer) = renderer {
            let delivery_slots = shared.delivery_slots.get().map(AsRef::as_ref);
            self.announced = transaction.announce(renderer, delivery_slots).await?;
        }
        transaction.commit().await?;
        self.tell_settled(sorted, settled);
        self.tell_accepted(shared, sorted, verdicts);
        for verb in sorted.verbs.drain(..) {
            verb.follow(&shared.lanes, self.since);
            self.after.push(Box::new(move |shared| verb.tell(shared)));
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
pub(crate) const FIRST_TOKEN: i64 = 1;

/// A batch with its writes by kind, so that each kind goes down in few statements.
#[derive(Default)]
struct Sorted {
    acceptances: Vec<Acceptance>,
    accepted: Vec<Reply<Accepted>>,
    settlements: Vec<Settlement>,
    settled: Vec<Reply<Result<Status, StaleLease>>>,
    verbs: Vec<Box<dyn PendingVerb>>,
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
                Write::Verb(verb) => sorted.verbs.push(verb),
            }
        }
        sorted
    }

    /// Whether one verb is all that there is.
    fn is_one_verb(&self) -> bool {
        let (settlements, acceptances) = (self.settlements.is_empty(), self.acceptances.is_empty());
        match self.verbs.as_slice() {
            [] => settlements || acceptances,
            [verb] => settlements && acceptances && verb.is_single(),
            _ => false,
        }
    }

    fn unsort(self) -> Vec<Write> {
        let accepts = self.acceptances.into_iter().zip(self.accepted);
        let settles = self.settlements.into_iter().zip(self.settled);
        settles
            .map(|(settlement, tell)| Write::Settle(Box::new(settlement), tell))
            .chain(accepts.map(|(acceptance, tell)| Write::Accept(Box::new(acceptance), tell)))
            .chain(self.verbs.into_iter().map(Write::Verb))
            .collect()
    }
}

#[cfg(test)]
#[path = "committer_tests.rs"]
mod tests;
