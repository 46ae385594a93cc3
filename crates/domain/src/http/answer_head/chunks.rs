//! Chunked content (RFC 9112 section 7.1), rewritten to its plainest form.
//!
//! Owns the repairs of its framing and its trailers: an answer is complete once its last chunk has
//! come, however odd the octets behind it. Its invariants: content is never changed, and framing that
//! cannot be followed is passed on unchanged, for hyper to refuse.

use ::http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use bytes::{Bytes, BytesMut};

use super::fields;

/// The longest line with a chunk's size, in octets, without what extends it.
const LONGEST_LINE: usize = 4096;
/// The most that may extend the size of a chunk, in octets. It is passed over, and none is kept.
const LONGEST_EXTENSION: usize = 256 * 1024;
/// The most that trailers may take, in octets and fields: hyper refuses more.
const LONGEST_TRAILERS: usize = 8 * 1024;
const MOST_TRAILERS: usize = 64;

/// A reader of chunked content, piece by piece.
#[derive(Debug, Default)]
pub struct Chunks {
    at: ChunkPosition,
    /// The line, or the trailers, of which only a part has come.
    begun: BytesMut,
    /// How many octets extend the line that is under way, the semicolon included.
    extension: usize,
    repairs: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum ChunkPosition {
    #[default]
    Size,
    Content(u64),
    /// The line feed behind a chunk.
    Behind,
    Trailers,
    /// Behind the end, or in what cannot be followed.
    Elsewhere,
}

impl Chunks {
    /// Takes in octets, and puts into `plain` what they come to.
    pub fn push(&mut self, mut octets: &[u8], plain: &mut BytesMut) {
        while !octets.is_empty() {
            octets = match self.at {
                ChunkPosition::Content(left) => self.content(left, octets, plain),
                ChunkPosition::Elsewhere => {
                    plain.extend_from_slice(octets);
                    return;
                }
                ChunkPosition::Size | ChunkPosition::Behind | ChunkPosition::Trailers => {
                    self.lines(octets, plain)
                }
            };
        }
    }

    /// The connection has ended. Nothing is missing where the last chunk has come.
    pub fn end(&mut self, plain: &mut BytesMut) {
        if self.is_at_trailers() {
            self.begun.clear();
            self.repairs += 1;
            self.close(plain);
        }
    }

    /// Whether the last chunk has come and the trailers have not ended, so that nothing of the
    /// content is missing if the connection ends.
    pub const fn is_at_trailers(&self) -> bool {
        matches!(self.at, ChunkPosition::Trailers)
    }

    /// How many lines were put right or left out since this was asked last.
    pub fn take_repairs(&mut self) -> usize {
        std::mem::take(&mut self.repairs)
    }

