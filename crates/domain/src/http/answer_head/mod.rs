//! The head of an upstream's answer, read as widely as browsers and curl read it.
//!
//! Owns which oddities are repaired, which lines are dropped, and how the content is framed (RFC 9112
//! sections 2 to 6). Its invariant: a line that could define the framing is never dropped. It must not
//! know of sockets, nor where the octets come from.

mod chunks;
mod fields;
mod framing;

use ::http::HeaderMap;
use bytes::Bytes;

pub use chunks::Chunks;
pub use framing::{Framing, ends_with_reset};

/// A head that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerHead {
    /// The status.
    pub status: u16,
    /// The reason phrase without what no reason phrase may have; often empty.
    pub reason: Bytes,
    /// The fields, framed anew: at most one `Content-Length`, and none beside `Transfer-Encoding`.
    pub fields: HeaderMap,
    /// Where the content ends.
    pub framing: Framing,
    /// Whether the upstream keeps the connection open afterwards.
    pub persists: bool,
    /// How many lines were put right or left out.
    pub repairs: usize,
}

/// Why octets are not the head of an answer that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadProblem {
    /// They do not begin with `HTTP/`.
    #[error("this is not http")]
    NotHttp,
    /// The first line is none that an answer begins with.
    #[error("the status line cannot be read")]
    StatusLine,
    /// A line that names how the content is framed, or whether the connection persists, cannot
    /// be read.
    #[error("a line about the framing cannot be read")]
    FramingLine,
    /// `Content-Length` is no number, or several different ones.
    #[error("the content-length is no single number")]
    ContentLength,
    /// A transfer coding that was not asked for.
    #[error("the transfer-encoding is not chunked alone")]
    TransferCoding,
    /// More fields than can be held.
    #[error("there are too many fields")]
    TooManyFields,
    /// The head is longer than the limit.
    #[error("the head is longer than max_response_headers")]
    TooLong,
}

/// Where a head ends that begins at the beginning, blank lines before it included. `from` is
/// how far octets were looked at before.
pub fn end_of(octets: &[u8], from: usize) -> Option<usize> {
    let start = blank_before(octets);
    let mut at = from.saturating_sub(3).max(start);
    while let Some(found) = octets.get(at..)?.iter().position(|octet| *octet == b'\n') {
        let next = at + found + 1;
        match octets.get(next..)? {
            [b'\n', ..] => return Some(next + 1),
            [b'\r', b'\n', ..] => return Some(next + 2),
            _ => at = next,
        }
    }
    None
}

/// Whether octets may begin an answer in HTTP/1.
pub fn may_begin(octets: &[u8]) -> bool {
    let line = &octets[blank_before(octets)..];
    line.iter().zip(b"HTTP/").all(|(octet, wanted)| octet.eq_ignore_ascii_case(wanted))
}

/// The status of a head of which perhaps only the first line can be read.
pub fn status_of(head: &[u8]) -> Option<u16> {
    StatusLine::read(first_line(head)).ok().map(|line| line.status)
}

/// The first line, as far as a log may show it: the status line of an answer.
pub fn first_line_shown(head: &[u8]) -> String {
    const MOST: usize = 80;
    let shown = first_line(head).iter().take(MOST);
    shown.map(|octet| if octet.is_ascii_control() { '?' } else { char::from(*octet) }).collect()
}

impl AnswerHead {
    /// Reads a whole head; `to_head` says that it answers a HEAD.
    pub fn read(head: &Bytes, to_head: bool) -> Result<Self, HeadProblem> {
        if !may_begin(head) {
            return Err(HeadProblem::NotHttp);
        }
        let head = head.slice(blank_before(head)..);
        let mut lines = head.split(|octet| *octet == b'\n').map(without_return);
        let StatusLine { status, reason, version } =
            StatusLine::read(lines.next().unwrap_or_default())?;
        let reason = plain(reason);
        let (fields, odd) = fields::read(&head, lines)?;
        let repairs = odd + usize::from(version == Version::Odd);
        let persists = version == Version::Persistent;
        let mut read = Self { status, reason, fields, framing: Framing::None, persists, repairs };
        read.frame(to_head)?;
        Ok(read)
    }
}

struct StatusLine<'h> {
    status: u16,
    reason: &'h [u8],
    version: Version,
}

#[derive(PartialEq, Eq)]
enum Version {
    /// HTTP/1.1 or later: connections persist unless told otherwise.
    Persistent,
    /// HTTP/1.0: they do where it is told.
    Single,
    /// `HTTP/1`, or `HTTP/2` over a connection that is none: scripts write such a line
    /// themselves.
    Odd,
}

impl<'h> StatusLine<'h> {
    /// Reads `HTTP/1.1 200 OK` in any case, with any number and with or without a reason phrase.
    fn read(line: &'h [u8]) -> Result<Self, HeadProblem> {
        let bad = HeadProblem::StatusLine;
        let rest = line.get(5..).ok_or(bad)?;
        let (version, rest) = match rest {
            [b'1', b'.', b'0', rest @ ..] => (Version::Single, rest),
            [b'1', b'.', b'1'..=b'9', rest @ ..] => (Version::Persistent, rest),
            [b'0'..=b'9', b'.', b'0'..=b'9', rest @ ..] | [b'0'..=b'9', rest @ ..] => {
                (Version::Odd, rest)
            }
            _ => return Err(bad),
        };
        let rest = rest.trim_ascii_start();
        let (digits, reason) = rest.split_first_chunk::<3>().ok_or(bad)?;
        let separated = reason.first().is_none_or(u8::is_ascii_whitespace);
        if !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' || !separated {
            return Err(bad);
        }
        let status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        Ok(Self { status, reason: reason.trim_ascii(), version })
    }
}

/// A reason phrase without control characters.
fn plain(reason: &[u8]) -> Bytes {
    reason.iter().copied().filter(|octet| !octet.is_ascii_control()).collect()
}

fn first_line(head: &[u8]) -> &[u8] {
    let head = &head[blank_before(head)..];
    without_return(head.split(|octet| *octet == b'\n').next().unwrap_or_default())
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// How many octets of blank lines stand at the beginning.
pub fn blank_before(octets: &[u8]) -> usize {
    octets.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
