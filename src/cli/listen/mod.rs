//! `cloakroom listen`: a receiver of webhooks, to write one's own against.
//!
//! Owns what it answers. What it thinks of a delivery is in `book`, how it looks in `show`.

mod book;
mod show;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::print;
use super::serve::listen_for_signals;
use crate::clock::Clock;
use crate::domain::delivery::signature::CheckingKey;
use crate::domain::delivery::{BadKey, PublicKey, Secret};
use crate::lifecycle::Tasks;
use book::{Book, Seen};

const EXAMPLES: &str = "\
Examples:
  cloakroom listen --secret whsec_...            verify and print what arrives on port 9100
  cloakroom listen --fail 3                      answer 500 to the first three attempts of each
  cloakroom listen --slow 20s                    answer too late, and see it come again
  cloakroom listen --gone                        answer 410, which disables the subscription
  cloakroom listen --max 1 --json                end after one delivery: for scripts
The gateway delivers to loopback only if it is told to: webhooks.allow = [\"127.0.0.0/8\"],
webhooks.allow_http = true, webhooks.ports = [9100].";

/// The largest delivery that is read, in bytes.
const LARGEST: usize = 32 << 20;

/// Ends with 0 where every delivery was to be believed, and with 1 where one was not.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Listen {
    /// The port of 127.0.0.1 to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 9100)]
    port: u16,
    /// The subscription's secret, to verify with; again for another one that counts too.
    #[arg(long, value_name = "SECRET", value_parser = secret)]
    secret: Vec<Secret>,
    /// The public key, to verify v1a with.
    #[arg(long, value_name = "PUBLIC_KEY", value_parser = public_key)]
    key: Vec<PublicKey>,
    /// Answer 500 to so many attempts of each delivery before accepting it.
    #[arg(long, value_name = "TIMES", conflicts_with_all = ["status", "gone", "drop"])]
    fail: Option<u32>,
    /// Answer with this status.
    #[arg(long, default_value = "204", value_parser = status)]
    status: StatusCode,
    /// Take that long for each answer, like 20s.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    slow: Option<Duration>,
    /// Answer 410: nothing is wanted here any more.
    #[arg(long, conflicts_with_all = ["status", "drop"])]
    gone: bool,
    /// Read each delivery and close the connection without an answer.
    #[arg(long, conflicts_with = "status")]
    drop: bool,
    /// Print each delivery as one line of JSON.
    #[arg(long)]
    json: bool,
    /// End after so many deliveries.
    #[arg(long, value_name = "COUNT")]
    max: Option<u64>,
}

fn secret(text: &str) -> Result<Secret, BadKey> {
    Secret::parse(text)
}

fn public_key(text: &str) -> Result<PublicKey, BadKey> {
    PublicKey::parse(text)
}

fn status(text: &str) -> Result<StatusCode, String> {
    let code = text.parse().ok().filter(|code| (200..=599).contains(code));
    let status = code.and_then(|code| StatusCode::from_u16(code).ok());
    status.ok_or_else(|| "a status is a number from 200 to 599".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let read = text.parse::<jiff::SignedDuration>().ok();
    let says = || format!("`{text}` is not a duration; write one like 500ms or 20s");
    read.and_then(|duration| duration.try_into().ok()).ok_or_else(says)
}

impl Listen {
    /// Listens until it is interrupted, or has had enough.
    pub(super) async fn run(self, clock: Clock) -> Result<(), Failure> {
        let mut signals = listen_for_signals()?;
        let tasks = Tasks::new();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|error| {
            Failure::Failed(format!("cannot listen on {address}: {error}; choose another --port"))
        })?;
        let address = listener.local_addr().map_err(|e| Failure::Failed(e.to_string()))?;
        print::complain(&format!("listening on http://{address}/"))?;
        let receiver = Receiver::new(self, clock);
        if receiver.keys.is_empty() {
            print::complain("note: nothing is verified; give the --secret of the subscription")?;
        }
        let receiver = Arc::new(receiver);
        let accepting = accept(listener, Arc::clone(&receiver), tasks.clone());
        tasks.spawn_until_cut(accepting);
        tokio::select! {
            () = receiver.enough.cancelled() => {}
            _ = signals.next() => {}
        }
        // The last answer still goes out.
        tasks.drain();
        tasks.ended(&receiver.clock, Duration::from_secs(1), Duration::from_secs(1)).await;
        receiver.verdict()
    }
}

