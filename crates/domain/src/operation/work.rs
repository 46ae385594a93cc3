//! The work of an operation, and its continuation between attempts.

use std::fmt::Display;

use bytes::Bytes;
use http::Method;

use crate::Fields;

/// What an operation does.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are calls: a box would cost each of them"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Call the upstream.
    Call(Request),
    /// One of the gateway's own long jobs.
    Task {
        /// Which job.
        name: String,
        /// Its arguments, in that job's own form.
        arguments: Bytes,
    },
}

impl Work {
    /// The name of its body's pieces, where that is kept in pieces.
    pub fn pieces(&self) -> Option<BodyKey> {
        match self {
            Self::Call(Request { body: OperationBody::Chunked { key, .. }, .. }) => Some(*key),
            Self::Call(_) | Self::Task { .. } => None,
        }
    }

    /// What it takes of the ledger, in octets: target, fields, credentials and body of a call; the
    /// arguments of a task.
    pub fn octets(&self) -> u64 {
        match self {
            Self::Call(request) => {
                let fields = request.fields.octets() + request.credentials.octets();
                request.target.len() as u64 + fields + request.body.length()
            }
            Self::Task { arguments, .. } => arguments.len() as u64,
        }
    }
}

/// A client's request as it is sent to the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query, the octets that the client sent.
    pub target: String,
    /// End-to-end fields without credentials.
    pub fields: Fields,
    /// Fields that are erased when the operation ends (`Authorization`, `Cookie`, …).
    pub credentials: Fields,
    /// The body.
    pub body: OperationBody,
}

/// Names the pieces of a large body in the ledger. Random, so that no
/// node has to hand the names out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodyKey(pub i64);

/// A body, at hand or in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationBody {
    /// Small enough to travel with its row.
    Inline(Bytes),
    /// Written to the ledger in pieces beforehand.
    Chunked {
        /// Where the pieces are.
        key: BodyKey,
        /// Octets in all.
        length: u64,
    },
}

impl OperationBody {
    /// The largest body that travels with its row, in octets; larger ones are written in
    /// pieces of this size.
    pub const INLINE_LIMIT: usize = 256 * 1024;

    /// Octets in all.
    pub fn length(&self) -> u64 {
        match self {
            Self::Inline(octets) => octets.len() as u64,
            Self::Chunked { length, .. } => *length,
        }
    }

    /// A body of no octets.
    pub const fn empty() -> Self {
        Self::Inline(Bytes::new())
    }
}

/// What a waiting operation needs to go on: opaque to the ledger, versioned so that a
/// later release can still read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// Which form `state` has.
    pub version: u16,
    /// What to go on from.
    pub state: Bytes,
}

impl Continuation {
    const JOB: u16 = 2;
    const MONITOR: u16 = 3;

    /// Going on means asking that monitor of the upstream's, told in its own form.
    pub fn monitor(state: impl Display) -> Self {
        Self { version: Self::MONITOR, state: Bytes::from(state.to_string()) }
    }

    /// Going on means that a job of the gateway's takes its next step.
    pub const fn job(cursor: Bytes) -> Self {
        Self { version: Self::JOB, state: cursor }
    }

    /// Where a job goes on, if that is what going on means.
    pub fn as_job(&self) -> Option<&Bytes> {
        (self.version == Self::JOB).then_some(&self.state)
    }

    /// The upstream's monitor, if that is what going on means.
    pub fn as_monitor(&self) -> Option<&str> {
        (self.version == Self::MONITOR).then(|| std::str::from_utf8(&self.state).ok()).flatten()
    }
}
