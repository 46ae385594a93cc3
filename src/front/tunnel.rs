//! Tunnels: upgraded connections between a client and an upstream.
//!
//! Owns which upgrades there are, copying both ways, and how a tunnel ends when the gateway
//! stops. It must not know what is said in a tunnel.

use std::io;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Version, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Lifecycles;
use crate::listener::ExchangeGuard;
use cloakroom_domain::http::websocket::{self, Frames};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// How long both sides of a tunnel have to end it once they were told that it ends.
const CLOSING: Duration = Duration::from_secs(5);
/// How much is copied at once, in octets.
const PIECE: usize = 8 * 1024;

/// The protocol that a request asks to be upgraded to, if that is one of these (in lower
/// case). A list of several is none: the upstream's choice could not be told. Only a GET
/// without a body is upgraded: anything else would be a request that is carried out beside
/// its tunnel. HTTP/1.0 has no upgrades (RFC 9110 section 7.8).
pub(super) fn protocol(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
    upgrades: &[String],
) -> Option<HeaderValue> {
    if method != Method::GET || version != Version::HTTP_11 || has_body(headers) {
        return None;
    }
    let mut asked = headers.get_all(header::UPGRADE).iter();
    let (protocol, None) = (asked.next()?, asked.next()) else { return None };
    let text = protocol.as_bytes();
    let is_known = |one: &&String| one.as_bytes().eq_ignore_ascii_case(text) && *one != "h2c";
    let known = upgrades.iter().find(is_known).is_some();
    (known && connection_says_so(headers)).then(|| protocol.clone())
}

fn has_body(headers: &HeaderMap) -> bool {
    let is_empty = |length: &HeaderValue| length.as_bytes().iter().all(|digit| *digit == b'0');
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| !is_empty(length))
}

fn connection_says_so(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|octet| *octet == b','))
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// A tunnel that is about to open.
pub(super) struct Tunnel {
    /// Both ends.
    pub(super) client: OnUpgrade,
    pub(super) upstream: OnUpgrade,
    /// The protocol of the tunnel.
    pub(super) protocol: HeaderValue,
    /// Keeps the client's connection from counting as idle, and its place among all others.
    pub(super) occupied: Option<ExchangeGuard>,
}

impl Tunnel {
    /// Copies both ways until both ends have ended, or the gateway stops. One that is open when
    /// the gateway begins to stop is closed then; one that opens after that, with all other
    /// connections.
    pub(super) fn open(self, lifecycles: &Lifecycles, clock: Clock) {
        let Lifecycles { own, engine } = lifecycles;
        let stop = if engine.is_draining() { own.clone() } else { engine.clone() };
        own.spawn_until_cut(async move {
            let Self { client, upstream, protocol, occupied } = self;
            let (client, upstream) = match tokio::try_join!(client, upstream) {
                Ok(both) => both,
                Err(error) => {
                    tracing::debug!(%error, "a tunnel did not open");
                    return;
                }
            };
            let both = copy(client, upstream, is_websocket(&protocol), &stop);
            let late = async {
                stop.draining().await;
                clock.sleep(CLOSING).await;
            };
            tokio::select! {
                ended = both => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a tunnel was cut");
                    }
                }
                () = late => tracing::debug!("a tunnel was not closed in time"),
            }
            drop(occupied);
        });
    }
}

fn is_websocket(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
}

async fn copy(
    client: Upgraded,
    upstream: Upgraded,
    is_websocket: bool,
    stop: &Tasks,
) -> io::Result<()> {
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_upstream, to_upstream) = tokio::io::split(TokioIo::new(upstream));
    let farewell =
        |frame: Vec<u8>| is_websocket.then(|| Farewell { frame, frames: Frames::default() });
    let down = Direction {
        from: from_upstream,
        to: to_client,
        farewell: farewell(websocket::close_to_client()),
    };
    let up = Direction {
        from: from_client,
        to: to_upstream,
        farewell: farewell(websocket::close_to_server(rand::random())),
    };
    tokio::try_join!(down.copy(stop), up.copy(stop)).map(|_| ())
}

/// One of the two ways through a tunnel.
struct Direction<R, W> {
    from: R,
    to: W,
    /// The last message before its end, where the protocol has one.
    farewell: Option<Farewell>,
}

/// The last frame, and whether it may be sent now: never within another one.
struct Farewell {
    frame: Vec<u8>,
    frames: Frames,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Direction<R, W> {
    async fn copy(mut self, stop: &Tasks) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            let may_close = self.farewell.as_ref().is_none_or(|it| it.frames.is_between());
            let count = tokio::select! {
                biased;
                () = stop.draining(), if may_close => return self.close(&mut buffer).await,
                count = self.from.read(&mut buffer) => count?,
            };
            if count == 0 {
                return self.to.shutdown().await;
            }
            let end = self.farewell.as_mut().and_then(|it| it.frames.follow(&buffer[..count]));
            if let Some(end) = end.filter(|_| stop.is_draining()) {
                self.to.write_all(&buffer[..end]).await?;
                return self.close(&mut buffer).await;
            }
            self.to.write_all(&buffer[..count]).await?;
            self.to.flush().await?;
        }
    }

    /// Says farewell, and waits until the other side has had its say as well.
    async fn close(mut self, buffer: &mut [u8]) -> io::Result<()> {
        if let Some(Farewell { frame, .. }) = &self.farewell {
            self.to.write_all(frame).await?;
        }
        self.to.shutdown().await?;
        while self.from.read(buffer).await? > 0 {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(upgrade: &'static str, connection: &'static str) -> HeaderMap {
        let value = HeaderValue::from_static;
        HeaderMap::from_iter([
            (header::UPGRADE, value(upgrade)),
            (header::CONNECTION, value(connection)),
        ])
    }

    #[test]
    fn only_listed_protocols_that_the_connection_field_names_are_upgrades() {
        let upgrades = ["websocket".to_owned(), "h2c".to_owned()];
        let is_upgrade = |headers: &HeaderMap| {
            protocol(&Method::GET, Version::HTTP_11, headers, &upgrades).is_some()
        };
        assert!(is_upgrade(&asking("WebSocket", "keep-alive, Upgrade")));
        assert!(!is_upgrade(&asking("websocket", "keep-alive")));
        assert!(!is_upgrade(&asking("h2c", "upgrade")));
        assert!(!is_upgrade(&asking("websocket, h2c", "upgrade")));
        assert!(!is_upgrade(&HeaderMap::new()));
    }

    #[test]
    fn only_a_get_of_http_1_1_without_a_body_is_an_upgrade() {
        let upgrades = ["websocket".to_owned()];
        let with = |name, value| {
            let mut headers = asking("websocket", "upgrade");
            headers.insert(name, HeaderValue::from_static(value));
            protocol(&Method::GET, Version::HTTP_11, &headers, &upgrades).is_some()
        };
        assert!(with(header::CONTENT_LENGTH, "0"));
        assert!(!with(header::CONTENT_LENGTH, "1") && !with(header::CONTENT_LENGTH, "00010"));
        assert!(!with(header::TRANSFER_ENCODING, "chunked"));
        let headers = asking("websocket", "upgrade");
        for (method, version) in [
            (Method::POST, Version::HTTP_11),
            (Method::HEAD, Version::HTTP_11),
            (Method::GET, Version::HTTP_10),
        ] {
            assert!(protocol(&method, version, &headers, &upgrades).is_none(), "{method}");
        }
    }
}
