//! Detection of a client that disconnects before its response.
//!
//! Owns the meaning of the end of a client's side. Its invariant: a client whose request is complete
//! gets its response although it closed its side. Such an end counts as a disconnect only where the
//! work is for this client alone, and only after a grace period. It must not know what is asked.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::deadline_timer::DeadlineTimer;
use cloakroom_domain::Timestamp;
use cloakroom_runtime::clock::Clock;

/// How long an answer may take to begin after the client has ended its side: a client that has
/// closed its connection looks the same until it is sent something.
const GRACE: Duration = Duration::from_secs(5);

/// How often it is looked whether the kernel has found out meanwhile that the client has gone: a
/// closed connection is known by its answer to what [`super::keepalive`] has the kernel ask.
const AGAIN: Duration = Duration::from_secs(15);

/// The watch for a client that leaves.
pub(super) struct DisconnectWatch {
    timer: DeadlineTimer,
    /// When the client ended its side, and when to look again.
    ended: Option<(Timestamp, Timestamp)>,
}

impl DisconnectWatch {
    pub(super) const fn new(clock: Clock) -> Self {
        Self { timer: DeadlineTimer::new(clock), ended: None }
    }

    /// Looks whether the client is still there; an error once it is not. `is_for_client` where
    /// nothing is left to do once it has gone.
    pub(super) fn look(
        &mut self,
        stream: &TcpStream,
        context: &mut Context<'_>,
        is_for_client: bool,
    ) -> io::Result<()> {
        let mut octet = [0; 1];
        let mut buffer = ReadBuf::new(&mut octet);
        match stream.poll_peek(context, &mut buffer) {
            // The connection was reset: this client reads nothing any more.
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Ready(Ok(0)) => {}
            _ => {
                self.ended = None;
                return Ok(());
            }
        }
        let now = self.timer.now();
        let (since, mut look_at) = self.ended.unwrap_or((now, now));
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        if is_for_client && now >= since + GRACE {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if now >= look_at {
            look_at = now + AGAIN;
        }
        self.ended = Some((since, look_at));
        let due = if is_for_client { look_at.min(since + GRACE) } else { look_at };
        if self.timer.poll_until(context, due).is_ready() {
            // The clock went on in between.
            context.waker().wake_by_ref();
        }
        Ok(())
    }
}
