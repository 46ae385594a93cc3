//! What a receiver answers with, as far as anybody wants to know it.
//!
//! Owns how much of an answer is read. The status decides what an attempt came to, so a
//! body is read only so that the connection can be used again and a person can see how it
//! began; one that is long, slow or endless costs little and changes nothing.

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
    /// Reads to the end, or as long as another piece is not beyond what is the most.
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

    /// Whether the connection has nothing more to say.
    pub(super) const fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(super) fn into_excerpt(self) -> Bytes {
        self.octets.into()
    }
}
