//! The departure of a client before its answer.
//!
//! Owns what the end of a client's side means. Its invariant: a client whose request came whole
//! gets its answer, though it has ended its side; only where the work is nobody's but the
//! client's is such an end taken for a departure, and not at once. It must not know what is
//! asked.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::alarm::Alarm;
use crate::clock::Clock;
use crate::domain::Timestamp;

/// How long an answer may take to begin after the client has ended its side: a client that has
/// closed its connection looks the same until it is sent something.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// The watch for a client that leaves.
pub(super) struct Departure {
    alarm: Alarm,
    // Set once the client has ended its side.
    until: Option<Timestamp>,
}

impl Departure {
    pub(super) const fn new(clock: Clock) -> Self {
        Self { alarm: Alarm::new(clock), until: None }
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
            Poll::Ready(Ok(0)) if is_for_client => {}
            _ => {
                self.until = None;
                return Ok(());
            }
        }
        let until = *self.until.get_or_insert_with(|| self.alarm.now() + GRACE);
        match self.alarm.poll_until(context, until) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}
