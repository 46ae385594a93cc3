//! Makes a backlog of deliveries due, and sees how fast it is worked off.
//!
//! `replays ADMIN RECEIVERS COUNT SINCE ID…`: ADMIN is the gateway's admin listener,
//! RECEIVERS where the receivers tell what they got, both `http://host:port`; the
//! subscriptions with these IDs have COUNT deliveries together that were made since SINCE
//! and have ended. All of them are replayed. What counts is the time from when the last
//! of them is due until 97 % have arrived: the last ones end one by one. In the end each
//! has to have arrived, with a signature, and to be recorded. It prints one line of
//! `name=value`.

use std::slice::from_ref;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cloakroom_bench::Failure;
use cloakroom_bench::client::Client;
use cloakroom_bench::counted::Counted;
use cloakroom_bench::orders::posted;
use cloakroom_bench::receivers::Got;
use hyper::Uri;
use tokio::time::sleep;

/// Where the part ends that counts, as a share of all.
const UNTIL: f64 = 0.97;
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);
/// How long nothing may arrive.
const PATIENCE: Duration = Duration::from_secs(30);

struct Replays {
    admin: Uri,
    metrics: Uri,
    receivers: Uri,
    count: u64,
    since: String,
    ids: Vec<String>,
}

/// What was seen at a moment.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    counted: Counted,
    got: Got,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let replays = Replays::from_arguments()?;
    Got::forget(&replays.receivers).await?;
    let before = Counted::read(from_ref(&replays.metrics)).await?;
    let begun = Instant::now();
    replays.until_due().await?;
    let all = replays.count as f64;
    let from = replays.look(before).await?;
    let to = replays.until(before, |look| look.got.distinct as f64 >= UNTIL * all).await?;
    let end = replays.until(before, |look| look.counted.delivered >= all).await?;
    if end.got.distinct != replays.count || end.got.unsigned > 0 {
        return Err(format!("of {} there arrived {:?}", replays.count, end.got).into());
    }
    let seconds = (to.at - from.at).as_secs_f64();
    let arrived = (to.got.distinct - from.got.distinct) as f64;
    let counted = to.counted - from.counted;
    println!(
        "count={} due_after={:.1} left_then={} seconds={seconds:.1} rate={:.0} recorded={:.0} \
         repeated={} statements={:.3} commits={:.3}",
        replays.count,
        (from.at - begun).as_secs_f64(),
        replays.count - from.got.distinct,
        arrived / seconds,
        counted.delivered / seconds,
        end.got.received - end.got.distinct,
        counted.statements / counted.delivered,
        counted.commits / counted.delivered,
    );
    Ok(())
}

impl Replays {
    fn from_arguments() -> Result<Self, Failure> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [admin, receivers, count, since, ids @ ..] = arguments.as_slice() else {
            return Err("usage: replays ADMIN RECEIVERS COUNT SINCE ID…".into());
        };
        Ok(Self {
            admin: admin.parse()?,
            metrics: format!("{admin}/metrics").parse()?,
            receivers: receivers.parse()?,
            count: count.parse()?,
            since: since.clone(),
            ids: ids.to_vec(),
        })
    }

    /// Asks for all replays, and waits until each has made due what it was asked for.
    async fn until_due(&self) -> Result<(), Failure> {
        let mut admin = Client::connect(&self.admin).await?;
        let mut replays = Vec::new();
        for id in &self.ids {
            let wish = format!("{{\"since\":\"{}\",\"select\":\"delivered\"}}", self.since);
            let request = posted(&format!("/-/webhooks/{id}/replay"));
            let answer = admin.send(request, Bytes::from(wish)).await?;
            let replay = answer.headers().get("operation-id").map(|id| id.to_str()).transpose()?;
            replays.push(replay.ok_or_else(|| format!("not replayed: {answer:?}"))?.to_owned());
        }
        while let Some(replay) = replays.last() {
            let status = admin.get(&format!("/-/operations/{replay}/status")).await?;
            let document = std::str::from_utf8(status.body())?;
            if document.contains("\"status\":\"succeeded\"") {
                replays.pop();
            } else if document.contains("\"status\":\"failed\"") {
                return Err(format!("a replay failed: {document}").into());
            } else {
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    async fn look(&self, before: Counted) -> Result<Look, Failure> {
        let counted = Counted::read(from_ref(&self.metrics)).await? - before;
        Ok(Look { at: Instant::now(), counted, got: Got::read(&self.receivers).await? })
    }

    /// Looks until it `is_far` enough.
    async fn until(
        &self,
        before: Counted,
        is_far: impl Fn(&Look) -> bool,
    ) -> Result<Look, Failure> {
        let mut last = self.look(before).await?;
        let mut moved = Instant::now();
        loop {
            let look = self.look(before).await?;
            if is_far(&look) {
                return Ok(look);
            }
            if look.counted.delivered > last.counted.delivered {
                moved = Instant::now();
            } else if moved.elapsed() > PATIENCE {
                return Err(format!("stuck at {:?} and {:?}", look.counted, look.got).into());
            }
            last = look;
            sleep(LOOK).await;
        }
    }
}
