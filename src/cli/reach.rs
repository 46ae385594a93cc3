//! The reachability check of upstreams at start.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;

use crate::config::{Config, UpstreamConfig};
use cloakroom_runtime::clock::Clock;

/// How long a connection may take to open.
pub(super) const REACHING: Duration = Duration::from_secs(3);

/// Opens a connection to an upstream and closes it again; why that did not work, if so.
pub(super) async fn upstream(upstream: &UpstreamConfig, clock: &Clock) -> Result<(), String> {
    let url = &upstream.url;
    let port = url.port_or_known_default().unwrap_or(80);
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    match clock.timeout(REACHING, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {} s", REACHING.as_secs())),
    }
}

/// Warns of every upstream that cannot be reached, and then waits for ever. Nothing is held up
/// by that: an upstream may well start later.
pub(super) async fn upstreams(config: &Config, clock: &Clock) -> Infallible {
    let looks = config.upstreams.iter().map(|(name, it)| async move {
        if let Err(why) = upstream(it, clock).await {
            tracing::warn!(
                upstream = name,
                url = %it.url,
                why,
                "an upstream cannot be reached; what is accepted for it waits, and what is passed on \
                 to it is answered 502; start it, or correct its url"
            );
        }
    });
    join_all(looks).await;
    std::future::pending().await
}
