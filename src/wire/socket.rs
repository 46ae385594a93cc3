//! A connection between hyper and a server, whose responses reach hyper in their plainest form.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::exchange::{AnswerFault, Exchange, RequestWrite};
use super::head_reader::{BodyKind, HeadProgress, HeadReader, HeadRules};
use super::unread::PeekUnread;
use cloakroom_domain::http::answer_head::Chunks;
use cloakroom_domain::http::other_protocol::OtherProtocol;

/// How much of a head is read at once, in octets.
const PIECE: usize = 4096;

/// How much of chunks is read at once, in octets: more and more where more comes.
const FIRST_CHUNKS: usize = 8 * 1024;
const MOST_CHUNKS: usize = 256 * 1024;

/// A connection between hyper and an upstream.
#[derive(Debug)]
pub struct Wire<T> {
    io: T,
    exchange: Exchange,
    rules: HeadRules,
    /// The exchange whose request is being written, by its number.
    current: u64,
    phase: Phase,
    is_cut_short: bool,
    /// The upstream takes no more of the request for now.
    is_blocked: bool,
}

/// Chunks on their way to hyper.
#[derive(Debug)]
struct ChunkedBody {
    chunks: Chunks,
    /// What is still to be handed to hyper.
    ahead: BytesMut,
    /// Where octets are read into.
    piece: Vec<u8>,
}

#[derive(Debug)]
enum Phase {
    /// Nothing was sent yet, so nothing may come.
    Fresh,
    /// The head of an answer is awaited.
    Head(HeadReader),
    /// The head is read; this is still to be handed to hyper, and then what comes.
    Content(Bytes),
    /// The same where what comes are chunks.
    Chunks(ChunkedBody),
    /// Whatever comes belongs to another protocol.
    Tunnel(Bytes),
}

impl Phase {
    /// Whether octets were read that hyper has not taken yet.
    fn is_ahead(&self) -> bool {
        match self {
            Self::Fresh | Self::Head(_) => false,
            Self::Content(ahead) | Self::Tunnel(ahead) => !ahead.is_empty(),
            Self::Chunks(ChunkedBody { ahead, .. }) => !ahead.is_empty(),
        }
    }

    /// Whether all of the content has come, though the answer could still have trailers.
    fn is_at_trailers(&self) -> bool {
        matches!(self, Self::Chunks(ChunkedBody { chunks, .. }) if chunks.is_at_trailers())
    }
}

impl<T> Wire<T> {
    /// A connection on which nothing was said yet; `longest` is the longest head of an answer,
    /// in octets.
    pub fn new(io: T, longest: usize) -> (Self, Exchange) {
        let exchange = Exchange::default();
        let rules = HeadRules { longest, status_suffices: false };
        let (current, phase) = (0, Phase::Fresh);
        let (is_cut_short, is_blocked) = (false, false);
        let told = exchange.clone();
        (Self { io, exchange, rules, current, phase, is_cut_short, is_blocked }, told)
    }

    /// The same where the status of an answer is all that is asked for: it will do where the
    /// rest of the head cannot be read.
    #[must_use]
    pub const fn for_statuses(mut self) -> Self {
        self.rules.status_suffices = true;
        self
    }

    /// Passes on how writing went. Where it failed, the rest of the request counts as written:
    /// an answer may have come before the upstream closed the connection, and only who goes on
    /// reading finds it. The connection ends with this exchange.
    fn written<O>(&mut self, came: Poll<io::Result<O>>, all: O) -> Poll<io::Result<O>> {
        self.is_blocked = came.is_pending();
        if !matches!(came, Poll::Ready(Err(_))) || matches!(self.phase, Phase::Tunnel(_)) {
            return came;
        }
        self.cut_short();
        Poll::Ready(Ok(all))
    }

    fn cut_short(&mut self) {
        self.is_cut_short = true;
        self.exchange.lock().write = RequestWrite::CutShort;
    }

    /// Passes on how reading went. Where the upstream did not take all of the request, a reset is
    /// how its end looks, whichever of reading and writing meets it first; so it is where the
    /// system took a request whose content the upstream left unread. Whether the content was whole
    /// by then is for its framing to say. Behind the last chunk any end is one.
    fn ended(&mut self, came: io::Result<()>) -> io::Result<()> {
        let Err(error) = came else { return Ok(()) };
        if matches!(self.phase, Phase::Tunnel(_)) {
            return Err(error);
        }
        if self.is_blocked {
            self.cut_short();
        }
        let is_end = self.is_cut_short
            || self.phase.is_at_trailers()
            || match error.kind() {
                // Many servers do not give the notice that TLS asks for.
                io::ErrorKind::UnexpectedEof => true,
                io::ErrorKind::ConnectionReset => self.exchange.ends_with_reset(),
                _ => false,
            };
        if is_end { Ok(()) } else { Err(error) }
    }

    fn faulty(&self, fault: AnswerFault) -> io::Error {
        let told = io::Error::new(io::ErrorKind::InvalidData, fault.clone());
        self.exchange.lock().fault = Some(fault);
        told
    }
}

