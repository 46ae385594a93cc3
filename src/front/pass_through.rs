//! Pass-through: requests that no route takes, checked for hidden methods and paths.
//!
//! Owns the look into the body of a form, and of what could be JSON. Its invariant: a body passes as it came. It must not
//! know how it is passed on.

use axum::response::Response;
use http::{Request, header};
use http_body::Body as _;

use super::body::BodyPrefix;
use super::routing::PassThrough;
use super::{FrontState, RequestSource};
use crate::api::Problem;
use crate::listener::IncomingBody;
use crate::upstream::Upstream;
use cloakroom_domain::http::body_method::{self, BodyMethod};
use cloakroom_domain::http::request_override;

/// The largest body that is looked into, in octets: a form that a person fills in is smaller.
const LARGEST: usize = 64 * 1024;

impl FrontState {
    /// Passes a request on, unless its body makes it one that a route takes.
    pub(super) async fn pass(
        &self,
        mut request: Request<IncomingBody>,
        (upstream, straight): (&Upstream, PassThrough<'_>),
        caller: &RequestSource,
    ) -> Result<Response, Problem> {
        let _peeked =
            if straight.has_form { self.look_into(&mut request, caller).await? } else { None };
        if straight.misleads {
            request_override::remove_paths(request.headers_mut());
        }
        self.proxy(request, upstream, caller).await
    }

    /// Refuses a request whose body names the method of a route, and one of which that cannot be told
    /// where nothing says whose it is.
    async fn look_into(
        &self,
        request: &mut Request<IncomingBody>,
        caller: &RequestSource,
    ) -> Result<Option<BodyPrefix>, Problem> {
        let may_be_peeked = {
            let headers = request.headers();
            // What comes in pieces may be a conversation, unless its type says that it is a form.
            let is_sent_whole = request.body().is_end_stream()
                || headers.contains_key(header::CONTENT_LENGTH)
                || body_method::has_type(headers);
            let is_short = request.body().size_hint().lower() <= LARGEST as u64;
            is_sent_whole && (is_short || body_method::is_told_early(headers))
        };
        let peeked = if may_be_peeked {
            let headers = request.headers().clone();
            let is_enough = |beginning: &[u8]| body_method::is_told(&headers, beginning);
            Some(self.budget.peek(request.body_mut(), LARGEST, is_enough).await?)
        } else {
            None
        };
        let named = peeked.as_ref().map_or(BodyMethod::Unknown, |peeked| {
            body_method::named(request.headers(), &peeked.octets, peeked.is_whole)
        });
        let judged = self.routing_rules().judge_body(request.uri().path(), &named);
        if !matches!(judged, Ok(false)) {
            self.identify(request.headers(), caller)?;
        }
        judged.map(|_| peeked)
    }
}
