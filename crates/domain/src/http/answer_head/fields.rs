//! The field lines of an answer's head.
//!
//! Owns the repairs and the lines that are dropped. Its invariant: a line that names a framing field is
//! never dropped.

use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use super::HeadProblem;
use crate::http::grammar::is_tchar;

/// The fields that say where an answer ends and whether another may follow it.
const FRAMING: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"connection"];

/// Reads the lines up to the empty one; with how many of them were odd.
pub(super) fn read<'h>(
    head: &Bytes,
    lines: impl Iterator<Item = &'h [u8]>,
) -> Result<(HeaderMap, usize), HeadProblem> {
    let mut reading =
        FieldReader { head, fields: HeaderMap::new(), repairs: 0, last: PreviousLine::Nothing };
    for line in lines.take_while(|line| !line.is_empty()) {
        reading.line(line)?;
    }
    reading.finish()
}

struct FieldReader<'h> {
    head: &'h Bytes,
    fields: HeaderMap,
    repairs: usize,
    last: PreviousLine,
}

/// The line before, to which a fold belongs.
enum PreviousLine {
    Nothing,
    LeftOut,
    Field(HeaderName, Bytes),
    /// One with folds, each of which is added at its end.
    Folded(HeaderName, Vec<u8>),
}

impl FieldReader<'_> {
    fn line(&mut self, line: &[u8]) -> Result<(), HeadProblem> {
        if matches!(line[0], b' ' | b'\t') {
            return self.fold(line);
        }
        self.keep()?;
        let Some(colon) = line.iter().position(|octet| *octet == b':') else {
            return self.leave_out(line);
        };
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        let trimmed = name.trim_ascii_end();
        match HeaderName::from_bytes(trimmed) {
            Ok(known) if trimmed.iter().copied().all(is_tchar) => {
                self.repairs += usize::from(trimmed.len() != name.len());
                self.last = PreviousLine::Field(known, self.head.slice_ref(value));
                Ok(())
            }
            _ => self.leave_out(line),
        }
    }

    /// A fold is a blank and what follows it; that of a line left out goes with it.
    fn fold(&mut self, line: &[u8]) -> Result<(), HeadProblem> {
        self.repairs += 1;
        let folded = trim(line);
        let (name, mut value) = match std::mem::replace(&mut self.last, PreviousLine::LeftOut) {
            PreviousLine::Nothing => return self.leave_out(line),
            PreviousLine::LeftOut => return Ok(()),
            PreviousLine::Field(name, value) => (name, value.to_vec()),
            PreviousLine::Folded(name, value) => (name, value),
        };
        if !value.is_empty() && !folded.is_empty() {
            value.push(b' ');
        }
        value.extend_from_slice(folded);
        self.last = PreviousLine::Folded(name, value);
        Ok(())
    }

    fn leave_out(&mut self, line: &[u8]) -> Result<(), HeadProblem> {
        if names_framing(line) {
            return Err(HeadProblem::FramingLine);
        }
        self.repairs += 1;
        self.last = PreviousLine::LeftOut;
        Ok(())
    }

    /// Puts the line before into the fields, now that all of it was read.
    fn keep(&mut self) -> Result<(), HeadProblem> {
        let (name, value) = match std::mem::replace(&mut self.last, PreviousLine::Nothing) {
            PreviousLine::Field(name, value) => (name, value),
            PreviousLine::Folded(name, value) => (name, Bytes::from(value)),
            PreviousLine::Nothing | PreviousLine::LeftOut => return Ok(()),
        };
        let Ok(value) = HeaderValue::from_maybe_shared(value) else {
            return self.leave_out(&[name.as_str().as_bytes(), b":"].concat());
        };
        match self.fields.try_append(name, value) {
            Ok(_) => Ok(()),
            Err(_) => Err(HeadProblem::TooManyFields),
        }
    }

    fn finish(mut self) -> Result<(HeaderMap, usize), HeadProblem> {
        self.keep()?;
        Ok((self.fields, self.repairs))
    }
}

/// Whether an odd line names a framing field to a reader that is more lenient still: as a word
/// before the colon, or once the octets that no name has are taken out. Without a colon only the
/// first word counts, because the others are prose.
fn names_framing(line: &[u8]) -> bool {
    let is_framing = |word: &[u8]| FRAMING.iter().any(|framing| word.eq_ignore_ascii_case(framing));
    let Some(colon) = line.iter().position(|octet| *octet == b':') else {
        return words(line).find(|word| !word.is_empty()).is_some_and(is_framing);
    };
    let name = &line[..colon];
    let left: Vec<u8> = name.iter().copied().filter(|octet| is_tchar(*octet)).collect();
    is_framing(&left) || words(name).any(is_framing)
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|octet| !is_tchar(*octet))
}

/// A value without the blanks around it.
fn trim(value: &[u8]) -> &[u8] {
    let blank = |octet: &u8| matches!(octet, b' ' | b'\t');
    let from = value.iter().position(|octet| !blank(octet)).unwrap_or(value.len());
    let to = value.iter().rposition(|octet| !blank(octet)).map_or(from, |last| last + 1);
    &value[from..to]
}
