//! Upgraded connections: from one protocol to the same one behind the gateway.
//!
//! Owns which upgrades there are, and copying both ways. It must not know what is said
//! in a tunnel.

use http::{HeaderMap, HeaderValue, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::lifecycle::Tasks;
use crate::listener::Occupied;

/// The protocol that a request asks to be upgraded to, if that is one of these (in lower
/// case). A list of several is none: the upstream's choice could not be told.
pub(super) fn protocol(headers: &HeaderMap, upgrades: &[String]) -> Option<HeaderValue> {
    let mut asked = headers.get_all(header::UPGRADE).iter();
    let (protocol, None) = (asked.next()?, asked.next()) else { return None };
    let text = protocol.to_str().ok()?;
    let known = upgrades.iter().any(|one| one.eq_ignore_ascii_case(text) && one != "h2c");
    (known && connection_says_so(headers)).then(|| protocol.clone())
}

fn connection_says_so(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("upgrade"))
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
        let is_upgrade = |headers: &HeaderMap| protocol(headers, &upgrades).is_some();
        assert!(is_upgrade(&asking("WebSocket", "keep-alive, Upgrade")));
        assert!(!is_upgrade(&asking("websocket", "keep-alive")));
        assert!(!is_upgrade(&asking("h2c", "upgrade")));
        assert!(!is_upgrade(&asking("websocket, h2c", "upgrade")));
        assert!(!is_upgrade(&HeaderMap::new()));
    }
}
