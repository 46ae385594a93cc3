//! The end of an answer's content (RFC 9112 section 6.3).

use ::http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use ::http::{HeaderMap, HeaderValue};

use super::{AnswerHead, HeadProblem};
use crate::http::grammar::trim;

/// Where the content of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// With the head: there is no content, whatever the fields say.
    None,
    /// After so many octets.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// Whether a reset of the connection is how the end of an answer with that status looks.
///
/// A service that closes with a part of the request's content unread makes its system reset the
/// connection behind the answer. A reset says that of an answer whose head says all: one that
/// refuses, or leads elsewhere. What a 2xx brings lies in its content, which a reset may have cut
/// off; and where a request has no content, nothing of it was left unread.
pub const fn ends_with_reset(status: u16, has_content: bool) -> bool {
    has_content && matches!(status, 300..=599)
}

impl AnswerHead {
    /// Reads where the content ends, and leaves only fields that say the same.
    pub(super) fn frame(&mut self, to_head: bool) -> Result<(), HeadProblem> {
        let has_none = to_head || matches!(self.status, 100..=199 | 204 | 304);
        let (chunked, length) = match self.told() {
            // Where there is no content, its end does not have to be told.
            Err(_) if has_none => self.without_framing(),
            told => told?,
        };
        self.framing = match (chunked, length) {
            _ if has_none => Framing::None,
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            // RFC 9110 section 15.3.6: there is none. Servers forget to say so and keep the
            // connection open.
            (false, None) if self.status == 205 => {
                self.repairs += 1;
                Framing::Length(0)
            }
            (false, None) => Framing::Close,
        };
        self.persists = self.keeps_open() && self.framing != Framing::Close && self.repairs == 0;
        Ok(())
    }

    /// What the fields tell: whether chunks come, and a length.
    fn told(&mut self) -> Result<(bool, Option<u64>), HeadProblem> {
        let chunked = self.chunked()?;
        Ok((chunked, self.length(chunked)?))
    }

    fn without_framing(&mut self) -> (bool, Option<u64>) {
        self.fields.remove(&TRANSFER_ENCODING);
        self.fields.remove(&CONTENT_LENGTH);
        self.repairs += 1;
        (false, None)
    }

    /// Whether the content comes in chunks. Each other coding is one that was not asked for;
    /// the old word for none says nothing.
    fn chunked(&mut self) -> Result<bool, HeadProblem> {
        let mut chunked = 0;
        for coding in tokens(&self.fields, &TRANSFER_ENCODING) {
            match coding {
                Some(coding) if coding.eq_ignore_ascii_case("chunked") => chunked += 1,
                Some(coding) if coding.eq_ignore_ascii_case("identity") => {}
                _ => return Err(HeadProblem::TransferCoding),
            }
        }
        if self.fields.get_all(&TRANSFER_ENCODING).iter().nth(usize::from(chunked > 0)).is_some() {
            self.repairs += 1;
        }
        self.fields.remove(&TRANSFER_ENCODING);
        if chunked > 0 {
            self.fields.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Ok(chunked > 0)
    }

    /// The length that the fields tell, if they agree on one. It loses to chunks.
    fn length(&mut self, chunked: bool) -> Result<Option<u64>, HeadProblem> {
        let mut length = None;
        for told in tokens(&self.fields, &CONTENT_LENGTH) {
            let digits = told.filter(|told| told.bytes().all(|octet| octet.is_ascii_digit()));
            let told = digits.and_then(|digits| digits.parse::<u64>().ok());
            match (told, length) {
                (None, _) => return Err(HeadProblem::ContentLength),
                (told, Some(before)) if told != Some(before) => {
                    return Err(HeadProblem::ContentLength);
                }
                (told, _) => length = told,
            }
        }
        if self.fields.remove(&CONTENT_LENGTH).is_some() && length.is_none() {
            return Err(HeadProblem::ContentLength);
        }
        match length {
            Some(length) if !chunked => {
                self.fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            Some(_) => self.repairs += 1,
            None => {}
        }
        Ok(length)
    }

    fn keeps_open(&self) -> bool {
        let says = |word: &str| {
            let mut tokens = tokens(&self.fields, &CONNECTION);
            tokens.any(|token| token.is_some_and(|token| token.eq_ignore_ascii_case(word)))
        };
        !says("close") && (self.persists || says("keep-alive"))
    }
}

/// The members of all lines of a field; none for one that is no text.
fn tokens<'f>(
    fields: &'f HeaderMap,
    name: &::http::HeaderName,
) -> impl Iterator<Item = Option<&'f str>> {
    fields.get_all(name).into_iter().flat_map(|value| {
        let text = value.to_str().ok();
        let members = text.unwrap_or("\u{0}").split(',').map(trim);
        members
            .filter(|member| !member.is_empty())
            .map(move |member| text.is_some().then_some(member))
    })
}
