//! The check of a receiver's URL for a request that waits for the answer.
//!
//! Owns which refusals are final, which ones the client may retry and when, and the count of checks
//! that were put off. A name that cannot be looked up at present is accepted: each attempt looks it
//! up again, and is refused then.

use super::dns_lookups::DnsLookups;
use super::sender::PermissionReply;
use super::ssrf_guard::{GuardRefusal, SsrfGuard};
use cloakroom_domain::Principal;
use cloakroom_domain::webhooks::Destination;

/// After how many seconds another lookup has probably ended and left its slot.
const BUSY_RETRY_SECONDS: u64 = 1;
/// After how many seconds the lookup of the name has probably ended, with its result in the cache.
const SLOW_RETRY_SECONDS: u64 = 5;

/// Why a URL is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlRefusal {
    /// Deliveries may not go there.
    Rejected(GuardRefusal),
    /// Its name was not looked up in time.
    Deferred {
        /// The reason.
        refusal: GuardRefusal,
        /// In how many seconds it is worth another try.
        retry_after: u64,
    },
}

/// Checks a URL before it is kept for a principal, with what its name stands for at present.
///
/// # Errors
///
/// [`UrlRefusal`], with whether the same URL may be accepted later.
pub async fn check_url(
    guard: &SsrfGuard,
    lookups: &DnsLookups,
    url: &str,
    principal: &Principal,
) -> Result<Destination, UrlRefusal> {
    let refusal = match guard.check_url(url, principal, lookups).await {
        Ok(destination) => return Ok(destination),
        Err(refusal) => refusal,
    };
    let (why, retry_after) = match refusal {
        GuardRefusal::Unresolvable(_) => {
            return guard.parse(url).map_err(|bad| UrlRefusal::Rejected(bad.into()));
        }
        GuardRefusal::Busy => ("busy", BUSY_RETRY_SECONDS),
        GuardRefusal::Slow => ("slow", SLOW_RETRY_SECONDS),
        GuardRefusal::Url(_) | GuardRefusal::Address(_) | GuardRefusal::Own(_) => {
            return Err(UrlRefusal::Rejected(refusal));
        }
    };
    metrics::counter!("cloakroom_lookups_put_off_total", "why" => why).increment(1);
    Err(UrlRefusal::Deferred { refusal, retry_after })
}

impl PermissionReply {
    /// Why the receiver gave no permission, for a caller that may not learn what its name stands
    /// for.
    pub fn refusal(&self) -> String {
        match (self.attempted.status, self.attempted.error) {
            (Some(status), _) => format!("it answers {status} without WebHook-Allowed-Origin"),
            (None, Some(error)) => format!("it gives no answer ({})", error.as_str()),
            (None, None) => "it gives no answer".to_owned(),
        }
    }
}
