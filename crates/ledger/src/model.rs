//! The parameters of the ledger's verbs, and their outputs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::fleet::LeaseKey;
use crate::operations::capacity::Room;
use crate::webhooks::FirstCallback;
use cloakroom_domain::operation::{
    BodyKey, Continuation, Counts, DeliveryGuarantee, Lane, NewOperation, OperationBody,
    OperationState, Policy, RequestParts, ResponseFraming, SerialKey, Status, Transition, Verdict,
    Work,
};
use cloakroom_domain::webhooks::{Callback, ReceiverKey};
use cloakroom_domain::{Fields, OperationId, Principal, Timestamp};

/// The right to settle one operation. Made only by the ledger, when it hands an
/// operation out; every later hand-out of the same operation has a higher token and
/// makes this one stale. A clone is the same right, for settling again what failed.
#[derive(Clone, Debug)]
pub struct Lease {
    pub(crate) seq: i64,
    pub(crate) token: i64,
    pub(crate) held: Held,
    pub(crate) serial: Option<[u8; 16]>,
    /// What the operation takes of the ledger until it ends.
    pub(crate) octets: u64,
}

impl Lease {
    /// Rises with every hand-out of the same operation.
    pub fn token(&self) -> i64 {
        self.token
    }

    /// What this hand-out is known by.
    pub fn key(&self) -> LeaseKey {
        LeaseKey { seq: self.seq, token: self.token }
    }
}

/// In which state an operation is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Running,
    Waiting,
}

/// An operation that was handed out to be carried out or followed.
#[derive(Debug)]
pub struct Leased {
    /// The right to settle it.
    pub lease: Lease,
    /// Its id.
    pub id: OperationId,
    /// The route that took it.
    pub route: Arc<str>,
    /// Where it lay.
    pub lane: Lane,
    /// What it does.
    pub work: Work,
    /// What was promised.
    pub policy: Policy,
    /// What has been counted, the present attempt included.
    pub counts: Counts,
    /// The client's idempotency key.
    pub upstream_key: Option<String>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// What to go on from, where it was waiting.
    pub continuation: Option<Continuation>,
    /// Whether its cancellation had been asked for.
    pub cancel_asked: bool,
    /// What the client calls it.
    pub client_reference: Option<String>,
}

/// What became of an attempt to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is durably written.
    New(OperationId),
    /// The same request had been accepted before, as this operation.
    Replayed(OperationId),
    /// The idempotency key stands for another request.
    KeyConflict {
        /// The operation that it stands for.
        of: OperationId,
        /// What differs.
        differs: RequestParts,
    },
    /// It repeats an operation by hand that has been repeated already, as this one, which has
    /// not failed.
    Retried(OperationId),
    /// The queue has no room.
    QueueFull {
        /// How many are queued.
        depth: u64,
    },
    /// What the queue stores for operations that have not ended leaves no room.
    StorageFull {
        /// How many octets that is.
        stored: u64,
    },
}

/// Which operations of one lane are wanted.
#[derive(Clone, Debug)]
pub struct Want {
    /// The lane.
    pub lane: Lane,
    /// How many at most.
    pub limit: usize,
}

/// What a claim brought from one lane.
#[derive(Debug)]
pub struct Claimed {
    /// The lane.
    pub lane: Lane,
    /// The operations, oldest due first.
    pub leased: Vec<Leased>,
    /// When the next one of the lane is due, if any is left.
    pub next_due: Option<Timestamp>,
}

/// An attempt's end, ready to be committed.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The right to settle.
    pub lease: Lease,
    /// The operation.
    pub id: OperationId,
    /// What comes next.
    pub transition: Transition,
    /// The upstream's answer, kept if the transition says so.
    pub answer: Option<KeptAnswer>,
    /// Now.
    pub at: Timestamp,
}

/// An upstream's answer as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Its status.
    pub status: u16,
    /// Its end-to-end fields.
    pub fields: Fields,
    /// Its body; none where it was too large to keep.
    pub body: OperationBody,
    /// What told where its body ends, as far as that is recorded.
    pub framing: Option<ResponseFraming>,
    /// What it named as created: an absolute URL, or a path on the public origin.
    pub created_location: Option<String>,
}

/// What became of a request to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canceled {
    /// It had not begun, and is canceled.
    Done,
    /// It runs; its upstream connection is being dropped.
    Asked,
    /// It had been canceled before.
    Already,
    /// It had ended otherwise.
    TooLate(Status),
    /// There is no such operation.
    Unknown,
}

/// What becomes of a canceled operation's document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeing {
    /// It stays.
    Keep,
    /// Request and result are freed.
    Free,
}

/// What became of a progress report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progressed {
    /// It is written.
    Kept,
    /// Another one was written less than a second ago.
    TooSoon,
    /// That attempt is over.
    Over,
}

/// A progress report.
#[derive(Clone, Debug)]
pub struct ProgressReport {
    /// The operation.
    pub id: OperationId,
    /// The number of the attempt that it is about.
    pub attempt: u32,
    /// How far it is, in percent.
    pub percent: Option<u8>,
    /// What there is to say; 200 characters at most.
    pub message: Option<String>,
    /// Now.
    pub at: Timestamp,
}

