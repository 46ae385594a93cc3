//! The mapping of errors to problems.

use std::sync::LazyLock;

use super::{Problem, kinds};
use cloakroom_domain::http::expectation::ExpectationFailed;
use cloakroom_domain::http::hygiene::FieldProblem;
use cloakroom_domain::http::idempotency::KeyProblem;
use cloakroom_domain::http::operation_headers::OperationHeaderProblem;
use cloakroom_domain::http::path::PathProblem;
use cloakroom_domain::http::preconditions::PreconditionError;
use cloakroom_domain::http::public_url::HostProblem;
use cloakroom_ledger::LedgerError;
use cloakroom_runtime::LogThrottle;
use cloakroom_runtime::clock::Clock;

/// Long enough for a disk to be given room or a database to come back, in seconds.
const LEDGER_RETRY: u64 = 5;
const NOTHING_CHANGED: &str = "nothing was accepted or changed: try again later";
/// A commit whose answer is lost may have taken effect.
const NOBODY_KNOWS: &str = "the ledger does not answer, so what was sent may have been accepted or not: try again \
     later, with the same Idempotency-Key, which makes one operation of all tries";

impl From<LedgerError> for Problem {
    /// What happened inside is logged, and nothing of it told.
    fn from(error: LedgerError) -> Self {
        log(&error);
        let detail = match error {
            LedgerError::Full
            | LedgerError::Contended(_)
            | LedgerError::Sealed(_)
            | LedgerError::Later(_) => NOTHING_CHANGED,
            LedgerError::Unavailable(_) | LedgerError::NotDurable(_) => NOBODY_KNOWS,
            LedgerError::Damaged(_) => return Self::internal(),
        };
        Self::new(&kinds::LEDGER_AWAY, detail).retry_after(LEDGER_RETRY)
    }
}

/// While the ledger is away every request is refused: not each of them has a line.
fn log(error: &LedgerError) {
    static REFUSED: LazyLock<(Clock, LogThrottle)> =
        LazyLock::new(|| (Clock::system(), LogThrottle::default()));
    match error {
        // The ledger tells of its full disk itself.
        LedgerError::Full => tracing::debug!(%error, "a request was refused"),
        LedgerError::Damaged(_) => {
            tracing::error!(%error, "a request was refused because of a ledger error");
        }
        _ => {
            let (clock, restraint) = &*REFUSED;
            if let Some(refused) = restraint.due(clock) {
                tracing::error!(%error, refused, "requests are refused because of ledger errors");
            }
        }
    }
}

impl From<OperationHeaderProblem> for Problem {
    fn from(problem: OperationHeaderProblem) -> Self {
        Self::malformed_field(problem.field, problem.to_string())
    }
}

impl From<KeyProblem> for Problem {
    fn from(problem: KeyProblem) -> Self {
        Self::malformed_field("Idempotency-Key", problem.to_string())
    }
}

impl From<PreconditionError> for Problem {
    fn from(error: PreconditionError) -> Self {
        match error {
            PreconditionError::Unreadable(field) => Self::malformed_field(field, error.to_string()),
            PreconditionError::False(field) => Self::not_as_expected(field),
        }
    }
}

impl From<HostProblem> for Problem {
    fn from(problem: HostProblem) -> Self {
        Self::malformed_field("Host", problem.to_string())
    }
}

impl From<PathProblem> for Problem {
    fn from(problem: PathProblem) -> Self {
        Self::malformed_path(problem.to_string())
    }
}

impl From<FieldProblem> for Problem {
    fn from(problem: FieldProblem) -> Self {
        let detail = problem.to_string();
        let field = match &problem {
            FieldProblem::ConnectionNames(_) => "Connection",
            FieldProblem::SeveralHosts => "Host",
            FieldProblem::ContentLength => "Content-Length",
            FieldProblem::TwoFramings => "Transfer-Encoding",
            // RFC 9112 section 6.1.
            FieldProblem::TransferCoding => return Self::new(&kinds::TRANSFER_CODING, detail),
            FieldProblem::ControlCharacter(name) => name,
        };
        Self::malformed_field(field, detail)
    }
}

impl From<ExpectationFailed> for Problem {
    fn from(refused: ExpectationFailed) -> Self {
        Self::new(&kinds::EXPECTATION, refused.to_string())
            .with("expectation", refused.expectation)
            .with("supported", refused.supported)
    }
}
