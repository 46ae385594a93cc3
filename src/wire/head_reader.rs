//! The reader of response heads: gathers octets and rewrites the head in its plainest form for hyper.

use bytes::{Buf, Bytes, BytesMut};

use super::exchange::{AnswerArrival, AnswerFault, Exchange};
use cloakroom_domain::http::answer_head::{self, AnswerHead, Chunks, Framing, HeadProblem};
use cloakroom_domain::http::other_protocol::OtherProtocol;

/// Octets that may still become the head of an answer.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    octets: BytesMut,
    /// How far the end was looked for.
    seen: usize,
    /// How many octets of blank lines came before it.
    blank: usize,
}

/// The result of adding octets.
#[derive(Debug)]
pub(super) enum HeadProgress {
    /// More has to come.
    Partly,
    /// What hyper is to read first, and how what follows is to be read.
    Whole(BytesMut, BodyKind),
    /// No answer that can be read.
    Faulty(AnswerFault),
}

/// How the octets after a head are read.
#[derive(Debug)]
pub(super) enum BodyKind {
    /// As it comes.
    Content,
    /// As chunks.
    Chunks(Chunks),
    /// In another protocol.
    Tunnel,
}

/// How heads are read on a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadRules {
    /// The longest head, in octets.
    pub(super) longest: usize,
    /// Whether the status alone will do where the rest cannot be read.
    pub(super) status_suffices: bool,
}

impl HeadReader {
    /// Takes in octets that have come.
    pub(super) fn push(
        &mut self,
        octets: &[u8],
        exchange: &Exchange,
        rules: HeadRules,
    ) -> HeadProgress {
        self.octets.extend_from_slice(octets);
        loop {
            self.drop_blank_lines();
            if self.blank > rules.longest {
                return self.too_long(rules);
            }
            if !answer_head::may_begin(&self.octets) {
                return self.not_http(exchange);
            }
            let Some(end) = answer_head::end_of(&self.octets, self.seen) else {
                self.seen = self.octets.len();
                return if self.octets.len() > rules.longest {
                    self.too_long(rules)
                } else {
                    HeadProgress::Partly
                };
            };
            self.seen = 0;
            let head = self.octets.split_to(end).freeze();
            if head.len() > rules.longest {
                return unreadable(&head, HeadProblem::TooLong, rules);
            }
            // Interim answers are passed to no caller, except the one that makes the connection a tunnel.
            exchange.lock().arrival = AnswerArrival::Head;
            if let Some(100 | 102..=199) = answer_head::status_of(&head) {
                if self.octets.is_empty() {
                    return HeadProgress::Partly;
                }
                continue;
            }
            return self.whole(&head, exchange, rules);
        }
    }

    /// Drops blank lines as they come, so that many of them are looked at once each.
    fn drop_blank_lines(&mut self) {
        let blank = answer_head::blank_before(&self.octets);
        if blank > 0 {
            self.octets.advance(blank);
            (self.seen, self.blank) = (0, self.blank + blank);
        }
    }

    fn whole(&mut self, head: &Bytes, exchange: &Exchange, rules: HeadRules) -> HeadProgress {
        let mut state = exchange.lock();
        let read = match AnswerHead::read(head, state.to_head) {
            Ok(read) => read,
            Err(problem) => return unreadable(head, problem, rules),
        };
        let mut plainest = plainest(&read);
        let rest = std::mem::take(&mut self.octets);
        let mut repairs = read.repairs;
        let after = if read.framing == Framing::Chunked {
            let mut chunks = Chunks::default();
            chunks.push(&rest, &mut plainest);
            repairs += chunks.take_repairs();
            BodyKind::Chunks(chunks)
        } else {
            plainest.extend_from_slice(&rest);
            if read.status == 101 { BodyKind::Tunnel } else { BodyKind::Content }
        };
        state.status = Some(read.status);
        state.repairs = repairs;
        state.framing = Some(read.framing);
        state.persists = read.persists && repairs == 0;
        state.fields = Some(read.fields);
        HeadProgress::Whole(plainest, after)
    }

    fn not_http(&self, exchange: &Exchange) -> HeadProgress {
        let is_first = exchange.lock().number == 1;
        match OtherProtocol::told_by(&self.octets) {
            Some(other) if is_first => HeadProgress::Faulty(AnswerFault::Other(other)),
            None if is_first && OtherProtocol::may_yet_be_told_by(&self.octets) => {
                HeadProgress::Partly
            }
            _ => HeadProgress::Faulty(AnswerFault::NotHttp),
        }
    }

    fn too_long(&mut self, rules: HeadRules) -> HeadProgress {
        let begun = std::mem::take(&mut self.octets).freeze();
        unreadable(&begun, HeadProblem::TooLong, rules)
    }
}

fn unreadable(head: &[u8], problem: HeadProblem, rules: HeadRules) -> HeadProgress {
    let status = answer_head::status_of(head);
    match status {
        Some(status @ 200..) if rules.status_suffices => {
            let alone = AnswerHead {
                status,
                reason: Bytes::new(),
                fields: http::HeaderMap::new(),
                framing: Framing::Length(0),
                persists: false,
                repairs: 1,
            };
            HeadProgress::Whole(plainest(&alone), BodyKind::Content)
        }
        _ => {
            let line = answer_head::first_line_shown(head);
            HeadProgress::Faulty(AnswerFault::Unreadable { status, line, problem })
        }
    }
}

/// A head that says no more than hyper has to know, in the gateway's own version of HTTP.
fn plainest(head: &AnswerHead) -> BytesMut {
    let mut octets = BytesMut::with_capacity(128);
    octets.extend_from_slice(format!("HTTP/1.1 {} ", head.status).as_bytes());
    octets.extend_from_slice(&head.reason);
    octets.extend_from_slice(b"\r\n");
    match head.framing {
        Framing::None | Framing::Close => {}
        Framing::Length(length) => {
            octets.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        Framing::Chunked => octets.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if !head.persists {
        octets.extend_from_slice(b"connection: close\r\n");
    }
    octets.extend_from_slice(b"\r\n");
    octets
}
