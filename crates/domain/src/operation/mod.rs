//! The operation: one accepted request and its outcome.
//!
//! Owns the closed set of states, the facts an operation carries through them, and the decision about
//! the next state ([`settle`]). An operation is written once at its acceptance and never changed; only
//! its [`OperationState`] changes, and a final state never does.

mod doubt;
mod event;
mod failure;
mod fingerprint;
mod framing;
mod new;
mod outcome;
mod policy;
mod recheck;
mod settle;
mod state;
mod timeline;
mod unreadable;
mod verdict;
mod work;

pub use doubt::{Doubt, is_ambiguous, is_of_a_proxy, told_status};
pub use event::{Event, EventKind};
pub use failure::{ErrorCode, Failure, UnknownErrorCode};
pub use fingerprint::{Fingerprint, RequestPart, RequestParts};
pub use framing::{ResponseFraming, UnknownFraming};
pub use new::{IdempotencyClaim, KeyScope, Lane, ManualRetry, NewOperation, SerialKey};
pub use outcome::{Outcome, RequestPurpose, SendState, UpstreamAnswer};
pub use policy::{BadStatuses, DeliveryGuarantee, OnFailure, Policy, RetryPolicy, Statuses};
pub use recheck::{Recheck, RecheckFinding, RecheckProblem, RecheckSubjects};
pub use settle::{Effect, NextState, SettleInput, Transition, is_asked_about, is_in_doubt, settle};
pub use state::{Counts, OperationState, Status, UnknownStatus, UpstreamContact, WaitingFor};
pub use timeline::outlived_by;
pub use unreadable::ReadableParts;
pub use verdict::Verdict;
pub use work::{BodyKey, Continuation, OperationBody, Request, Work};
