//! The keep-alive of a client's connection in the kernel.
//!
//! Owns how soon the kernel notices a client that vanished without a word: a machine that lost its
//! power, a network that drops packets. It must not know what the connection is for.

use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// How long nothing may come before the peer is asked whether it is there.
const ASKED_AFTER: Duration = Duration::from_mins(1);
/// How often it is asked, and how soon again.
const QUESTIONS: u32 = 4;
const BETWEEN: Duration = Duration::from_secs(15);
/// How long octets may go without a sign that they have arrived, at least.
const UNCONFIRMED: Duration = Duration::from_mins(2);

/// Has the kernel end a connection whose peer has vanished, or has taken nothing for longer
/// than `write_timeout`. Where it cannot be asked for, such a connection lasts longer.
pub(super) fn watch(stream: &TcpStream, write_timeout: Duration) {
    let unconfirmed = write_timeout.max(UNCONFIRMED).as_millis();
    let asked = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, ASKED_AFTER))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, BETWEEN))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, QUESTIONS))
        .and_then(|()| {
            let limit = u32::try_from(unconfirmed).unwrap_or(u32::MAX);
            sockopt::set_tcp_user_timeout(stream, limit)
        });
    if let Err(error) = asked {
        tracing::debug!(%error, "the kernel does not watch over a connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watched_connection_has_its_peer_asked_and_its_octets_confirmed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        watch(&stream, Duration::from_mins(5));
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), ASKED_AFTER);
        assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap(), BETWEEN);
        assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), QUESTIONS);
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 300_000);
    }
}
