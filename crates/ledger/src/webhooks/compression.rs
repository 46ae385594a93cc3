//! The compression of stored message bodies: a body takes a fraction of its room, and comes out octet
//! for octet.
//!
//! Owns what the number beside a body means. Its invariant: what was ever packed can be unpacked,
//! so what a number stands for never changes; another way of packing gets a number of its own.
//! It must not know what a message says: its words only make it small.

use bytes::Bytes;
use lz4_flex::block::{
    compress_into_with_dict, decompress_into_with_dict, get_maximum_output_size,
};

use crate::error::LedgerError;
use crate::rows::damaged;

/// An LZ4 block that begins with the length of the body, in four octets with the least first,
/// and refers to [`WORDS`].
const WITH_WORDS: i64 = 1;
/// What stands in nearly every message, and is not written down with each. It is part of the
/// format: with one letter changed, what lies in ledgers comes out wrong.
const WORDS: &[u8] = include_bytes!("compression/words.txt");
/// What is longer lies as it is, so that no row can claim the memory of more.
const LONGEST: usize = 16 << 20;
const LENGTH: usize = size_of::<u32>();

/// A body as it is stored.
pub(super) struct CompressedBody {
    /// How, where it is packed.
    pub(super) how: Option<i64>,
    pub(super) octets: Vec<u8>,
}

impl CompressedBody {
    /// Packs a body, unless that makes it no smaller.
    pub(super) fn of(body: &[u8]) -> Self {
        smaller(body).map_or_else(
            || Self { how: None, octets: body.to_vec() },
            |octets| Self { how: Some(WITH_WORDS), octets },
        )
    }
}

fn smaller(body: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= LONGEST)?;
    let mut octets = vec![0; LENGTH + get_maximum_output_size(body.len())];
    let (head, block) = octets.split_at_mut(LENGTH);
    head.copy_from_slice(&length.to_le_bytes());
    let packed = compress_into_with_dict(body, block, WORDS).ok()?;
    octets.truncate(LENGTH + packed);
    (octets.len() < body.len()).then_some(octets)
}

/// The body that was stored so.
///
/// # Errors
///
/// [`LedgerError::Damaged`] where it cannot be what was packed, and [`LedgerError::Later`] where a
/// later version packed it.
pub(super) fn unpacked(how: Option<i64>, stored: &[u8]) -> Result<Bytes, LedgerError> {
    match how {
        None => Ok(Bytes::copy_from_slice(stored)),
        Some(WITH_WORDS) => {
            with_words(stored).ok_or_else(|| damaged("a message that is cut short"))
        }
        Some(how) => {
            Err(LedgerError::Later(format!("a message that is packed in an unknown way, {how}")))
        }
    }
}

fn with_words(stored: &[u8]) -> Option<Bytes> {
    let (length, block) = stored.split_first_chunk::<LENGTH>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > LONGEST {
        return None;
    }
    let mut body = vec![0; length];
    let written = decompress_into_with_dict(block, &mut body, WORDS).ok()?;
    (written == length).then(|| body.into())
}

#[cfg(test)]
#[path = "compression_tests.rs"]
mod tests;
