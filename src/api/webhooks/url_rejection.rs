//! Rejections of URLs, in the words for clients and in the words for operators.
//!
//! Its invariant: a client learns the kind of the rejection only. It learns neither the
//! addresses of a name in this network nor the settings. Operators and the log get the full
//! reason.

use super::context::WebhookContext;
use crate::api::Problem;
use cloakroom_domain::webhooks::BadDestination;

/// Why a URL takes no deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlRejection {
    /// The kind of refusal, for anybody.
    pub kind: String,
    /// The whole, with addresses and settings.
    pub whole: String,
}

/// Why a URL is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlCheckError {
    /// It takes no deliveries.
    Unfit(UrlRejection),
    /// The check could not finish: the name was not looked up in time.
    Later {
        /// Why, for anybody.
        why: String,
        /// In how many seconds it is worth another try.
        again_in: u64,
    },
}

impl UrlCheckError {
    /// The problem of a client that named the URL in a field of its request.
    pub fn refused(self, field: &str) -> Problem {
        match self {
            Self::Unfit(unfit) => unfit.refused(field),
            Self::Later { why, again_in } => Problem::not_looked_up(field, &why, again_in),
        }
    }

    /// The problem for the caller that named the URL in that member.
    pub(super) fn told(self, member: &str, context: &WebhookContext) -> Problem {
        match self {
            Self::Unfit(unfit) => Problem::destination_refused(member, &unfit.told(context)),
            later @ Self::Later { .. } => later.refused(member),
        }
    }
}

impl From<BadDestination> for UrlRejection {
    fn from(bad: BadDestination) -> Self {
        Self { kind: bad.kind(), whole: bad.to_string() }
    }
}

impl UrlRejection {
    /// The reason, in the words for this caller.
    pub(super) fn told(self, context: &WebhookContext) -> String {
        match context.is_operator() {
            true => self.whole,
            false => self.told_a_client(),
        }
    }

    fn told_a_client(self) -> String {
        tracing::info!(why = %self.whole, "a client named a url that deliveries may not go to");
        self.kind
    }

    /// The problem of a client that asked in a field of its request.
    pub fn refused(self, field: &str) -> Problem {
        Problem::destination_refused(field, &self.told_a_client())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_named_a_host_that_was_not_looked_up_in_time_is_to_try_again() {
        let later = UrlCheckError::Later { why: "not within 2 s".to_owned(), again_in: 5 };
        let response = axum::response::IntoResponse::into_response(later.refused("Callback-Url"));
        assert_eq!(response.status().as_u16(), 503);
        assert_eq!(response.headers()["retry-after"], "5");
    }
}