    fn content<'o>(&mut self, left: u64, octets: &'o [u8], plain: &mut BytesMut) -> &'o [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(octets.len());
        plain.extend_from_slice(&octets[..here]);
        let left = left - here as u64;
        self.at = if left == 0 { ChunkPosition::Behind } else { ChunkPosition::Content(left) };
        &octets[here..]
    }

    /// Reads up to the end of a line.
    fn lines<'o>(&mut self, octets: &'o [u8], plain: &mut BytesMut) -> &'o [u8] {
        let found = octets.iter().position(|octet| *octet == b'\n');
        let (piece, rest) = octets.split_at(found.map_or(octets.len(), |at| at + 1));
        if matches!(self.at, ChunkPosition::Size) {
            let cut = self.size(piece, plain);
            if matches!(self.at, ChunkPosition::Elsewhere) {
                return &octets[cut..];
            }
        } else {
            self.begun.extend_from_slice(piece);
        }
        if !matches!(self.at, ChunkPosition::Trailers) && self.begun.len() > LONGEST_LINE {
            self.give_up(plain);
            return rest;
        }
        match self.at {
            ChunkPosition::Trailers => self.trailers(found.is_some(), plain),
            _ if found.is_some() => self.line(plain),
            _ if !self.may_go_on() => self.give_up(plain),
            _ => {}
        }
        rest
    }

    /// Takes in a piece of a line with a size, without what extends that; how much was looked at
    /// where it cannot be followed.
    fn size(&mut self, piece: &[u8], plain: &mut BytesMut) -> usize {
        let mut cut = 0;
        if self.extension == 0 {
            cut = piece.iter().position(|octet| *octet == b';').unwrap_or(piece.len());
            self.begun.extend_from_slice(&piece[..cut]);
            if cut == piece.len() {
                return cut;
            }
            if !self.may_go_on() {
                self.give_up(plain);
                return cut;
            }
        }
        self.extension += piece.len() - cut;
        if self.extension > LONGEST_EXTENSION {
            // What is left must not look like a size to hyper.
            self.begun.extend_from_slice(b"!");
            self.give_up(plain);
        } else if piece.ends_with(b"\n") {
            self.begun.extend_from_slice(b"\n");
            self.extension = 0;
        }
        piece.len()
    }

    /// Whether what has come of a line may become one that is expected here.
    fn may_go_on(&self) -> bool {
        let is_blank = |octet: &u8| octet.is_ascii_whitespace();
        match self.at {
            ChunkPosition::Behind => self.begun.iter().all(is_blank),
            _ => self.begun.iter().all(|octet| octet.is_ascii_hexdigit() || is_blank(octet)),
        }
    }

    fn line(&mut self, plain: &mut BytesMut) {
        let line = self.begun.trim_ascii();
        if matches!(self.at, ChunkPosition::Behind) {
            if !line.is_empty() {
                return self.give_up(plain);
            }
            plain.extend_from_slice(b"\r\n");
            self.at = ChunkPosition::Size;
        } else {
            let Some(size) = size_of(line) else { return self.give_up(plain) };
            if size == 0 {
                self.at = ChunkPosition::Trailers;
            } else {
                plain.extend_from_slice(format!("{size:x}\r\n").as_bytes());
                self.at = ChunkPosition::Content(size);
            }
        }
        self.begun.clear();
    }

    /// Another line of the trailers, or a part of one.
    fn trailers(&mut self, is_line: bool, plain: &mut BytesMut) {
        let is_end = is_line && ends_with_empty_line(&self.begun);
        if is_end {
            self.close(plain);
        } else if self.begun.len() > LONGEST_TRAILERS {
            // Only its end is looked for: the line that is under way is all that is kept.
            self.repairs += 1;
            let from = self.begun.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
            let line = self.begun.split_off(from);
            // What is left of a line must not look like one, nor its end like an empty one.
            self.begun = match line.len() {
                0 => BytesMut::from("(\n"),
                1..=LONGEST_TRAILERS => line,
                _ => BytesMut::from("("),
            };
        }
    }

    /// Writes the end, with the trailers that can be read.
    fn close(&mut self, plain: &mut BytesMut) {
        plain.extend_from_slice(b"0\r\n");
        let section = self.begun.split().freeze();
        plain.extend_from_slice(&self.readable(&section));
        plain.extend_from_slice(b"\r\n");
        self.at = ChunkPosition::Elsewhere;
    }

    fn readable(&mut self, section: &Bytes) -> Vec<u8> {
        let line = |line| <[u8]>::strip_suffix(line, b"\r").unwrap_or(line);
        let lines = section.split(|octet| *octet == b'\n').map(line);
        let Ok((mut trailers, repairs)) = fields::read(section, lines) else {
            self.repairs += 1;
            return Vec::new();
        };
        self.repairs += repairs;
        // RFC 9110 section 6.5.1: what frames a message is no trailer.
        for framing in [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
            self.repairs += usize::from(trailers.remove(framing).is_some());
        }
        let mut written = Vec::new();
        for (name, value) in &trailers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                written.extend_from_slice(part);
            }
        }
        if written.len() > LONGEST_TRAILERS || trailers.len() > MOST_TRAILERS {
            self.repairs += 1;
            written.clear();
        }
        written
    }

    fn give_up(&mut self, plain: &mut BytesMut) {
        plain.extend_from_slice(&self.begun.split());
        self.at = ChunkPosition::Elsewhere;
    }
}

/// The size in a line.
fn size_of(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok().filter(|text| !text.starts_with('+'))?;
    u64::from_str_radix(text, 16).ok()
}

