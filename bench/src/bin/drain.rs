//! Fills a paused queue, lets it go on, and sees how fast it drains.
//!
//! `drain TARGET QUEUES NAME COUNT METRICS…`: TARGET is where orders are posted to, QUEUES
//! the operators' list of queues, NAME the queue that they come to, METRICS the `/metrics`
//! of every node that works on it; all URLs `http://host:port/path`. Beginning and end of
//! the drain are left out: nodes begin apart, and the last ones end one by one. The queue
//! is paused again at the end. It prints one line of `name=value`.

use std::slice::from_ref;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cloakroom_bench::Failure;
use cloakroom_bench::client::{Client, path};
use cloakroom_bench::counted::Counted;
use cloakroom_bench::orders::{fill, posted};
use hyper::Uri;
use tokio::time::sleep;

/// The part of the drain that counts, as shares of all.
const WINDOW: (f64, f64) = (0.25, 0.97);
/// How often the metrics are looked at, which costs the gateway a statement.
const LOOK: Duration = Duration::from_millis(100);
/// Fewer looks than this make no rate.
const LOOKS: usize = 4;
/// How long nodes take at most to see that a queue is paused: they look every second.
const SEEN: Duration = Duration::from_millis(1500);
/// How long nothing may finish.
const PATIENCE: Duration = Duration::from_mins(1);

struct Drain {
    target: Uri,
    queues: Uri,
    queue: String,
    count: u32,
    metrics: Vec<Uri>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let drain = Drain::from_arguments()?;
    drain.order("pause").await?;
    sleep(SEEN).await;
    fill(from_ref(&drain.target), drain.count).await?;
    let before = Counted::read(&drain.metrics).await?;
    drain.order("resume").await?;
    let looks = drain.watch(before).await?;
    drain.order("pause").await?;
    let looks = window(&looks, f64::from(drain.count))?;
    let [from, .., to] = looks.as_slice() else { return Err("nothing was seen".into()) };
    let counted = to.counted - from.counted;
    let seconds = (to.at - from.at).as_secs_f64();
    println!(
        "count={} counted={} seconds={seconds:.3} rate={:.1} statements={:.3} commits={:.3} \
         still_ms={}",
        drain.count,
        counted.finished,
        counted.finished / seconds,
        counted.statements / counted.finished,
        counted.commits / counted.finished,
        still(&looks).as_millis(),
    );
    Ok(())
}

/// What was counted at a moment.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    counted: Counted,
}

impl Drain {
    fn from_arguments() -> Result<Self, Failure> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [target, queues, queue, count, metrics @ ..] = arguments.as_slice() else {
            return Err("usage: drain TARGET QUEUES NAME COUNT METRICS…".into());
        };
        Ok(Self {
            target: target.parse()?,
            queues: queues.parse()?,
            queue: queue.clone(),
            count: count.parse()?,
            metrics: metrics.iter().map(|it| it.parse()).collect::<Result<_, _>>()?,
        })
    }

    /// Pauses the queue or lets it go on.
    async fn order(&self, verb: &str) -> Result<(), Failure> {
        // As a program says it, which is no page's form.
        let request = posted(&format!("{}/{}/{verb}", path(&self.queues), self.queue));
        let answer = Client::connect(&self.queues).await?.send(request, Bytes::new()).await?;
        let done = answer.status().is_success();
        done.then_some(()).ok_or_else(|| format!("{verb}: {answer:?}").into())
    }

    /// Looks until all have finished.
    async fn watch(&self, before: Counted) -> Result<Vec<Look>, Failure> {
        let all = f64::from(self.count);
        let mut looks = Vec::<Look>::new();
        let mut moved = Instant::now();
        loop {
            let counted = Counted::read(&self.metrics).await? - before;
            let last = looks.last().map_or(0.0, |look| look.counted.finished);
            looks.push(Look { at: Instant::now(), counted });
            if counted.finished >= all {
                let succeeded = counted.succeeded >= all;
                return succeeded.then_some(looks).ok_or_else(|| "not all succeeded".into());
            }
            if counted.finished > last {
                moved = Instant::now();
            } else if moved.elapsed() > PATIENCE {
                return Err(format!("only {} of {all} finished", counted.finished).into());
            }
            sleep(LOOK).await;
        }
    }
}

/// The looks that count.
fn window(looks: &[Look], all: f64) -> Result<Vec<Look>, Failure> {
    let (from, to) = (WINDOW.0 * all, WINDOW.1 * all);
    let counts = |look: &&Look| (from..=to).contains(&look.counted.finished);
    let within: Vec<_> = looks.iter().filter(counts).copied().collect();
    let enough = within.len() >= LOOKS;
    enough.then_some(within).ok_or_else(|| "it drained too soon to be watched: take more".into())
}

/// The longest time in which nothing finished.
fn still(looks: &[Look]) -> Duration {
    let same = |one: &Look, other: &Look| one.counted.finished == other.counted.finished;
    let pauses = looks.chunk_by(same).filter_map(|them| Some(them.last()?.at - them.first()?.at));
    pauses.max().unwrap_or_default()
}