/// A wish to pause a queue, or to resume it.
#[derive(Clone, Debug)]
pub struct Pausing {
    /// The queue.
    pub queue: String,
    /// Whether nothing of it is to be begun from now on.
    pub paused: bool,
    /// Now.
    pub at: Timestamp,
}

/// One piece of a large body.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The body.
    pub body: BodyKey,
    /// Counts from 0.
    pub number: u32,
    /// At most [`OperationBody::INLINE_LIMIT`] octets.
    pub octets: Bytes,
}

/// How many pieces of a body have so many octets together; at least one.
pub(crate) fn pieces_in(octets: u64) -> i64 {
    (octets / OperationBody::INLINE_LIMIT as u64).max(1) as i64
}

/// Operations of a lane that are past their deadline, among those that a look has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overdue {
    /// Their places.
    pub(crate) seqs: Vec<i64>,
    /// The deadlines of others that it has seen, and that come soon.
    pub soon: Vec<Deadline>,
    /// Where the next look goes on; none at the end of the lane.
    pub next: Option<LanePlace>,
}

/// When the deadline of an operation in a lane comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// The deadline.
    pub at: Timestamp,
    /// The place of the operation.
    pub(crate) seq: i64,
}

/// A place in a lane, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanePlace {
    /// When the operation there is due.
    pub(crate) due_at: i64,
    /// Its number.
    pub(crate) seq: i64,
}

impl LanePlace {
    /// Before everything in a lane.
    pub const START: Self = Self { due_at: i64::MIN, seq: i64::MIN };
}

impl Deadline {
    /// The deadline of the operation in this place.
    pub const fn new(at: Timestamp, seq: i64) -> Self {
        Self { at, seq }
    }
}

impl Overdue {
    /// Operations whose deadlines a former look has seen, and have come since.
    pub fn of(deadlines: &[Deadline]) -> Self {
        let seqs = deadlines.iter().map(|deadline| deadline.seq).collect();
        Self { seqs, ..Self::default() }
    }

    /// Whether the look has found any.
    pub fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }
}

/// How much a prune freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Results freed.
    pub results: u64,
    /// Operations removed altogether.
    pub operations: u64,
    /// Pieces of bodies deleted that are too large to go at once.
    pub pieces: u64,
    /// Expiries that freed nothing: a result is still needed, or nothing has ended that they name.
    pub kept: u64,
}

/// How long things last after an operation has ended.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Until request and result are freed.
    pub result: std::time::Duration,
    /// Until nothing is left of it.
    pub operation: std::time::Duration,
}

/// What an operation was accepted as, for repeating it by hand.
#[derive(Clone, Debug)]
pub struct Promised {
    /// What it does; its credentials are left out.
    pub work: Work,
    /// What was promised.
    pub policy: Policy,
    /// Before when it was not to begin.
    pub due_at: Timestamp,
    /// The key that the upstream was sent, where that is not the id.
    pub upstream_key: Option<String>,
    /// The key in whose order it ran.
    pub serial_key: Option<SerialKey>,
    /// Where its callbacks went.
    pub callback: Option<Callback>,
}

/// An operation as it stands, without its bodies.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// Whom it belongs to.
    pub principal: Principal,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The route that took it.
    pub route: String,
    /// Its queue.
    pub queue: String,
    /// Its upstream.
    pub upstream: String,
    /// Method and target of a call; the name of a task.
    pub subject: Subject,
    /// How often the upstream may see it.
    pub delivery: DeliveryGuarantee,
    /// When the whole must be done.
    pub deadline_at: Timestamp,
    /// Where it stands.
    pub state: OperationState,
    /// What has been counted.
    pub counts: Counts,
    /// When its first attempt began.
    pub started_at: Option<Timestamp>,
    /// When its result is freed, once it has ended.
    pub expires_at: Option<Timestamp>,
    /// When request and result were freed.
    pub freed_at: Option<Timestamp>,
    /// How far it is, as the upstream reported.
    pub percent: Option<u8>,
    /// What the upstream said about that.
    pub message: Option<String>,
    /// The status of the recorded answer.
    pub response_status: Option<u16>,
    /// What told where that answer ends, as far as that is recorded.
    pub response_framing: Option<ResponseFraming>,
    /// What the upstream named as created.
    pub created_location: Option<String>,
    /// What it can be found by.
    pub tags: Vec<String>,
    /// What the client calls it.
    pub client_reference: Option<String>,
    /// The operation that gave rise to it.
    pub parent: Option<OperationId>,
    /// The operation that it repeats by hand.
    pub retry_of: Option<OperationId>,
    /// The newest operation that repeats it by hand; not known of one that has just moved.
    pub retried_by: Option<OperationId>,
    /// What a person found out about its unknown outcome.
    pub verdict: Option<Verdict>,
    /// The number of its latest event.
    pub sequence: u32,
}

/// The name of a serial key: a digest of its scope and text, written as 32 hexadecimal
/// digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialName(pub(crate) [u8; 16]);

impl fmt::Display for SerialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A text names no serial key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a serial key's name has 32 hexadecimal digits")]
pub struct NoSerialName;

