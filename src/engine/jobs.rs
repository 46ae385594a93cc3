//! The gateway's own long jobs, carried out as operations.
//!
//! Owns how a job goes from step to step, reports progress, and pauses so that it holds no slot for
//! long. Its invariants: a cursor, which only the job reads, is all that says where the job goes on;
//! and a step may run twice. It must not know what a job does: jobs are registered by name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use super::EngineContext;
use super::settle::AttemptResult;
use cloakroom_domain::operation::{Continuation, OperationBody, Outcome, UpstreamAnswer};
use cloakroom_domain::{Fields, Timestamp};
use cloakroom_ledger::{KeptAnswer, Leased, LedgerError, ProgressReport};

/// The upstream that jobs are said to lie in a lane of: this gateway, on any of its nodes.
pub const OWN: &str = "cloakroom";
/// How many jobs run on a node at once.
pub(super) const AT_ONCE: u32 = 4;
/// How long a job goes on before it is put aside, with its cursor.
const STRETCH: Duration = Duration::from_secs(10);
/// How soon a step is tried again that failed.
const BACK_OFF: Duration = Duration::from_secs(1);

/// A job, which is done in steps.
pub trait Job: Send + Sync + 'static {
    /// Does the next step. It may come a second time: what it was told of as done by then
    /// is not lost, and what it did behind that is done again.
    fn step<'a>(&'a self, step: JobStep<'a>) -> BoxFuture<'a, Result<JobStepResult, LedgerError>>;
}

/// The input of a step.
#[derive(Clone, Copy, Debug)]
pub struct JobStep<'a> {
    /// What the job is to do, in its own form.
    pub arguments: &'a [u8],
    /// Where it goes on; none at the first step.
    pub cursor: Option<&'a [u8]>,
    /// When the operation was accepted.
    pub accepted_at: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// The result of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStepResult {
    /// The job goes on.
    More {
        /// Where it goes on.
        cursor: Vec<u8>,
        /// How far it is, in percent, where that is known.
        percent: Option<u8>,
        /// A message for the progress report.
        message: Option<String>,
    },
    /// All is done.
    Done {
        /// The result, as JSON.
        result: Vec<u8>,
    },
    /// It cannot be done, and not later either.
    Refused {
        /// A status in 400 to 499.
        status: u16,
        /// Why, as JSON.
        result: Vec<u8>,
    },
}

/// The jobs that an engine can do, by their names.
#[derive(Clone, Default)]
pub struct Jobs(HashMap<Arc<str>, Arc<dyn Job>>);

impl Jobs {
    /// With another one.
    #[must_use]
    pub fn with(mut self, name: &str, job: impl Job) -> Self {
        self.0.insert(name.into(), Arc::new(job));
        self
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        self.0.keys().cloned()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Runs a job for a while.
pub(super) async fn run_job(
    engine: &EngineContext,
    leased: &Leased,
    name: &str,
    arguments: &[u8],
) -> AttemptResult {
    let Some(job) = engine.settings.jobs.0.get(name) else {
        return AttemptResult::of(Outcome::Unroutable);
    };
    let began = engine.clock.elapsed();
    let mut cursor = leased.continuation.as_ref().and_then(Continuation::as_job).cloned();
    loop {
        let step = JobStep {
            arguments,
            cursor: cursor.as_deref().filter(|cursor| !cursor.is_empty()),
            accepted_at: leased.accepted_at,
            now: engine.clock.now(),
        };
        match job.step(step).await {
            Ok(JobStepResult::Done { result }) => return answered(200, result),
            Ok(JobStepResult::Refused { status, result }) => return answered(status, result),
            Ok(JobStepResult::More { cursor: next, percent, message }) => {
                cursor = Some(next.into());
                report(engine, leased, percent, message).await;
            }
            Err(error) => {
                tracing::warn!(operation = %leased.id, job = name, %error, "a step of a job failed; trying again");
                engine.clock.sleep(BACK_OFF).await;
            }
        }
        if engine.tasks.is_draining() || engine.clock.elapsed().saturating_sub(began) >= STRETCH {
            let continuation = Continuation::job(cursor.unwrap_or_default());
            return AttemptResult::of(Outcome::Unfinished { continuation, retry_after: None });
        }
    }
}

fn answered(status: u16, result: Vec<u8>) -> AttemptResult {
    let mut fields = Fields::new();
    fields.as_map_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let answer = UpstreamAnswer::plain(status);
    let body = OperationBody::Inline(Bytes::from(result));
    let kept = KeptAnswer { status, fields, body, framing: None, created_location: None };
    AttemptResult { answer: Some(kept), ..AttemptResult::of(Outcome::Followed(answer)) }
}

/// Tells of its progress. Nothing depends on that it gets through.
async fn report(
    engine: &EngineContext,
    leased: &Leased,
    percent: Option<u8>,
    message: Option<String>,
) {
    if percent.is_none() && message.is_none() {
        return;
    }
    let (id, attempt) = (leased.id, leased.counts.attempts);
    let report = ProgressReport { id, attempt, percent, message, at: engine.clock.now() };
    if let Err(error) = engine.ledger.progress(report).await {
        tracing::debug!(operation = %leased.id, %error, "the progress of a job could not be recorded");
    }
}
