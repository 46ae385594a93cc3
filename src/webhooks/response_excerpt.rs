//! The response excerpt: the beginning of a receiver's response body.
//!
//! Owns the limits on reading a response. The status decides the outcome of an attempt. The body
//! is read only to reuse the connection and to show its beginning to people; a long, slow or
//! endless body costs little and changes nothing.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// The most that is read, in bytes.
const MOST: usize = 16 * 1024;

/// The most that comes at once over HTTP/1, in bytes, a head included.
pub(super) const PIECE: usize = 8 * 1024;

/// How much of the beginning is kept, in bytes.
pub(super) const EXCERPT: usize = 1024;

/// The beginning of a body.
#[derive(Debug, Default)]
pub(super) struct ResponseExcerpt {
    octets: Vec<u8>,
    is_whole: bool,
}

impl ResponseExcerpt {
    /// Reads to the end, or until the next piece could exceed the limit.
    pub(super) async fn read(&mut self, mut body: Incoming) {
        let mut read = 0;
        while read + PIECE <= MOST {
            match body.frame().await {
                None => {
                    self.is_whole = true;
                    return;
                }
                Some(Err(_)) => return,
                Some(Ok(frame)) => {
                    let piece = frame.into_data().unwrap_or_default();
                    read += piece.len();
                    let wanted = piece.len().min(EXCERPT - self.octets.len());
                    self.octets.extend_from_slice(&piece[..wanted]);
                }
            }
        }
    }

    /// Whether the body was read to its end.
    pub(super) const fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(super) fn into_excerpt(self) -> Bytes {
        self.octets.into()
    }
}
