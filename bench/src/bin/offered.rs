//! Offers orders at a fixed rate for some seconds, and sees whether the gateway keeps up.
//!
//! `offered TARGET METRICS RATE SECONDS`: TARGET is where orders are posted to, METRICS
//! the admin listener's `/metrics`, both `http://host:port/path`. The rate is kept by the
//! clock, not by the answers: each connection has its own timetable, and a request that is
//! late does not move the next one. It prints one line of `name=value` and ends with 0 if
//! accepts, and completions at the end of the last second, are within 1 % of what was
//! offered, and everything accepted has succeeded.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cloakroom_bench::Failure;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{sleep, sleep_until};

const CONNECTIONS: u32 = 64;
/// The share of what was offered that has to be accepted, and completed.
const ENOUGH: f64 = 0.99;
/// How long the remaining completions are waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// The order that `post.lua` posts, too.
const ORDER: &str = concat!(
    r#"{"sku":"A-1042","quantity":3,"customer":"c-000121","currency":"EUR","unitPrice":"19.90","#,
    r#""note":"leave it at the door, ring twice, and mind the dog","#,
    r#""address":{"city":"Bremen","zip":"28195"}}"#,
);
const _: () = assert!(ORDER.len() == 190);

struct Offer {
    target: Uri,
    metrics: Uri,
    rate: f64,
    seconds: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let offer = Offer::from_arguments()?;
    let before = Counted::read(&offer.metrics).await?;
    let tally = offer.make().await?;
    let at_end = Counted::read(&offer.metrics).await?.since(before);
    let (finally, waited) = until_finished(&offer.metrics, before).await?;
    let offered = offer.rate * offer.seconds as f64;
    let holds = tally.accepted as f64 >= ENOUGH * offered
        && at_end.finished >= ENOUGH * offered
        && finally.finished >= finally.accepted
        && finally.succeeded >= finally.accepted;
    println!(
        "rate={} seconds={} offered={offered} accepted={} refused={} completed={} \
         counted={} finished={} succeeded={} caught_up_ms={} holds={}",
        offer.rate,
        offer.seconds,
        tally.accepted,
        tally.refused,
        at_end.finished,
        finally.accepted,
        finally.finished,
        finally.succeeded,
        waited.as_millis(),
        u8::from(holds),
    );
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Offer {
    fn from_arguments() -> Result<Self, Failure> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [target, metrics, rate, seconds] = arguments.as_slice() else {
            return Err("usage: offered TARGET METRICS RATE SECONDS".into());
        };
        let offer = Self {
            target: target.parse()?,
            metrics: metrics.parse()?,
            rate: rate.parse()?,
            seconds: seconds.parse()?,
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
            connections.push(connect::<Full<Bytes>>(&self.target).await?);
        }
        let start = Instant::now();
        let end = start + Duration::from_secs(self.seconds);
        let between = Duration::from_secs_f64(f64::from(CONNECTIONS) / self.rate);
        let clients: Vec<_> = (0..CONNECTIONS)
            .zip(connections)
            .map(|(number, sender)| {
                let first = start + between * number / CONNECTIONS;
                tokio::spawn(client(sender, self.target.clone(), first, between, end))
            })
            .collect();
        let mut tally = Tally::default();
        for client in clients {
            let one = client.await??;
            tally.accepted += one.accepted;
            tally.refused += one.refused;
        }
        // The window is the same for everybody, also where the last answer came early.
        sleep_until(end.into()).await;
        Ok(tally)
    }
}

#[derive(Default)]
struct Tally {
    accepted: u64,
    refused: u64,
}

async fn client(
    mut sender: SendRequest<Full<Bytes>>,
    target: Uri,
    mut next: Instant,
    between: Duration,
    end: Instant,
) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    // Who is behind its timetable sends at once, until it has caught up or time is over.
    while next < end && Instant::now() < end {
        sleep_until(next.into()).await;
        next += between;
        let request = Request::post(path(&target))
            .header("host", authority(&target)?)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(ORDER.as_bytes())))?;
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        answer.into_body().collect().await?;
        if status.as_u16() == 202 {
            tally.accepted += 1;
        } else {
            tally.refused += 1;
        }
    }
    Ok(tally)
}

/// What the gateway itself has counted.
#[derive(Clone, Copy)]
struct Counted {
    accepted: f64,
    finished: f64,
    succeeded: f64,
}

impl Counted {
    async fn read(metrics: &Uri) -> Result<Self, Failure> {
        let mut sender = connect::<Empty<Bytes>>(metrics).await?;
        let request = Request::get(path(metrics)).header("host", authority(metrics)?);
        let answer = sender.send_request(request.body(Empty::new())?).await?;
        let text = String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec())?;
        let finished = "cloakroom_operations_finished_total";
        Ok(Self {
            accepted: sum(&text, "cloakroom_operations_accepted_total", ""),
            finished: sum(&text, finished, ""),
            succeeded: sum(&text, finished, "outcome=\"succeeded\""),
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            accepted: self.accepted - before.accepted,
            finished: self.finished - before.finished,
            succeeded: self.succeeded - before.succeeded,
        }
    }
}

/// Waits until as many have finished as were accepted, as far as patience goes.
async fn until_finished(metrics: &Uri, before: Counted) -> Result<(Counted, Duration), Failure> {
    let start = Instant::now();
    loop {
        let counted = Counted::read(metrics).await?.since(before);
        if counted.finished >= counted.accepted || start.elapsed() > PATIENCE {
            return Ok((counted, start.elapsed()));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The sum of a metric's samples that carry a label.
fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    let of_name = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
    };
    let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    metrics.lines().filter(of_name).filter_map(value).sum()
}

async fn connect<B>(to: &Uri) -> Result<SendRequest<B>, Failure>
where
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Failure>,
{
    let stream = TcpStream::connect(authority(to)?).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn authority(of: &Uri) -> Result<&str, Failure> {
    Ok(of.authority().ok_or("a URL needs a host and a port")?.as_str())
}

fn path(of: &Uri) -> &str {
    of.path_and_query().map_or("/", |path| path.as_str())
}
