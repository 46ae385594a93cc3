//! Offers orders at a fixed rate for some seconds, and sees whether the gateway keeps up.
//!
//! `offered TARGET METRICS RATE SECONDS [ARRIVALS] [told]`: TARGET is where orders are posted to,
//! METRICS the admin listener's `/metrics`, both `http://host:port/path`. The rate is kept
//! by the clock, not by the answers: each connection has its own timetable, and a request
//! that is late does not move the next one. Times count from when a request was due. With
//! ARRIVALS, `/arrivals` of the upstream, each says when that was, and the upstream tells
//! how long they took to come. With `told`, a receiver is told of the end of each, and it is
//! waited until all are delivered. It prints one line of `name=value` and ends with 0 if
//! accepts, and completions at the end of the last second, are within 1 % of what was
//! offered, and everything accepted has succeeded.

use std::process::ExitCode;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use cloakroom_bench::client::{Client, path};
use cloakroom_bench::counted::Counted;
use cloakroom_bench::orders::{CONNECTIONS, order, posted};
use cloakroom_bench::spread::Spread;
use cloakroom_bench::{Failure, micros};
use hyper::Uri;
use tokio::time::{sleep, sleep_until};

/// The share of what was offered that has to be accepted, and completed.
const ENOUGH: f64 = 0.99;
/// How long the remaining completions are waited for.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Clone)]
struct Offer {
    target: Uri,
    metrics: Uri,
    rate: f64,
    seconds: u64,
    arrivals: Option<Uri>,
    told: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let offer = Offer::from_arguments()?;
    let before = Counted::read(from_ref(&offer.metrics)).await?;
    let mut tally = offer.make().await?;
    let at_end = Counted::read(from_ref(&offer.metrics)).await? - before;
    let (finally, waited) = until(&offer.metrics, before, is_finished).await?;
    let delivered = match offer.told {
        true => until_delivered(&offer.metrics, before, waited, at_end).await?,
        false => String::new(),
    };
    let offered = offer.rate * offer.seconds as f64;
    let holds = tally.accepted as f64 >= ENOUGH * offered
        && at_end.finished >= ENOUGH * offered
        && finally.finished >= finally.accepted
        && finally.succeeded >= finally.accepted;
    let [half, most] = tally.took.within([0.5, 0.99]);
    println!(
        "rate={} seconds={} offered={offered} accepted={} refused={} completed={} \
         counted={} finished={} succeeded={} caught_up_ms={} accept_p50_ms={half:.1} \
         accept_p99_ms={most:.1}{}{delivered} statements={:.3} commits={:.3} holds={}",
        offer.rate,
        offer.seconds,
        tally.accepted,
        tally.refused,
        at_end.finished,
        finally.accepted,
        finally.finished,
        finally.succeeded,
        waited.as_millis(),
        offer.arrived().await?,
        at_end.statements / at_end.finished,
        at_end.commits / at_end.finished,
        u8::from(holds),
    );
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Offer {
    fn from_arguments() -> Result<Self, Failure> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [target, metrics, rate, seconds, rest @ ..] = arguments.as_slice() else {
            return Err("usage: offered TARGET METRICS RATE SECONDS [ARRIVALS] [told]".into());
        };
        let offer = Self {
            target: target.parse()?,
            metrics: metrics.parse()?,
            rate: rate.parse()?,
            seconds: seconds.parse()?,
            arrivals: rest.iter().find(|it| *it != "told").map(|it| it.parse()).transpose()?,
            told: rest.iter().any(|it| it == "told"),
        };
        if !offer.rate.is_finite() || offer.rate <= 0.0 {
            return Err("RATE is a number above 0".into());
        }
        Ok(offer)
    }

    /// Posts by the timetable, and ends with the last second.
    async fn make(&self) -> Result<Tally, Failure> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Client::connect(&self.target).await?);
        }
        let start = Instant::now();
        let end = start + Duration::from_secs(self.seconds);
        let between = Duration::from_secs_f64(f64::from(CONNECTIONS) / self.rate);
        let clients: Vec<_> = (0..CONNECTIONS)
            .zip(connections)
            .map(|(number, connection)| {
                let first = start + between * number / CONNECTIONS;
                tokio::spawn(self.clone().post(connection, first, between, end))
            })
            .collect();
        let mut tally = Tally::default();
        for client in clients {
            let one = client.await??;
            tally.accepted += one.accepted;
            tally.refused += one.refused;
            tally.took.append(one.took);
        }
        // The window is the same for everybody, also where the last answer came early.
        sleep_until(end.into()).await;
        Ok(tally)
    }

    /// What one connection does.
    async fn post(
        self,
        mut connection: Client,
        mut next: Instant,
        between: Duration,
        end: Instant,
    ) -> Result<Tally, Failure> {
        let mut tally = Tally::default();
        // Who is behind its timetable sends at once, until it has caught up or time is over.
        while next < end && Instant::now() < end {
            sleep_until(next.into()).await;
            let due = next;
            next += between;
            let mut request = posted(path(&self.target));
            if self.arrivals.is_some() {
                let late = u64::try_from(due.elapsed().as_micros())?;
                request = request.header("offered-at", micros() - late);
            }
            let answer = connection.send(request, order()).await?;
            tally.took.add(due.elapsed());
            if answer.status().as_u16() == 202 {
                tally.accepted += 1;
            } else {
                tally.refused += 1;
            }
        }
        Ok(tally)
    }

    /// What the upstream tells of the arrivals.
    async fn arrived(&self) -> Result<String, Failure> {
        let Some(arrivals) = &self.arrivals else { return Ok(String::new()) };
        let answer = Client::connect(arrivals).await?.get(path(arrivals)).await?;
        Ok(format!(" {}", std::str::from_utf8(answer.body())?))
    }
}

#[derive(Default)]
struct Tally {
    accepted: u64,
    refused: u64,
    took: Spread,
}

fn is_finished(counted: &Counted) -> bool {
    counted.finished >= counted.accepted
}

/// Waits until it is so, as far as patience goes.
async fn until(
    metrics: &Uri,
    before: Counted,
    is_so: impl Fn(&Counted) -> bool,
) -> Result<(Counted, Duration), Failure> {
    let start = Instant::now();
    loop {
        let counted = Counted::read(from_ref(metrics)).await? - before;
        if is_so(&counted) || start.elapsed() > PATIENCE {
            return Ok((counted, start.elapsed()));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until everybody has been told of everything; says how far that was at the end of
/// the offer, and how long it took from then on.
async fn until_delivered(
    metrics: &Uri,
    before: Counted,
    waited: Duration,
    at_end: Counted,
) -> Result<String, Failure> {
    let all = |counted: &Counted| counted.delivered >= counted.finished;
    let (finally, more) = until(metrics, before, all).await?;
    Ok(format!(
        " delivered={} behind={} finally_delivered={} delivered_after_ms={}",
        at_end.delivered,
        at_end.finished - at_end.delivered,
        finally.delivered,
        (waited + more).as_millis(),
    ))
}
