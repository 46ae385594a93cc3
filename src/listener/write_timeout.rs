//! The time limit on a client that does not read its response.
//!
//! Its invariants: a client that reads anything at all, however slowly, keeps its connection; a client
//! that reads nothing loses it soon after the limit, however much the system still buffers. It must not
//! know what is written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::SendFlags;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::deadline_timer::DeadlineTimer;
use cloakroom_domain::Timestamp;
use cloakroom_runtime::clock::Clock;

/// How often within the limit it is looked whether anything was taken. The system's own buffer
/// grows for some time while a client takes nothing; so seldom a look would take each growth for
/// a sign of the client, and begin anew.
const LOOKS: u32 = 8;

/// The deadlines of a write that waits for the client.
#[derive(Clone, Copy)]
struct WriteDeadlines {
    over_at: Timestamp,
    look_at: Timestamp,
}

/// The writing side of a connection.
pub(super) struct TimedWriter {
    timer: DeadlineTimer,
    limit: Duration,
    wait: Option<WriteDeadlines>,
}

impl TimedWriter {
    pub(super) const fn new(clock: Clock, limit: Duration) -> Self {
        Self { timer: DeadlineTimer::new(clock), limit, wait: None }
    }

    /// Whether octets wait to be written.
    pub(super) const fn is_blocked(&self) -> bool {
        self.wait.is_some()
    }

    /// Writes; an error of the kind `TimedOut` once nothing was taken for too long.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut TcpStream,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *stream).poll_write(context, octets);
        self.looked(stream, context, polled, octets)
    }

    /// The same for octets that lie apart.
    pub(super) fn poll_write_vectored(
        &mut self,
        stream: &mut TcpStream,
        context: &mut Context<'_>,
        octets: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *stream).poll_write_vectored(context, octets);
        let first = octets.iter().find(|slice| !slice.is_empty());
        self.looked(stream, context, polled, first.map_or(&[], |slice| slice))
    }

    fn looked(
        &mut self,
        stream: &TcpStream,
        context: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        if polled.is_ready() {
            self.wait = None;
            return polled;
        }
        let now = self.timer.now();
        let (limit, pause) = (self.limit, self.limit / LOOKS);
        let begun = || WriteDeadlines { over_at: now + limit, look_at: now + pause };
        let WriteDeadlines { over_at, mut look_at } = *self.wait.get_or_insert_with(begun);
        loop {
            ready!(self.timer.poll_until(context, look_at));
            // The system wakes a writer only once a third of its buffer is free. Whether the
            // client has taken anything since then shows in whether the buffer takes anything.
            match rustix::net::send(stream, octets, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(taken) if taken > 0 => {
                    self.wait = None;
                    return Poll::Ready(Ok(taken));
                }
                Ok(_) | Err(rustix::io::Errno::AGAIN) if look_at < over_at => {
                    look_at = (self.timer.now() + pause).min(over_at);
                    self.wait = Some(WriteDeadlines { over_at, look_at });
                }
                Ok(_) | Err(rustix::io::Errno::AGAIN) => {
                    // What lies in the buffer would be kept for a client that does not want it.
                    let _ = stream.set_zero_linger();
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}
