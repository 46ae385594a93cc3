//! Upstreams of a few lines, on real loopback sockets: what they read and write is
//! spelled out octet by octet.

mod asking;
mod calls;
mod forwarding;
mod monitors;
mod odd;
mod pooling;
mod redirects;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use url::Url;

use super::{
    BoxError, Call, CallBody, HeaderCase, ResponseBody, Reuse, SentMarker, Upstream, UpstreamError,
    UpstreamSettings,
};
use cloakroom_domain::job::JobWords;
use cloakroom_domain::operation::DeliveryGuarantee;
use cloakroom_domain::{Fields, Timestamp};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The upstream's end of a connection.
struct Peer(TcpStream);

impl Peer {
    /// The next request, head and body as they came; none when the client is gone.
    fn request(&mut self) -> Option<String> {
        let mut read = Vec::new();
        let mut octet = [0];
        while !read.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut octet) {
                Ok(1) => read.push(octet[0]),
                _ => return None,
            }
        }
        let head = String::from_utf8_lossy(&read).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |it| it.trim().parse().unwrap())];
        self.0.read_exact(&mut body).ok()?;
        read.extend_from_slice(&body);
        Some(String::from_utf8_lossy(&read).into_owned())
    }

    fn answer(&mut self, octets: &str) {
        self.0.write_all(octets.as_bytes()).unwrap();
    }
}

struct Listener(TcpListener);

impl Listener {
    fn accept(&self) -> Peer {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        Peer(stream)
    }
}

/// Runs an upstream on a thread of its own, and says where it is. What it notes down
/// arrives at the receiver.
fn serve<F>(script: F) -> (Url, UnboundedReceiver<String>)
where
    F: FnOnce(Listener, UnboundedSender<String>) + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let (notes, arrived) = unbounded_channel();
    std::thread::spawn(move || script(Listener(listener), notes));
    (url, arrived)
}

/// An upstream that answers each request on each connection the same, and notes the
/// connection's number and the request.
pub(super) fn serve_always(answer: &str) -> (Url, UnboundedReceiver<String>) {
    let answer = answer.to_owned();
    serve(move |listener, notes| {
        for number in 1.. {
            let (mut peer, notes, answer) = (listener.accept(), notes.clone(), answer.clone());
            std::thread::spawn(move || {
                while let Some(request) = peer.request() {
                    let _ = notes.send(format!("{number} {request}"));
                    peer.answer(&answer);
                }
            });
        }
    })
}

/// An address on which no server listens.
pub(super) fn nowhere() -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap()
}

fn settings(origin: Url) -> UpstreamSettings {
    UpstreamSettings {
        name: "orders".into(),
        origin,
        preserve_host: false,
        headers: Fields::new(),
        follow: Vec::new(),
        job_words: JobWords::default(),
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_mins(1),
        max_response: 1 << 24,
        unprocessed: Vec::new(),
        max_response_headers: 256 << 10,
        reuse: Reuse::Auto,
        header_case: HeaderCase::Lower,
    }
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_micros(1_000_000_000))
}

fn upstream(settings: UpstreamSettings) -> Upstream {
    Upstream::new(settings, clock(), &Tasks::new()).unwrap()
}

pub(super) fn at(origin: &Url) -> Upstream {
    upstream(settings(origin.clone()))
}

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let parsed = lines.iter().map(|(name, value)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    });
    parsed.collect()
}

pub(super) fn post(target: &str) -> Call {
    Call {
        method: Method::POST,
        target: target.to_owned(),
        fields: HeaderMap::new(),
        body: CallBody::from(Bytes::from_static(b"order")),
        delivery: DeliveryGuarantee::AtMostOnce,
        is_rechecked: false,
        marker: SentMarker::new(),
    }
}

async fn read(body: &mut ResponseBody) -> Result<String, UpstreamError> {
    let mut read = Vec::new();
    while let Some(octets) = body.piece().await? {
        read.extend_from_slice(&octets);
    }
    Ok(String::from_utf8(read).unwrap())
}

/// A call whose answer is read to the end.
pub(super) async fn complete(upstream: &Upstream, call: Call) -> Result<String, UpstreamError> {
    let mut reply = upstream.call(call).await?;
    read(&mut reply.body).await
}
