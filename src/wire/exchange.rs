//! The state of one exchange, shared by its sender and its connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, Method};

use cloakroom_domain::http::answer_head::{Framing, HeadProblem, ends_with_reset};
use cloakroom_domain::http::other_protocol::OtherProtocol;

/// The state that a sender of requests shares with the connection that carries them. Clones are of
/// one connection.
#[derive(Clone, Debug, Default)]
pub struct Exchange(Arc<Mutex<ExchangeState>>);

#[derive(Debug, Default)]
pub(super) struct ExchangeState {
    /// Which exchange of the connection this is; none before the first.
    pub(super) number: u64,
    pub(super) to_head: bool,
    /// Whether the request has content, which the upstream may leave unread.
    pub(super) has_content: bool,
    pub(super) arrival: AnswerArrival,
    /// The status of the answer whose head has come.
    pub(super) status: Option<u16>,
    pub(super) fields: Option<HeaderMap>,
    pub(super) repairs: usize,
    pub(super) framing: Option<Framing>,
    pub(super) persists: bool,
    pub(super) fault: Option<AnswerFault>,
    pub(super) write: RequestWrite,
}

/// How writing a request went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RequestWrite {
    /// All that was written was taken.
    #[default]
    Intact,
    /// Something lay at the connection before the request, of which nothing was written.
    Withheld,
    /// Writing failed, so the upstream did not take the whole request.
    CutShort,
}

/// How much of an answer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AnswerArrival {
    #[default]
    Nothing,
    /// Octets that may become its head.
    Octets,
    /// A head, be it that of an interim answer.
    Head,
}

/// The reason why a response cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// It is an answer, and its head cannot be read.
    #[error("{line}: {problem}")]
    Unreadable {
        /// Its status, where that can be read.
        status: Option<u16>,
        /// Its first line.
        line: String,
        /// What is wrong with it.
        problem: HeadProblem,
    },
    /// What came is no answer in HTTP.
    #[error("what it sent is not http")]
    NotHttp,
    /// What came proves that no request was read.
    #[error("{0}")]
    Other(OtherProtocol),
}

impl Exchange {
    /// A request is about to be sent; the exchange before is over.
    pub fn begin(&self, method: &Method, has_content: bool) {
        let mut state = self.lock();
        let (number, to_head) = (state.number + 1, *method == Method::HEAD);
        // One that came before anything was sent stays.
        let fault = state.fault.take();
        *state = ExchangeState { number, to_head, has_content, fault, ..ExchangeState::default() };
    }

    /// Whether nothing of the request was written, because the connection had ended, or something
    /// lay there that no request had asked for.
    pub fn is_untouched(&self) -> bool {
        self.lock().write == RequestWrite::Withheld
    }

    /// The fields of the answer whose head has come.
    pub fn take_fields(&self) -> HeaderMap {
        self.lock().fields.take().unwrap_or_default()
    }

    /// How many of the answer's lines were put right or left out.
    pub fn repairs(&self) -> usize {
        self.lock().repairs
    }

    /// Why the answer cannot be read, if so.
    pub fn fault(&self) -> Option<AnswerFault> {
        self.lock().fault.clone()
    }

    /// Whether this is not the connection's first exchange, and not an octet of an answer came:
    /// none at all, or what is no HTTP and was left over from the exchange before.
    pub fn is_stale(&self) -> bool {
        let state = self.lock();
        let is_left_over = state.fault == Some(AnswerFault::NotHttp);
        let has_begun = match state.arrival {
            AnswerArrival::Nothing => false,
            AnswerArrival::Octets => !is_left_over,
            AnswerArrival::Head => true,
        };
        state.number > 1 && !has_begun
    }

    /// Whether the connection may carry another exchange once this one is over.
    pub fn may_repeat(&self) -> bool {
        let state = self.lock();
        state.number == 0
            || (state.persists && state.write != RequestWrite::CutShort && state.fault.is_none())
    }

    /// Whether the answer's end was told by its status or method alone, so that an upstream that
    /// sends content all the same may still be about to.
    pub fn ends_by_rule(&self) -> bool {
        self.lock().framing == Some(Framing::None)
    }

    /// Whether only the end of the connection ends the answer, so that one that was cut short
    /// looks whole.
    pub fn ends_with_connection(&self) -> bool {
        self.lock().framing == Some(Framing::Close)
    }

    /// Whether a reset is how the end of the answer looks.
    pub(super) fn ends_with_reset(&self) -> bool {
        let state = self.lock();
        state.status.is_some_and(|status| ends_with_reset(status, state.has_content))
    }

    pub(super) fn see_octets(&self) {
        let mut state = self.lock();
        if state.arrival == AnswerArrival::Nothing {
            state.arrival = AnswerArrival::Octets;
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ExchangeState> {
        // The lock guards plain values that are whole between statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
