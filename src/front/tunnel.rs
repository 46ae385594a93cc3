//! Upgraded connections: from one protocol to the same one behind the gateway.
//!
//! Owns which upgrades there are, and copying both ways. It must not know what is said
//! in a tunnel.

use http::{HeaderMap, HeaderValue, Method, Version, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::lifecycle::Tasks;
use crate::listener::Occupied;

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

/// Copies between client and upstream until both have ended, or the gateway lets go.
/// `occupied` keeps the client's connection from counting as idle.
pub(super) fn open(
    tasks: &Tasks,
    client: OnUpgrade,
    upstream: OnUpgrade,
    occupied: Option<Occupied>,
) {
    tasks.spawn_until_cut(async move {
        let (client, upstream) = match tokio::try_join!(client, upstream) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "a tunnel did not open");
                return;
            }
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
            tracing::debug!(%error, "a tunnel broke off");
        }
        drop(occupied);
    });
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
