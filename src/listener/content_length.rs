//! The `Content-Length` of a request head that hyper refuses to read.
//!
//! Owns a scan of the head's octets as they arrive: hyper hands on nothing of a head that it refuses,
//! and reports a length beyond its range as a head that is too large.

/// The longest body that hyper counts with, in octets.
const MOST: u128 = 0xFFFF_FFFF_FFFF_FFFD;

const NAME: &[u8] = b"content-length";

/// What the octets of one head have said so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ContentLengthScan {
    at: ScanPosition,
    lengths: usize,
    is_beyond: bool,
}

#[derive(Clone, Copy, Debug)]
enum ScanPosition {
    /// In a name, of which so many octets are those of [`NAME`].
    Name(usize),
    /// In the value of the field.
    Length { number: u128, is_number: bool },
    /// In a line that says nothing of it.
    Other,
    /// Behind the head.
    End,
}

impl Default for ScanPosition {
    fn default() -> Self {
        Self::Name(0)
    }
}

impl ContentLengthScan {
    /// Takes in octets of the head.
    pub(super) fn note(&mut self, octets: &[u8]) {
        octets.iter().for_each(|octet| self.take(*octet));
    }

    /// Whether the one length that is announced is a number beyond what can be counted with.
    pub(super) const fn is_beyond(&self) -> bool {
        self.is_beyond && self.lengths == 1
    }

    fn take(&mut self, octet: u8) {
        self.at = match (self.at, octet) {
            (ScanPosition::End, _) | (ScanPosition::Name(0), b'\n') => ScanPosition::End,
            (ScanPosition::Length { number, is_number }, b'\n') => {
                self.lengths += 1;
                self.is_beyond = is_number && number > MOST;
                ScanPosition::Name(0)
            }
            (ScanPosition::Name(0), b'\r') | (_, b'\n') => ScanPosition::Name(0),
            (ScanPosition::Name(count), _)
                if NAME.get(count) == Some(&octet.to_ascii_lowercase()) =>
            {
                ScanPosition::Name(count + 1)
            }
            (ScanPosition::Name(count), b':') if count == NAME.len() => {
                ScanPosition::Length { number: 0, is_number: true }
            }
            (ScanPosition::Length { number, is_number }, b'0'..=b'9') => {
                let number = number.saturating_mul(10).saturating_add(u128::from(octet - b'0'));
                ScanPosition::Length { number, is_number }
            }
            (length @ ScanPosition::Length { .. }, b' ' | b'\t' | b'\r') => length,
            (ScanPosition::Length { number, .. }, _) => {
                ScanPosition::Length { number, is_number: false }
            }
            (ScanPosition::Name(_) | ScanPosition::Other, _) => ScanPosition::Other,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_number_that_is_too_large_to_count_with_is_beyond() {
        for (lines, is_beyond) in [
            ("Content-Length: 18446744073709551615", true),
            ("content-length:18446744073709551614 ", true),
            ("Content-Length: 18446744073709551613", false),
            ("Content-Length: 99999999999999999999999", true),
            ("Content-Length: 9999999999999999999999999999999999999999999999999", true),
            ("Content-Length: 99999999999999999999999x", false),
            ("Content-Length: -99999999999999999999999", false),
            ("Content-Length: 99999999999999999999999, 1", false),
            ("Content-Length: 99999999999999999999999\r\nContent-Length: 1", false),
            ("X-Content-Length: 99999999999999999999999", false),
            ("Content-Lengths: 99999999999999999999999", false),
            ("Host: x\r\n\r\nContent-Length: 99999999999999999999999", false),
            ("", false),
        ] {
            let head = format!("POST /orders HTTP/1.1\r\n{lines}\r\n\r\n");
            for piece in [1, 5, head.len()] {
                let mut content_length = ContentLengthScan::default();
                head.as_bytes().chunks(piece).for_each(|piece| content_length.note(piece));
                assert_eq!(content_length.is_beyond(), is_beyond, "{lines:?} by {piece}");
            }
        }
    }
}
