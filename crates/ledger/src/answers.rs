//! Writes that do not come in batches: asking for one, and telling what came of it.

use crate::commit::committer::{After, Write};
use super::error::LedgerError;
use super::fleet::Beaten;
use super::lanes::{Lanes, Moment};
use super::permits::Divided;
use super::reconcile::{Stepped, Swept};
use super::store::Transaction;
use super::verbs::{Canceled, Claimed, Judged, Leased, Progressed, Pruned, Unblocked};
use crate::commit::effects::{Effects};
use super::webhooks::Scribe;

/// What a write that does not come in batches was answered.
pub(super) enum Answer {
    Claimed(Vec<Claimed>),
    Leased(Vec<Leased>),
    Beaten(Box<Beaten>),
    Divided(Vec<Divided>),
    Canceled(Canceled),
    Freed(bool),
    Progressed(Progressed),
    Paused(bool),
    Done,
    Pruned(Pruned),
    Unblocked(Unblocked),
    Judged(Judged),
    Stepped(Stepped),
    Swept(Swept),
    Released(usize),
}

pub(super) async fn answer(
    transaction: &mut dyn Transaction,
    write: &mut Write,
    effects: &mut Effects,
    scribe: Option<&dyn Scribe>,
) -> Result<Answer, LedgerError> {
    Ok(match write {
        Write::Claim(wants, now, _) => {
            Answer::Claimed(transaction.claim(wants, *now, effects).await?)
        }
        Write::ClaimWaiting { wants, now, visible_again, .. } => {
            Answer::Leased(transaction.claim_waiting(wants, *now, *visible_again, effects).await?)
        }
        Write::ClaimOverdue { limit, now, visible_again, .. } => {
            Answer::Leased(transaction.claim_overdue(*limit, *now, *visible_again, effects).await?)
        }
        Write::ReleaseDelayed { limit, now, .. } => {
            Answer::Released(transaction.release_delayed(*limit, *now, effects).await?)
        }
        Write::ClaimOrphans { dead, limit, now, .. } => {
            Answer::Leased(transaction.claim_orphans(dead, *limit, *now, effects).await?)
        }
        Write::ClaimExpired { lane, seqs, now, .. } => {
            Answer::Leased(transaction.claim_expired(lane, seqs, *now, effects).await?)
        }
        Write::Reclaim { lost, begun, now, .. } => {
            Answer::Leased(transaction.reclaim(lost, *begun, *now, effects).await?)
        }
        Write::Beat(beat, now, _) => {
            let (vitals, counted) = (&beat.vitals, &beat.counted);
            Answer::Beaten(Box::new(transaction.beat(vitals, counted, *now).await?))
        }
        Write::Leave(leaving, now, _) => {
            transaction.leave(leaving, *now).await?;
            Answer::Done
        }
        Write::Divide(asking, now, _) => Answer::Divided(transaction.divide(asking, *now).await?),
        Write::Cancel(id, freeing, now, _) => {
            Answer::Canceled(transaction.cancel(*id, *freeing, *now, effects).await?)
        }
        Write::Free(id, now, _) => Answer::Freed(transaction.free(*id, *now).await?),
        Write::Progress(report, _) => Answer::Progressed(transaction.progress(report).await?),
        Write::Pause(wish, _) => Answer::Paused(transaction.pause(wish).await?),
        Write::Stash(pieces, now, _) => {
            transaction.stash(pieces, *now).await?;
            Answer::Done
        }
        Write::Discard(body, _) => {
            transaction.discard(*body).await?;
            Answer::Done
        }
        Write::Unblock(name, now, _) => {
            Answer::Unblocked(transaction.unblock(*name, *now, effects).await?)
        }
        Write::Reconcile(step, _) => Answer::Stepped(transaction.reconcile(*step, effects).await?),
        Write::Recount(recount, _) => {
            transaction.recount(recount).await?;
            Answer::Done
        }
        Write::Sweep(sweep, _) => Answer::Swept(transaction.sweep(sweep).await?),
        Write::Judge(id, verdict, _) => Answer::Judged(transaction.judge(*id, verdict).await?),
        Write::Prune(portion, now, _) => Answer::Pruned(transaction.prune(*portion, *now).await?),
        Write::Errand(errand) => {
            errand.run(transaction.deliveries(), scribe).await?;
            Answer::Done
        }
        // Sorted apart before.
        Write::Accept(..) | Write::Settle(..) => {
            return Err(LedgerError::Damaged("a batch verb among the single ones".to_owned()));
        }
    })
}

