//! Healthy receivers of webhooks: each reads a message, counts it, and answers 204.
//!
//! `receivers COUNT` serves so many of them, each on a port of its own, which it prints
//! behind where it tells what they got: `GET /told` says how many messages came, how many
//! of them were no repetition, and how many carried no id or no signature. `POST /forget`
//! makes it begin anew.
//!
//! They cost little more than HTTP does: what they take is taken from what is measured.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use bytes::Bytes;
use cloakroom_bench::Failure;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

static RECEIVED: AtomicU64 = AtomicU64::new(0);
static DISTINCT: AtomicU64 = AtomicU64::new(0);
static UNSIGNED: AtomicU64 = AtomicU64::new(0);

/// The ids that a receiver has seen.
#[derive(Default)]
struct Seen(Mutex<HashSet<String>>);

impl Seen {
    fn ids(&self) -> MutexGuard<'_, HashSet<String>> {
        // Each change leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread serves them all: with more, they would wake one another for each message.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let count = std::env::args().nth(1).ok_or("usage: receivers COUNT")?.parse()?;
    let all: Vec<Arc<Seen>> = (0..count).map(|_| Arc::default()).collect();
    let mut ports = Vec::new();
    for seen in &all {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ports.push(listener.local_addr()?.port().to_string());
        tokio::spawn(listen(listener, Arc::clone(seen)));
    }
    println!("receivers at {}", ports.join(","));
    let router = Router::new()
        .route("/told", get(told))
        .route("/forget", post(move || async move { forget(&all) }));
    cloakroom_bench::serve(router).await
}

/// Serves each connection until it ends.
async fn listen(listener: TcpListener, seen: Arc<Seen>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let seen = Arc::clone(&seen);
        let service = service_fn(move |request| receive(Arc::clone(&seen), request));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

async fn receive(
    seen: Arc<Seen>,
    request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut octets = 0;
    while let Some(Ok(frame)) = body.frame().await {
        octets += frame.data_ref().map_or(0, Bytes::len);
    }
    count(&seen, &head.headers, octets);
    let mut answer = Response::new(Empty::new());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    Ok(answer)
}

fn count(seen: &Seen, fields: &HeaderMap, octets: usize) {
    RECEIVED.fetch_add(1, Ordering::Relaxed);
    let field = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    let signed = field("webhook-signature").is_some_and(|it| it.starts_with("v1,") && it.len() > 3);
    match field("webhook-id") {
        Some(id) if signed && octets > 0 => {
            if seen.ids().insert(id.to_owned()) {
                DISTINCT.fetch_add(1, Ordering::Relaxed);
            }
        }
        _ => {
            UNSIGNED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn told() -> String {
    let [received, distinct, unsigned] =
        [&RECEIVED, &DISTINCT, &UNSIGNED].map(|count| count.load(Ordering::Relaxed));
    format!("received={received} distinct={distinct} unsigned={unsigned}")
}

fn forget(all: &[Arc<Seen>]) {
    all.iter().for_each(|seen| seen.ids().clear());
    for count in [&RECEIVED, &DISTINCT, &UNSIGNED] {
        count.store(0, Ordering::Relaxed);
    }
}
