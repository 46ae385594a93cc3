//! The delay between a finish at one node and a held client's answer at another.
//!
//! `finishes FRONT OTHER COUNT`: orders are posted to the node at FRONT, and asked for with
//! `Prefer: wait` at the one at OTHER, both `http://host:port`. The upstream takes 50 to
//! 150 ms and tells in its answer when it gave it; the client has its 303 so much later.
//! Only those count that were held by then. It prints one line of `name=value`.

use bytes::Bytes;
use cloakroom_bench::client::{Client, path};
use cloakroom_bench::orders::{order, posted};
use cloakroom_bench::spread::Spread;
use cloakroom_bench::{Failure, micros};
use hyper::header::LOCATION;
use hyper::{Request, Uri};

/// How many clients there are, each with one order at a time.
const CLIENTS: u32 = 8;

#[derive(Default)]
struct Tally {
    took: Spread,
    late: u32,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [front, other, count] = arguments.as_slice() else {
        return Err("usage: finishes FRONT OTHER COUNT".into());
    };
    let (front, other): (Uri, Uri) = (front.parse()?, other.parse()?);
    let count: u32 = count.parse()?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let (at_front, at_other) = (Client::connect(&front).await?, Client::connect(&other).await?);
        let orders = (number..count).step_by(CLIENTS as usize);
        clients.push(tokio::spawn(client(at_front, at_other, orders)));
    }
    let mut tally = Tally::default();
    for client in clients {
        let one = client.await??;
        tally.took.append(one.took);
        tally.late += one.late;
    }
    let [half, most, all] = tally.took.within([0.5, 0.99, 1.0]);
    println!(
        "count={} late={} p50_ms={half:.1} p99_ms={most:.1} max_ms={all:.1}",
        tally.took.count(),
        tally.late
    );
    Ok(())
}

async fn client(
    mut front: Client,
    mut other: Client,
    orders: impl Iterator<Item = u32>,
) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    for number in orders {
        // Spread, so that not all of them end at once.
        let target = format!("/after/{}", 50 + number * 37 % 101);
        let accepted = front.send(posted(&target), order()).await?;
        let monitor = accepted.headers().get(LOCATION).ok_or("no monitor")?;
        let monitor: Uri = monitor.to_str()?.parse()?;
        let held_since = micros();
        let held = Request::get(path(&monitor)).header("prefer", "wait=20");
        let answer = other.send(held, Bytes::new()).await?;
        let told_at = micros();
        if answer.status().as_u16() != 303 {
            return Err(format!("the monitor answers {}", answer.status()).into());
        }
        let result = other.get(&format!("{}/result", path(&monitor))).await?;
        let answered_at = answered_at(std::str::from_utf8(result.body())?)?;
        if held_since < answered_at {
            tally.took.add_micros(told_at.saturating_sub(answered_at));
        } else {
            tally.late += 1;
        }
    }
    Ok(tally)
}

/// When the upstream says that it answered.
fn answered_at(document: &str) -> Result<u64, Failure> {
    let says = document.split_once("\"answeredAt\":").and_then(|(_, rest)| rest.split('}').next());
    Ok(says.ok_or_else(|| format!("no time in {document}"))?.parse()?)
}