impl Answer {
    /// Lets the lanes follow, before anything more is put into them.
    pub(super) fn show(&self, write: &Write, lanes: &Lanes, since: Moment) {
        match (self, write) {
            (Self::Claimed(claimed), _) => {
                for Claimed { lane, leased, next_due } in claimed {
                    lanes.claimed(lane, leased.len() as u64, *next_due, since);
                }
            }
            (Self::Leased(leased), Write::ClaimExpired { lane, .. }) => {
                lanes.removed(lane, leased.len() as u64);
            }
            _ => {}
        }
    }

    /// What is to be done with the answer once it is durable.
    pub(super) fn told_to(self, write: Write) -> After {
        match (self, write) {
            (Self::Claimed(claimed), Write::Claim(_, _, tell)) => Box::new(move |shared| {
                for Claimed { leased, .. } in &claimed {
                    shared.changed(leased.iter().map(|leased| leased.id));
                }
                let _ = tell.send(Ok(claimed));
            }),
            (Self::Leased(leased), Write::ClaimExpired { tell, .. }) => Box::new(move |shared| {
                shared.changed(leased.iter().map(|leased| leased.id));
                let _ = tell.send(Ok(leased));
            }),
            (
                Self::Leased(leased),
                Write::ClaimWaiting { tell, .. }
                | Write::ClaimOverdue { tell, .. }
                | Write::ClaimOrphans { tell, .. }
                | Write::Reclaim { tell, .. },
            ) => Box::new(move |_| drop(tell.send(Ok(leased)))),
            (Self::Beaten(beaten), Write::Beat(_, _, tell)) => {
                Box::new(move |_| drop(tell.send(Ok(*beaten))))
            }
            (Self::Done, Write::Leave(_, _, tell)) => Box::new(move |shared| {
                // Others may have what it held.
                shared.hints.stirred();
                let _ = tell.send(Ok(()));
            }),
            (Self::Divided(divided), Write::Divide(_, _, tell)) => Box::new(move |shared| {
                if divided.iter().any(|divided| divided.share.stirs) {
                    shared.hints.stirred();
                }
                let _ = tell.send(Ok(divided));
            }),
            (Self::Canceled(canceled), Write::Cancel(id, _, _, tell)) => Box::new(move |shared| {
                shared.canceled(id, canceled);
                let _ = tell.send(Ok(canceled));
            }),
            (Self::Freed(freed), Write::Free(id, _, tell)) => Box::new(move |shared| {
                shared.changed([id]);
                let _ = tell.send(Ok(freed));
            }),
            (Self::Progressed(progressed), Write::Progress(report, tell)) => {
                Box::new(move |shared| {
                    shared.changed([report.id]);
                    let _ = tell.send(Ok(progressed));
                })
            }
            (Self::Paused(changed), Write::Pause(wish, tell)) => Box::new(move |shared| {
                shared.paused.set(&wish.queue, wish.paused);
                shared.work.notify_one();
                let _ = tell.send(Ok(changed));
            }),
            (
                Self::Done,
                Write::Stash(_, _, tell) | Write::Discard(_, tell) | Write::Recount(_, tell),
            ) => Box::new(move |_| drop(tell.send(Ok(())))),
            (Self::Pruned(pruned), Write::Prune(_, _, tell)) => Box::new(move |shared| {
                if pruned != Pruned::default() {
                    shared.snapshots.forget_all();
                }
                let _ = tell.send(Ok(pruned));
            }),
            (Self::Unblocked(unblocked), Write::Unblock(_, _, tell)) => {
                Box::new(move |_| drop(tell.send(Ok(unblocked))))
            }
            (Self::Judged(judged), Write::Judge(id, _, tell)) => Box::new(move |shared| {
                shared.changed([id]);
                let _ = tell.send(Ok(judged));
            }),
            (Self::Stepped(stepped), Write::Reconcile(_, tell)) => Box::new(move |shared| {
                shared.snapshots.forget_all();
                let _ = tell.send(Ok(stepped));
            }),
            (Self::Swept(swept), Write::Sweep(_, tell)) => {
                Box::new(move |_| drop(tell.send(Ok(swept))))
            }
            (Self::Released(released), Write::ReleaseDelayed { tell, .. }) => {
                Box::new(move |_| drop(tell.send(Ok(released))))
            }
            (Self::Done, Write::Errand(errand)) => Box::new(move |shared| errand.tell(shared)),
            (_, write) => Box::new(move |_| {
                write.fail(LedgerError::Damaged("an answer of another verb".to_owned()));
            }),
        }
    }
}