impl FromStr for SerialName {
    type Err = NoSerialName;

    fn from_str(text: &str) -> Result<Self, NoSerialName> {
        let plain = text.len() == 32 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| plain);
        number.map(|number| Self(number.to_be_bytes())).ok_or(NoSerialName)
    }
}

/// Which serial keys are wanted.
#[derive(Clone, Copy, Debug)]
pub struct KeyListing {
    /// Only those that wait for a person.
    pub blocked: bool,
    /// Behind this one, in the order of names.
    pub after: Option<SerialName>,
    /// How many at most.
    pub limit: usize,
}

/// A serial key that an operation holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInUse {
    /// Its name.
    pub name: SerialName,
    /// The key as it was given; none where nothing is known of its holder any more.
    pub key: Option<String>,
    /// The upstream in whose scope it is.
    pub upstream: Option<String>,
    /// The operation that holds it, as long as that is known.
    pub holder: Option<OperationId>,
    /// How many wait for it; counted up to [`KeyInUse::COUNTED`].
    pub waiting: u64,
    /// Why no operation of it starts, where none does.
    pub blocked: Option<Blocked>,
}

impl KeyInUse {
    /// The most that are counted of those that wait for one key.
    pub const COUNTED: u64 = 1000;
}

/// Why no operation of a serial key starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The operation that failed.
    pub by: OperationId,
    /// When.
    pub since: Timestamp,
}

/// What became of a wish to let the next of a blocked key go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unblocked {
    /// This one goes next; none where no operation waited.
    Done(Option<OperationId>),
    /// No failure blocks it.
    NotBlocked,
}

/// What became of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is written; one that was there before is replaced.
    Given,
    /// The outcome is not unknown, or there is none.
    NotUnknown,
}

/// What an operation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A call of the upstream.
    Call {
        /// The method.
        method: String,
        /// Path and query as received.
        target: String,
    },
    /// One of the gateway's own jobs.
    Task(String),
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Only this principal's; everybody's where there is none.
    pub principal: Option<Principal>,
    /// Only in this state.
    pub status: Option<Status>,
    /// Only of this route.
    pub route: Option<String>,
    /// Only of this queue.
    pub queue: Option<String>,
    /// Only with this tag.
    pub tag: Option<String>,
    /// Only those whose outcome is unknown and that have no verdict.
    pub unknown: bool,
    /// Accepted at or after.
    pub since: Option<Timestamp>,
    /// Accepted before.
    pub until: Option<Timestamp>,
    /// Older than this one.
    pub before: Option<OperationId>,
    /// How many at most.
    pub limit: usize,
}

/// A page of a list, newest first.
#[derive(Clone, Debug)]
pub struct Page {
    /// The operations. May be fewer than asked for while there are more to come.
    pub operations: Vec<Operation>,
    /// Where the next page goes on ([`Listing::before`]); none at the end.
    pub next: Option<OperationId>,
    /// Why operations of this page are not among them.
    pub(crate) unread: Vec<String>,
}

/// A lane and how much lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneDepth {
    /// The lane.
    pub lane: Lane,
    /// Operations that are ready or due later.
    pub depth: u64,
    /// How many it is worth to ask for at once; may be more or fewer than there are where
    /// others take from the lane too.
    pub claimable: u64,
    /// When the oldest of them was due.
    pub oldest_due: Option<Timestamp>,
    /// Octets that are stored for its operations which have not ended.
    pub stored: u64,
}

/// An operation to be accepted, and whether there is a free slot to hand it to.
#[derive(Debug)]
pub(crate) struct Acceptance {
    pub(crate) operation: NewOperation,
    /// Its callback, where the receiver of that may have to be made.
    pub(crate) first: Option<FirstCallback>,
    pub(crate) hand_off: bool,
    /// The room that is kept for what is stored of it.
    pub(crate) room: Option<Room>,
}

/// The fate of one acceptance inside a transaction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AcceptVerdict {
    /// Inserted; `leased` if it was handed off.
    New { seq: i64, placed: Placed },
    /// See [`Accepted::Replayed`].
    Replayed(OperationId),
    /// See [`Accepted::KeyConflict`].
    KeyConflict { of: OperationId, differs: RequestParts },
    /// See [`Accepted::Retried`].
    Retried(OperationId),
}

/// Where a new operation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    Ready,
    Running,
    Waiting,
}

/// A hint between nodes, so that none has to look often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    /// Lanes in which something became ready.
    pub(crate) lanes: Vec<Lane>,
    /// Operations that have changed.
    pub(crate) changed: Vec<OperationId>,
    /// Operations that run and are called off.
    pub(crate) called_off: Vec<OperationId>,
    /// Whether permits are wanted, or were given back.
    pub(crate) permits: bool,
    /// Receivers of whom deliveries are due that were not tried before.
    pub(crate) receivers: Vec<ReceiverKey>,
    /// Whether receivers, or their keys, have changed.
    pub(crate) receivers_changed: bool,
}

/// What one settlement came to.
#[derive(Debug)]
pub(crate) struct SettledAs {
    pub(crate) status: Status,
}