impl<T: Read + Unpin> Wire<T> {
    /// Reads as much as one piece, none at the end.
    fn poll_piece<'p>(
        &mut self,
        cx: &mut Context<'_>,
        piece: &'p mut [u8],
    ) -> Poll<io::Result<&'p [u8]>> {
        let mut read = ReadBuf::new(piece);
        let came = ready!(Pin::new(&mut self.io).poll_read(cx, read.unfilled()));
        let length = read.filled().len();
        Poll::Ready(self.ended(came).map(|()| &piece[..length]))
    }

    /// What comes before anything was sent is no answer.
    fn poll_fresh(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut piece = [0; 64];
        let octets = ready!(self.poll_piece(cx, &mut piece))?;
        if octets.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let fault = OtherProtocol::told_by(octets).map_or(AnswerFault::NotHttp, AnswerFault::Other);
        Poll::Ready(Err(self.faulty(fault)))
    }

    /// Reads up to the end of a head; whether there is one.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut piece = [0; PIECE];
        loop {
            let octets = ready!(self.poll_piece(cx, &mut piece))?;
            if octets.is_empty() {
                return Poll::Ready(Ok(false));
            }
            let Phase::Head(reader) = &mut self.phase else { return Poll::Ready(Ok(true)) };
            self.exchange.see_octets();
            match reader.push(octets, &self.exchange, self.rules) {
                HeadProgress::Partly => {}
                HeadProgress::Faulty(fault) => return Poll::Ready(Err(self.faulty(fault))),
                HeadProgress::Whole(plainest, after) => {
                    self.phase = match after {
                        BodyKind::Content => Phase::Content(plainest.freeze()),
                        BodyKind::Chunks(chunks) => {
                            let piece = vec![0; FIRST_CHUNKS];
                            Phase::Chunks(ChunkedBody { chunks, ahead: plainest, piece })
                        }
                        BodyKind::Tunnel => Phase::Tunnel(plainest.freeze()),
                    };
                    return Poll::Ready(Ok(true));
                }
            }
        }
    }
}

impl<T: Read + Unpin> Wire<T> {
    /// Sees to it that something of the chunks is ready for hyper, unless they have ended.
    fn poll_chunks(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut piece = match &mut self.phase {
                Phase::Chunks(chunked) if chunked.ahead.is_empty() => {
                    std::mem::take(&mut chunked.piece)
                }
                _ => return Poll::Ready(Ok(())),
            };
            let came = self.poll_piece(cx, &mut piece).map_ok(<[u8]>::len);
            let Phase::Chunks(chunked) = &mut self.phase else { return Poll::Ready(Ok(())) };
            let Poll::Ready(Ok(length)) = came else {
                chunked.piece = piece;
                return came.map_ok(drop);
            };
            chunked.take(piece, length);
            let repairs = chunked.chunks.take_repairs();
            if repairs > 0 {
                let mut state = self.exchange.lock();
                state.repairs += repairs;
                state.persists = false;
            }
            if length == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl ChunkedBody {
    /// Takes in what was read, or the end of the connection.
    fn take(&mut self, mut piece: Vec<u8>, length: usize) {
        match length {
            0 => self.chunks.end(&mut self.ahead),
            _ => self.chunks.push(&piece[..length], &mut self.ahead),
        }
        if length == piece.len() {
            piece.resize((length * 2).min(MOST_CHUNKS), 0);
        }
        self.piece = piece;
    }
}

impl<T: Read + Unpin> Read for Wire<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if matches!(wire.phase, Phase::Fresh) {
            return wire.poll_fresh(cx);
        }
        if matches!(wire.phase, Phase::Head(_)) && !ready!(wire.poll_head(cx))? {
            return Poll::Ready(Ok(()));
        }
        if matches!(wire.phase, Phase::Chunks(_)) {
            ready!(wire.poll_chunks(cx))?;
        }
        match &mut wire.phase {
            Phase::Chunks(ChunkedBody { ahead, .. }) => {
                let length = ahead.len().min(buf.remaining());
                buf.put_slice(&ahead[..length]);
                ahead.advance(length);
                Poll::Ready(Ok(()))
            }
            Phase::Content(ahead) | Phase::Tunnel(ahead) if !ahead.is_empty() => {
                buf.put_slice(&ahead.split_to(ahead.len().min(buf.remaining())));
                Poll::Ready(Ok(()))
            }
            _ => {
                let came = ready!(Pin::new(&mut wire.io).poll_read(cx, buf));
                Poll::Ready(wire.ended(came))
            }
        }
    }
}

impl<T: PeekUnread> Wire<T> {
    /// Something is to be written: perhaps the first octets of another exchange. What lies at a
    /// used connection by then would be taken for the answer.
    fn turn_to_exchange(&mut self) -> io::Result<()> {
        let mut state = self.exchange.lock();
        if state.number == self.current {
            return Ok(());
        }
        if self.current > 0 && (self.phase.is_ahead() || self.io.has_unread()) {
            state.write = RequestWrite::Withheld;
            let why = "it ended, or something came that no request had asked for";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
        }
        self.current = state.number;
        self.phase = Phase::Head(HeadReader::default());
        Ok(())
    }
}

impl<T: Write + PeekUnread + Unpin> Write for Wire<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        wire.turn_to_exchange()?;
        if wire.is_cut_short {
            return Poll::Ready(Ok(octets.len()));
        }
        let came = Pin::new(&mut wire.io).poll_write(cx, octets);
        wire.written(came, octets.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        wire.turn_to_exchange()?;
        let all = slices.iter().map(|slice| slice.len()).sum();
        if wire.is_cut_short {
            return Poll::Ready(Ok(all));
        }
        let came = Pin::new(&mut wire.io).poll_write_vectored(cx, slices);
        wire.written(came, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.is_cut_short {
            return Poll::Ready(Ok(()));
        }
        let came = Pin::new(&mut wire.io).poll_flush(cx);
        wire.written(came, ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