async fn accept(listener: TcpListener, receiver: Arc<Receiver>, tasks: Tasks) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tasks.draining() => return,
        };
        if let Ok((stream, _)) = accepted {
            tasks.spawn_until_cut(serve(stream, Arc::clone(&receiver), tasks.clone()));
        }
    }
}

async fn serve(stream: TcpStream, receiver: Arc<Receiver>, tasks: Tasks) {
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(receiver.clock.clone());
    let answer = service_fn(|request| receiver.answer(request));
    let connection = server.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    // Whoever sends sees for itself how a connection ended.
    let ended = tokio::select! {
        _ = connection.as_mut() => true,
        () = tasks.draining() => false,
    };
    if !ended {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
    // Only now: the last answer has gone out.
    if receiver.last.load(Ordering::SeqCst) {
        receiver.enough.cancel();
    }
}

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("dropped")]
struct Dropped;

struct Receiver {
    asked: Listen,
    keys: Vec<CheckingKey>,
    clock: Clock,
    book: Mutex<Book>,
    /// The delivery that is being answered is the last one.
    last: AtomicBool,
    enough: CancellationToken,
}

impl Receiver {
    fn new(asked: Listen, clock: Clock) -> Self {
        let secrets = asked.secret.iter().cloned().map(CheckingKey::Secret);
        let keys = secrets.chain(asked.key.iter().cloned().map(CheckingKey::Public)).collect();
        Self {
            asked,
            keys,
            clock,
            book: Mutex::default(),
            last: AtomicBool::new(false),
            enough: CancellationToken::new(),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Dropped> {
        if request.method() == Method::OPTIONS {
            return Ok(allowing());
        }
        let (head, body) = request.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(|_| Dropped)?.to_bytes();
        let seen = {
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            book.enter(&head.headers, &body, &self.keys, self.clock.now())
        };
        let answer = self.answer_to(&seen);
        let shown = match self.asked.json {
            true => show::json(&seen, answer).to_string(),
            false => show::text(&seen, answer),
        };
        if let Some(slow) = self.asked.slow {
            self.clock.sleep(slow).await;
        }
        let mut response = Response::new(Full::new(Bytes::new()));
        if print::say(&shown).is_err() || self.asked.max.is_some_and(|most| seen.number >= most) {
            self.last.store(true, Ordering::SeqCst);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        *response.status_mut() = answer.ok_or(Dropped)?;
        Ok(response)
    }

    /// The status that a delivery is answered with; none where it is dropped.
    fn answer_to(&self, seen: &Seen) -> Option<StatusCode> {
        if self.asked.drop {
            return None;
        }
        Some(match self.asked.fail {
            _ if self.asked.gone => StatusCode::GONE,
            _ if seen.trust.is_err() => StatusCode::UNAUTHORIZED,
            Some(times) if seen.times <= times => StatusCode::INTERNAL_SERVER_ERROR,
            _ => self.asked.status,
        })
    }

    fn verdict(&self) -> Result<(), Failure> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        match book.unbelieved() {
            0 => Ok(()),
            number => Err(Failure::Failed(format!("{number} deliveries were not to be believed"))),
        }
    }
}

/// What `CloudEvents` asks for before it sends anything.
fn allowing() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    for name in ["webhook-allowed-origin", "webhook-allowed-rate"] {
        response.headers_mut().insert(name, HeaderValue::from_static("*"));
    }
    response
}