fn ends_with_empty_line(section: &[u8]) -> bool {
    matches!(section, b"\n" | b"\r\n") || section.ends_with(b"\n\n") || section.ends_with(b"\n\r\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What octets come to that arrive in pieces of this length; and with how many repairs.
    fn plain_of(octets: &[u8], piece: usize, ended: bool) -> (String, usize) {
        let (mut chunks, mut plain) = (Chunks::default(), BytesMut::new());
        for piece in octets.chunks(piece) {
            chunks.push(piece, &mut plain);
        }
        if ended {
            chunks.end(&mut plain);
        }
        (String::from_utf8_lossy(&plain).into_owned(), chunks.take_repairs())
    }

    const PIECES: [usize; 4] = [1, 2, 7, 100_000];

    #[test]
    fn what_can_be_read_has_one_form() {
        let long = format!("X: {}\r\n", "y".repeat(9_000));
        let many = "X: y\r\n".repeat(65);
        for (written, plain, repairs) in [
            ("2\r\nok\r\n0\r\n\r\n", "2\r\nok\r\n0\r\n\r\n", 0),
            ("2\nok\n0\n\n", "2\r\nok\r\n0\r\n\r\n", 0),
            ("0002 ;a=b\r\nok\r\n000;c\r\n\r\n", "2\r\nok\r\n0\r\n\r\n", 0),
            ("A\r\n\r\n0\r\n\r\n\r\n!\r\n0\r\n\r\n", "a\r\n\r\n0\r\n\r\n\r\n!\r\n0\r\n\r\n", 0),
            ("0\r\nX-A: v\r\n\r\n", "0\r\nx-a: v\r\n\r\n", 0),
            ("0\r\nX A: v\r\nX-B: w\r\n\r\n", "0\r\nx-b: w\r\n\r\n", 1),
            ("0\r\nno trailer\r\n\r\n", "0\r\n\r\n", 1),
            ("0\r\nX-A : v\r\n\r\n", "0\r\nx-a: v\r\n\r\n", 1),
            ("0\r\nX-A: a\u{1}b\r\n\r\n", "0\r\n\r\n", 1),
            ("0\r\nContent-Length : x y\r\nContent Length: 5\r\n\r\nrest", "0\r\n\r\nrest", 1),
            (&format!("0\r\n{long}\r\n"), "0\r\n\r\n", 2),
            (&format!("0\r\n{many}\r\n"), "0\r\n\r\n", 1),
            ("0\r\n\r\nrest", "0\r\n\r\nrest", 0),
        ] {
            for piece in PIECES {
                let (came, count) = plain_of(written.as_bytes(), piece, false);
                assert_eq!(came, plain, "{written:.60?} by {piece}");
                assert_eq!(count > 0, repairs > 0, "{written:.60?} by {piece}");
            }
        }
    }

    #[test]
    fn what_extends_a_size_is_passed_over_up_to_a_limit() {
        for length in [5_000, 100_000, 250_000] {
            let extension = format!(";a={}", "1".repeat(length));
            let written = format!("2{extension}\r\nok\r\n0{extension}\r\n\r\n");
            for piece in PIECES {
                let plain = ("2\r\nok\r\n0\r\n\r\n".to_owned(), 0);
                assert_eq!(
                    plain_of(written.as_bytes(), piece, false),
                    plain,
                    "{length} by {piece}"
                );
            }
        }
        let endless = format!("2;{}\r\nok\r\n0\r\n\r\n", "1".repeat(LONGEST_EXTENSION));
        for piece in PIECES {
            let (plain, _) = plain_of(endless.as_bytes(), piece, false);
            assert!(plain.starts_with("2!"), "no size: {plain:.20?} by {piece}");
        }
    }

    #[test]
    fn an_end_behind_the_last_chunk_is_an_end() {
        for written in ["2\r\nok\r\n0\r\n", "2\r\nok\r\n0\r\nX-A: v", "2\r\nok\r\n0\r\nX-A: v\r\n"]
        {
            for piece in PIECES {
                let whole = ("2\r\nok\r\n0\r\n\r\n".to_owned(), 1);
                assert_eq!(plain_of(written.as_bytes(), piece, true), whole, "{written:?}");
            }
        }
        for written in ["2\r\no", "2\r\nok", "2\r\nok\r\n", "2\r\nok\r\n0"] {
            let (plain, _) = plain_of(written.as_bytes(), 100, true);
            assert!(!plain.contains("0\r\n\r\n"), "{written:?}: {plain:?}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_handed_on() {
        let endless = "1".repeat(5_000);
        for written in
            ["nonsense\r\n", "2\r\nokay\r\n0\r\n\r\n", "+2\r\nok\r\n", "\r\n", &endless, "-1\r\n"]
        {
            for piece in PIECES {
                assert_eq!(plain_of(written.as_bytes(), piece, true).0, written, "by {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(octets in "[0-3a\r\n: ;x]{0,60}", piece in 1usize..9) {
            let (whole, cut) = (plain_of(octets.as_bytes(), 1000, true), plain_of(octets.as_bytes(), piece, true));
            prop_assert_eq!(whole, cut);
        }
    }
}
