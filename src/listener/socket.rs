//! The socket of a client, and its header and idle timeouts.
//!
//! Owns two limits that hyper does not tell apart: how long a head may take once it has begun, and how
//! long a connection may be idle between two exchanges. Its invariant: neither runs while an exchange
//! is active or octets of a response wait to be written.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::content_length::ContentLengthScan;
use super::deadline_timer::DeadlineTimer;
use super::disconnect::DisconnectWatch;
use super::write_timeout::TimedWriter;
use super::{ListenerLimits, ReceiveError, head_error};
use cloakroom_domain::Timestamp;
use cloakroom_runtime::clock::Clock;

/// How long a refused body is still read after the answer: closing on unread octets resets the
/// connection, and the client loses the answer. Clients that send everything before they read
/// (Python's) need all of it read, however much that is, so only time is limited.
const LINGER: Duration = Duration::from_secs(10);
/// How long a client may keep still meanwhile.
const LINGER_IDLE: Duration = Duration::from_secs(2);

/// hyper sends this only where `Expect` has nothing else in it.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Whether exchanges go on over a connection.
#[derive(Debug, Default)]
pub(super) struct ActiveExchanges {
    users: AtomicUsize,
    exchanges: AtomicU64,
    unread: AtomicBool,
    owes_continue: AtomicBool,
    was_too_slow: AtomicBool,
    broke_off: AtomicBool,
    is_for_client: AtomicBool,
    breaks_off: AtomicBool,
    has_broken_off: AtomicBool,
    waker: AtomicWaker,
    // Among the connections that may be open at once. An upgraded one keeps it, too.
    _place: Option<OwnedSemaphorePermit>,
}

impl ActiveExchanges {
    /// That of a connection which takes up a place.
    pub(super) fn of(place: Option<OwnedSemaphorePermit>) -> Self {
        Self { _place: place, ..Self::default() }
    }

    /// An exchange begins.
    pub(super) fn enter(self: &Arc<Self>) -> ExchangeGuard {
        self.exchanges.fetch_add(1, Ordering::AcqRel);
        self.users.fetch_add(1, Ordering::AcqRel);
        ExchangeGuard(Arc::clone(self))
    }

    fn is_busy(&self) -> bool {
        self.users.load(Ordering::Acquire) > 0
    }
}

/// Keeps a connection from counting as idle for as long as it, or a clone, lives.
#[derive(Debug)]
pub struct ExchangeGuard(Arc<ActiveExchanges>);

impl ExchangeGuard {
    /// Whether a request's body came too slowly on this connection: no other follows it.
    pub fn was_too_slow(&self) -> bool {
        self.0.was_too_slow.load(Ordering::Acquire)
    }

    /// Whether a request's body broke off on this connection: no other follows it.
    pub fn broke_off(&self) -> bool {
        self.0.broke_off.load(Ordering::Acquire)
    }

    pub(super) fn failed(&self, error: &ReceiveError) {
        let mark = match error {
            ReceiveError::TooSlow => &self.0.was_too_slow,
            ReceiveError::Broken(_) => &self.0.broke_off,
        };
        mark.store(true, Ordering::Release);
    }

    pub(super) fn left_unread(&self) {
        self.0.unread.store(true, Ordering::Release);
    }

    /// Whether a request's body was let go before its end: no other request follows it.
    pub(super) fn has_left_unread(&self) -> bool {
        self.0.unread.load(Ordering::Acquire)
    }

    /// Nothing is left to do of this exchange once the client has gone, until its answer begins.
    pub fn is_for_client(&self) {
        self.0.is_for_client.store(true, Ordering::Release);
    }

    /// The answer begins: whether the client has gone shows in what it takes.
    pub(super) fn has_answer(&self) {
        self.0.is_for_client.store(false, Ordering::Release);
    }

    /// The answer does not come to its end. What there is of it goes out, then the connection ends.
    pub(super) fn breaks_off(&self) {
        self.0.breaks_off.store(true, Ordering::Release);
        // What the client has sent beyond this exchange would reset the connection, and the client
        // would lose what there is of the answer.
        self.left_unread();
    }

    /// Whether all that there is of such an answer has gone out.
    pub(super) fn has_broken_off(&self) -> bool {
        self.0.has_broken_off.load(Ordering::Acquire)
    }

    /// The body is wanted now, and hyper will not say so by itself.
    pub(super) fn owe_continue(&self) {
        self.0.owes_continue.store(true, Ordering::Release);
        // hyper may have looked at the socket before the body was wanted.
        self.0.waker.wake();
    }
}

impl Clone for ExchangeGuard {
    fn clone(&self) -> Self {
        self.0.users.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for ExchangeGuard {
    fn drop(&mut self) {
        if self.0.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.waker.wake();
        }
    }
}

/// The deadlines for reading the rest of a refused body.
#[derive(Clone, Copy)]
struct LingerDeadlines {
    over_at: Timestamp,
    idle_at: Timestamp,
}

/// The deadline while no exchange is active.
#[derive(Clone, Copy)]
enum IdleDeadline {
    /// A head that has begun, or the first one.
    Head(Timestamp),
    /// Whatever comes next.
    Anything(Timestamp),
}

/// A client's socket.
pub(super) struct Socket {
    stream: TcpStream,
    active: Arc<ActiveExchanges>,
    timer: DeadlineTimer,
    header_timeout: Duration,
    idle_timeout: Duration,
    idle_deadline: IdleDeadline,
    exchanges: u64,
    linger: Option<LingerDeadlines>,
    writer: TimedWriter,
    disconnect: DisconnectWatch,
    // Some octets of the head that is awaited have come.
    has_begun: bool,
    head_limits: head_error::HeadLimits,
    content_length: ContentLengthScan,
    // The answers of so many exchanges have been written whole.
    answered: u64,
    // What is written in place of hyper's own refusal, before anything else.
    owed: Vec<u8>,
}

impl Socket {
    pub(super) fn new(
        stream: TcpStream,
        active: Arc<ActiveExchanges>,
        clock: Clock,
        limits: &ListenerLimits,
    ) -> Self {
        Self {
            stream,
            active,
            idle_deadline: IdleDeadline::Head(clock.now() + limits.header_timeout),
            writer: TimedWriter::new(clock.clone(), limits.write_timeout),
            disconnect: DisconnectWatch::new(clock.clone()),
            timer: DeadlineTimer::new(clock),
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            exchanges: 0,
            linger: None,
            has_begun: false,
            head_limits: head_error::HeadLimits {
                headers: limits.max_headers,
                body: limits.max_body,
            },
            content_length: ContentLengthScan::default(),
            answered: 0,
            owed: Vec::new(),
        }
    }

