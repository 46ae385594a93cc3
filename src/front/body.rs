//! Request bodies in memory, within a budget that all requests share.
//!
//! Owns the limits: how large one body may be, and how much all of them may take
//! together. The invariant: memory is reserved before octets are kept, and given back
//! when the body is written down or dropped.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::Problem;
use crate::listener::{IncomingBody, ReceiveError};

/// Memory is reserved in steps of so many octets: a client that announces much and sends
/// nothing takes no more than this.
const STEP: usize = 64 * 1024;

/// The memory that all bodies share.
pub(super) struct Budget(Arc<Semaphore>);

/// A body that was received, and the memory that was reserved for it.
pub(super) struct BufferedBody {
    pub(super) octets: Bytes,
    pub(super) memory: Option<MemoryPermit>,
}

/// The beginning of a body that is still to be read.
pub(super) struct BodyPrefix {
    pub(super) octets: Bytes,
    /// Whether it is all of it.
    pub(super) is_whole: bool,
    _memory: Option<MemoryPermit>,
}

/// Memory that is given back when this is dropped.
pub(super) type MemoryPermit = OwnedSemaphorePermit;

impl Budget {
    /// So many octets in all.
    pub(super) fn new(octets: usize) -> Self {
        Self(Arc::new(Semaphore::new(octets.min(Semaphore::MAX_PERMITS))))
    }

    /// Reads up to `most` octets of a body, or a piece more, and puts them back; fewer where
    /// those that are there are enough.
    pub(super) async fn peek(
        &self,
        body: &mut IncomingBody,
        most: usize,
        is_enough: impl Fn(&[u8]) -> bool,
    ) -> Result<BodyPrefix, Problem> {
        let mut buffer = BodyBuffer { budget: self, memory: None, reserved: 0 };
        let mut octets = BytesMut::new();
        let mut is_whole = false;
        while octets.len() <= most && !is_whole && !is_enough(&octets) {
            match body.frame().await {
                Some(frame) => {
                    let Ok(piece) = frame.map_err(|error| refusal(&error))?.into_data() else {
                        continue;
                    };
                    octets.extend_from_slice(&piece);
                    buffer.hold(octets.len(), octets.len())?;
                }
                None => is_whole = true,
            }
        }
        let octets = octets.freeze();
        body.put_back(octets.clone());
        Ok(BodyPrefix { octets, is_whole, _memory: buffer.memory })
    }

    /// Receives a body of at most `limit` octets.
    pub(super) async fn collect(
        &self,
        mut body: IncomingBody,
        limit: usize,
    ) -> Result<BufferedBody, Problem> {
        let mut announced = body.size_hint().exact().map(|length| length as usize);
        let mut buffer = BodyBuffer { budget: self, memory: None, reserved: 0 };
        if let Some(length @ 1..) = announced {
            buffer.reserve(length.min(STEP))?;
        }
        let (mut only, mut joined) = (Bytes::new(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            // Trailers of an accepted request are not kept: nothing replays them.
            let Ok(octets) = frame.map_err(|error| refusal(&error))?.into_data() else { continue };
            let length = only.len() + joined.len() + octets.len();
            if length > limit {
                return Err(Problem::body_too_large(limit as u64));
            }
            announced = announced.filter(|announced| *announced >= length);
            buffer.hold(length, announced.unwrap_or(length))?;
            if only.is_empty() && joined.is_empty() {
                // Most bodies come in one piece, which is kept as it is.
                only = octets;
            } else {
                joined.extend_from_slice(&std::mem::take(&mut only));
                joined.extend_from_slice(&octets);
            }
        }
        let octets = if joined.is_empty() { only } else { joined.freeze() };
        Ok(BufferedBody { octets, memory: buffer.memory })
    }
}

struct BodyBuffer<'b> {
    budget: &'b Budget,
    memory: Option<OwnedSemaphorePermit>,
    reserved: usize,
}

impl BodyBuffer<'_> {
    /// Sees to it that `length` octets are reserved, or a step more of those to come.
    fn hold(&mut self, length: usize, announced: usize) -> Result<(), Problem> {
        if length <= self.reserved {
            return Ok(());
        }
        let ahead = announced.min(self.reserved + STEP).max(length);
        self.reserve(ahead - self.reserved)
    }

    fn reserve(&mut self, more: usize) -> Result<(), Problem> {
        let permits = u32::try_from(more).map_err(|_| Problem::memory_full())?;
        let taken = self.budget.0.clone().try_acquire_many_owned(permits);
        let taken = taken.map_err(|_| Problem::memory_full())?;
        match &mut self.memory {
            Some(memory) => memory.merge(taken),
            None => self.memory = Some(taken),
        }
        self.reserved += more;
        Ok(())
    }
}

fn refusal(error: &ReceiveError) -> Problem {
    match error {
        ReceiveError::TooSlow => Problem::too_slow(),
        ReceiveError::Broken(_) => broke_off(),
    }
}

pub(super) fn broke_off() -> Problem {
    Problem::malformed_body(None, "the body broke off or is framed wrongly: send it again")
}
