//! The replay job: sends the deliveries of a time range again.
//!
//! Owns the meaning of its arguments and of its cursor. Its invariant: it never selects a delivery
//! that it has made due itself, so a repeated step replays nothing twice. It must not know how
//! jobs are run.

use serde::{Deserialize, Serialize};
use serde_json::json;

use cloakroom_domain::Timestamp;
use cloakroom_ledger::{DeliverySelection, Ledger, LedgerError, ReplayStep};

/// The name of the job.
pub const REPLAY: &str = "webhooks.replay";
/// Deliveries that one step looks at at most.
const AT_ONCE: usize = 500;

/// Delivers once more what was made for a subscription in a range of time.
#[derive(Clone, Debug)]
pub struct ReplayJob(Ledger);

/// The result of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayProgress {
    /// There is more to do.
    More {
        /// Where it goes on.
        cursor: Vec<u8>,
        /// How many go out once more until now.
        replayed: u64,
    },
    /// It is done.
    Done {
        /// `{"replayed": n}`.
        result: Vec<u8>,
    },
    /// It cannot be done.
    Refused {
        /// Why, as JSON.
        result: Vec<u8>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayArguments {
    subscription: String,
    since: String,
    until: String,
    select: String,
}

#[derive(Default, Deserialize, Serialize)]
struct ReplayCursor {
    after: Option<String>,
    replayed: u64,
}

impl ReplayJob {
    /// Of deliveries in this ledger.
    pub const fn of(ledger: Ledger) -> Self {
        Self(ledger)
    }

    /// The next step, behind `cursor`, of a job that was asked for at that time.
    pub async fn step(
        &self,
        arguments: &[u8],
        cursor: Option<&[u8]>,
        asked_at: Timestamp,
        now: Timestamp,
    ) -> Result<ReplayProgress, LedgerError> {
        let Ok(arguments) = serde_json::from_slice::<ReplayArguments>(arguments) else {
            return Ok(refused("the arguments are not understood"));
        };
        let cursor = cursor.and_then(|cursor| serde_json::from_slice(cursor).ok());
        let ReplayCursor { after, replayed } = cursor.unwrap_or_default();
        let (Ok(id), Some(select), Some(since), Some(until)) = (
            arguments.subscription.parse(),
            DeliverySelection::named(&arguments.select),
            instant(&arguments.since),
            instant(&arguments.until),
        ) else {
            return Ok(refused("the arguments are not understood"));
        };
        let Some(subscription) = self.0.subscription(None, id).await? else {
            return Ok(refused("there is no such subscription any more"));
        };
        let step = ReplayStep {
            receiver: subscription.receiver,
            select,
            since,
            // What it makes due itself is made later.
            until: until.min(asked_at),
            after: after.and_then(|after| after.parse().ok()),
            limit: AT_ONCE,
            at: now,
        };
        let stepped = self.0.replay(step).await?;
        let replayed = replayed + stepped.count;
        let Some(after) = stepped.after else {
            return Ok(ReplayProgress::Done { result: octets(&json!({ "replayed": replayed })) });
        };
        let cursor = json!(ReplayCursor { after: Some(after.to_string()), replayed });
        Ok(ReplayProgress::More { cursor: octets(&cursor), replayed })
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_micros(instant.as_microsecond()))
}

fn refused(why: &str) -> ReplayProgress {
    ReplayProgress::Refused { result: octets(&json!({ "error": why })) }
}

fn octets(value: &serde_json::Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