    /// Takes hyper's own refusal out of what it writes, and owes a problem instead. It is
    /// hyper's own where every exchange has been answered and none goes on.
    fn replaces(&mut self, octets: &[u8]) -> bool {
        let is_own = !self.active.is_busy()
            && self.answered == self.active.exchanges.load(Ordering::Acquire);
        let is_long = self.content_length.is_beyond();
        let instead = || head_error::instead_of(octets, self.head_limits, is_long);
        let Some(problem) = is_own.then(instead).flatten() else { return false };
        self.owed = problem;
        // What is left of the request would reset the connection, and with it the answer.
        self.active.unread.store(true, Ordering::Release);
        true
    }

    fn poll_owed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.owed.is_empty() {
            let Self { writer, stream, owed, .. } = self;
            let written = ready!(writer.poll_write(stream, context, owed))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.owed.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Octets came: if they begin a head, it has to be whole in time.
    fn came(&mut self, octets: &[u8]) {
        if self.active.is_busy() {
            return;
        }
        self.note_exchanges();
        self.content_length.note(octets);
        self.has_begun = true;
        if let IdleDeadline::Anything(_) = self.idle_deadline {
            self.idle_deadline = IdleDeadline::Head(self.timer.now() + self.header_timeout);
        }
    }

    /// Nothing came: ready when that has gone on for too long.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.active.waker.register(context.waker());
        if self.active.is_busy() {
            return Poll::Pending;
        }
        self.note_exchanges();
        if self.writer.is_blocked() {
            // It has no time to be idle before the client has taken the last answer.
            self.idle_deadline = IdleDeadline::Anything(self.timer.now() + self.idle_timeout);
            return Poll::Pending;
        }
        let (IdleDeadline::Head(until) | IdleDeadline::Anything(until)) = self.idle_deadline;
        self.timer.poll_until(context, until)
    }

    /// After an exchange the connection is idle anew.
    fn note_exchanges(&mut self) {
        let exchanges = self.active.exchanges.load(Ordering::Acquire);
        if exchanges != self.exchanges {
            self.exchanges = exchanges;
            self.has_begun = false;
            self.content_length = ContentLengthScan::default();
            self.idle_deadline = IdleDeadline::Anything(self.timer.now() + self.idle_timeout);
        }
    }

    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut waste = [0; 16 * 1024];
        loop {
            let now = self.timer.now();
            let begun = LingerDeadlines { over_at: now + LINGER, idle_at: now + LINGER_IDLE };
            let LingerDeadlines { over_at, idle_at } = *self.linger.get_or_insert(begun);
            if now >= over_at {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut waste);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Pending => return self.timer.poll_until(context, over_at.min(idle_at)),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {
                    self.linger = Some(LingerDeadlines { over_at, idle_at: now + LINGER_IDLE });
                }
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.active.owes_continue.swap(false, Ordering::AcqRel) && !self.writer.is_blocked() {
            // So few octets go out whole or not at all; then the client sends without.
            let _ = self.stream.try_write(CONTINUE);
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready() {
            self.came(&buffer.filled()[before..]);
            return polled;
        }
        ready!(self.poll_over(context));
        if self.has_begun && !self.writer.is_blocked() {
            // Who began a head is told; it goes out whole or the connection just ends.
            let _ = self.stream.try_write(&head_error::too_slow());
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_owed(context))?;
        if self.replaces(octets) {
            return Poll::Ready(Ok(octets.len()));
        }
        let Self { writer, stream, .. } = &mut *self;
        writer.poll_write(stream, context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_owed(context))?;
        if octets.first().is_some_and(|first| self.replaces(first)) {
            return Poll::Ready(Ok(octets.iter().map(|slice| slice.len()).sum()));
        }
        let Self { writer, stream, .. } = &mut *self;
        writer.poll_write_vectored(stream, context, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_owed(context))?;
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.active.breaks_off.load(Ordering::Acquire) {
            ready!(self.as_mut().poll_shutdown(context))?;
            self.active.has_broken_off.store(true, Ordering::Release);
        } else if self.active.is_busy() {
            // hyper flushes whenever it has looked at the connection, and does not read before it
            // has answered.
            let is_for_client = self.active.is_for_client.load(Ordering::Acquire);
            let Self { disconnect, stream, .. } = &mut *self;
            disconnect.look(stream, context, is_for_client)?;
        } else {
            self.answered = self.active.exchanges.load(Ordering::Acquire);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(self.poll_owed(context))?;
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        }
        if self.active.unread.load(Ordering::Acquire) {
            ready!(self.poll_linger(context));
        }
        Poll::Ready(Ok(()))
    }
}
