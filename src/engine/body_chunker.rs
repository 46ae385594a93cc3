//! A body while it is read: a small one stays whole, a large one is cut into chunks.
//!
//! Owns where a body is cut. Its invariant: all chunks but the last have exactly
//! [`OperationBody::INLINE_LIMIT`] octets, and at most one chunk and the last read are in memory. It must not
//! know where the octets come from or where the chunks go.

use bytes::{Bytes, BytesMut};

use cloakroom_domain::operation::{BodyKey, OperationBody};
use cloakroom_ledger::Piece;

/// A body that is being read.
pub(super) struct BodyChunker {
    key: BodyKey,
    // Read and not yet cut off. A single read stays as it came, uncopied.
    single: Bytes,
    several: BytesMut,
    length: u64,
    pieces: u32,
}

impl BodyChunker {
    /// Nothing was read yet; pieces will go under `key`.
    pub(super) fn new(key: BodyKey) -> Self {
        let (single, several) = (Bytes::new(), BytesMut::new());
        Self { key, single, several, length: 0, pieces: 0 }
    }

    /// These octets came.
    pub(super) fn push(&mut self, octets: Bytes) {
        self.length += octets.len() as u64;
        if self.single.is_empty() && self.several.is_empty() {
            self.single = octets;
            return;
        }
        if !self.single.is_empty() {
            let single = std::mem::take(&mut self.single);
            self.several.extend_from_slice(&single);
        }
        self.several.extend_from_slice(&octets);
    }

    /// Octets in all so far.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// The next whole piece, if more than that lies here.
    pub(super) fn next_chunk(&mut self) -> Option<Piece> {
        let limit = OperationBody::INLINE_LIMIT;
        let octets = if self.single.len() > limit {
            self.single.split_to(limit)
        } else if self.several.len() > limit {
            self.several.split_to(limit).freeze()
        } else {
            return None;
        };
        Some(self.piece(octets))
    }

    /// The body, and the last piece of one that was cut.
    pub(super) fn finish(mut self) -> (OperationBody, Option<Piece>) {
        let rest = if self.single.is_empty() {
            std::mem::take(&mut self.several).freeze()
        } else {
            std::mem::take(&mut self.single)
        };
        if self.pieces == 0 {
            return (OperationBody::Inline(rest), None);
        }
        let body = OperationBody::Chunked { key: self.key, length: self.length };
        (body, Some(self.piece(rest)))
    }

    fn piece(&mut self, octets: Bytes) -> Piece {
        let number = self.pieces;
        self.pieces += 1;
        Piece { body: self.key, number, octets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: BodyKey = BodyKey(7);
    const LIMIT: usize = OperationBody::INLINE_LIMIT;

    fn gathered(reads: &[Bytes]) -> (OperationBody, Vec<Piece>) {
        let mut chunker = BodyChunker::new(KEY);
        let mut pieces = Vec::new();
        for read in reads {
            chunker.push(read.clone());
            pieces.extend(std::iter::from_fn(|| chunker.next_chunk()));
        }
        let (body, last) = chunker.finish();
        pieces.extend(last);
        (body, pieces)
    }

    #[test]
    fn a_body_up_to_the_limit_travels_inline_and_a_single_read_is_not_copied() {
        assert_eq!(gathered(&[]).0, OperationBody::empty());
        let whole = Bytes::from(vec![7; LIMIT]);
        let (body, pieces) = gathered(std::slice::from_ref(&whole));
        let OperationBody::Inline(octets) = body else { panic!("{} pieces", pieces.len()) };
        assert_eq!((octets.as_ptr(), pieces.len()), (whole.as_ptr(), 0));
    }

    #[test]
    fn one_octet_more_makes_two_pieces() {
        let (body, pieces) = gathered(&[Bytes::from(vec![7; LIMIT]), Bytes::from_static(b"x")]);
        assert_eq!(body, OperationBody::Chunked { key: KEY, length: LIMIT as u64 + 1 });
        let sizes: Vec<usize> = pieces.iter().map(|piece| piece.octets.len()).collect();
        assert_eq!(sizes, [LIMIT, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn however_it_is_read_the_pieces_make_the_body(
            reads in prop::collection::vec((any::<u8>(), 0usize..LIMIT * 3), 0..6)
        ) {
            let reads: Vec<Bytes> =
                reads.into_iter().map(|(octet, size)| Bytes::from(vec![octet; size])).collect();
            let (body, pieces) = gathered(&reads);
            let whole = reads.concat();
            prop_assert_eq!(body.length(), whole.len() as u64);
            let put_together = match &body {
                OperationBody::Inline(octets) => octets.to_vec(),
                OperationBody::Chunked { .. } => pieces.iter().flat_map(|piece| piece.octets.to_vec()).collect(),
            };
            prop_assert!(put_together == whole);
            let (_, but_last) = pieces.split_last().unzip();
            for (number, piece) in but_last.unwrap_or(&[]).iter().enumerate() {
                prop_assert_eq!((piece.number as usize, piece.octets.len()), (number, LIMIT));
            }
        }
    }
}
