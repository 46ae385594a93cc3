//! Failed calls, and whether the upstream can have seen the request.

use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloakroom_domain::operation::{ErrorCode, SendState};

/// Says whether anything of a call can have left, also after the call was dropped.
///
/// Clones share one mark. It says [`SendState::Perhaps`] from just before the request is
/// handed to a connection, and goes back to [`SendState::Nothing`] only where it is certain
/// that the upstream acted on nothing: the connection gave the request back untouched,
/// or the upstream sent it elsewhere with a 307 or 308.
#[derive(Clone, Default)]
pub struct SentMarker(Arc<SentState>);

#[derive(Default)]
struct SentState {
    sent: AtomicBool,
    held: AtomicBool,
    gate: Option<SendGate>,
}

/// Whether a request may still be sent, asked at the last moment.
pub(crate) type SendGate = Box<dyn Fn() -> bool + Send + Sync>;

impl std::fmt::Debug for SentMarker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SentMarker").field(&self.sent()).finish()
    }
}

impl SentMarker {
    /// A marker for a call of which nothing was sent yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same for a call that goes only through that gate.
    pub(crate) fn behind(gate: SendGate) -> Self {
        Self(Arc::new(SentState { gate: Some(gate), ..SentState::default() }))
    }

    /// Whether the gate was shut when the call was about to be sent.
    pub fn was_held(&self) -> bool {
        self.0.held.load(Ordering::Acquire)
    }

    /// Looks at the gate; to be done right before something is sent.
    pub(super) fn may_send(&self) -> bool {
        let open = self.0.gate.as_ref().is_none_or(|gate| gate());
        self.0.held.store(!open, Ordering::Release);
        open
    }

    /// Whether the upstream can have seen anything.
    pub fn sent(&self) -> SendState {
        if self.0.sent.load(Ordering::Acquire) { SendState::Perhaps } else { SendState::Nothing }
    }

    pub(super) fn mark(&self) {
        self.0.sent.store(true, Ordering::Release);
    }

    pub(super) fn clear(&self) {
        self.0.sent.store(false, Ordering::Release);
    }
}

/// No complete answer came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}: {detail}")]
pub struct UpstreamError {
    /// Whether the upstream can have seen the request.
    pub sent: SendState,
    /// [`ErrorCode::UpstreamUnreachable`] or [`ErrorCode::UpstreamProtocol`].
    pub cause: ErrorCode,
    /// What happened, for logs: no URL, no field, no octet of a body.
    pub detail: String,
    /// Whether the gateway itself could not open a connection, which says nothing of the
    /// upstream.
    pub is_own: bool,
    /// What came in place of an answer.
    pub received: ResponseReceived,
}

/// What came in place of a complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseReceived {
    /// Nothing, or a part.
    Nothing,
    /// An answer that cannot be read: the upstream is there, and has acted or refused.
    Unreadable {
        /// Its status, where that can be read.
        status: Option<u16>,
    },
}

impl UpstreamError {
    /// No connection came about.
    pub(super) fn unreachable(detail: impl Into<String>) -> Self {
        let cause = ErrorCode::UpstreamUnreachable;
        Self {
            sent: SendState::Nothing,
            cause,
            detail: detail.into(),
            is_own: false,
            received: ResponseReceived::Nothing,
        }
    }

    /// The gateway has no files left to connect with.
    pub(super) fn out_of_files(detail: impl Into<String>) -> Self {
        Self { is_own: true, ..Self::unreachable(detail) }
    }

    /// The request cannot be put into HTTP.
    pub(super) fn unsendable(detail: impl Into<String>) -> Self {
        let cause = ErrorCode::UpstreamProtocol;
        Self {
            sent: SendState::Nothing,
            cause,
            detail: detail.into(),
            is_own: false,
            received: ResponseReceived::Nothing,
        }
    }

    /// The upstream broke off, or what it sent is not HTTP.
    pub(super) fn protocol(detail: impl Into<String>) -> Self {
        let cause = ErrorCode::UpstreamProtocol;
        Self {
            sent: SendState::Perhaps,
            cause,
            detail: detail.into(),
            is_own: false,
            received: ResponseReceived::Nothing,
        }
    }

    /// An answer came, and cannot be read.
    pub(super) fn unreadable(status: Option<u16>, detail: impl Into<String>) -> Self {
        Self { received: ResponseReceived::Unreadable { status }, ..Self::protocol(detail) }
    }
}

/// An error and all that lies behind it, in one line.
pub(super) fn story(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        // Writing to a string does not fail.
        let _ = write!(line, ": {error}");
        behind = error.source();
    }
    line
}
