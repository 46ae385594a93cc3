//! CORS for pages of other origins (Fetch standard).
//!
//! Owns preflights and the leave to read answers, for the configured origins only. It
//! must not know what is asked.

use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::api::response;
use crate::config::CorsOrigins;

/// The gateway's header fields that pages may read.
const EXPOSED: &str = "Location, Content-Location, Operation-Location, Operation-Id, \
                       Retry-After, Preference-Applied, X-Progress, Idempotency-Replayed, \
                       Gateway-Origin, Upstream-Status";

/// How long browsers may remember a preflight, in seconds.
const REMEMBERED: &str = "600";

/// The methods that a preflight is granted.
pub(super) enum GrantedMethods {
    /// The one that is asked for, which a route takes.
    ByRoute,
    /// Those that a resource of the gateway's own takes; none where there is no resource.
    ByResource(Option<HeaderValue>),
}

/// The origins whose pages may use the gateway.
pub(super) struct Cors {
    origins: CorsOrigins,
    off: bool,
}

impl Cors {
    pub(super) fn new(origins: CorsOrigins) -> Self {
        let off = matches!(&origins, CorsOrigins::These(known) if known.is_empty());
        Self { origins, off }
    }

    /// Whether the gateway leaves it to upstreams who may use them from a page.
    pub(super) const fn is_off(&self) -> bool {
        self.off
    }

    /// The origin that a request names, where it has leave.
    pub(super) fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.off {
            return None;
        }
        let origin = headers.get(ORIGIN)?;
        match &self.origins {
            CorsOrigins::Any => Some(HeaderValue::from_static("*")),
            known @ CorsOrigins::These(_) => {
                known.allow(origin.to_str().ok()?).then(|| origin.clone())
            }
        }
    }

    /// The method that a preflight of an origin that has leave asks for.
    pub(super) fn preflight_for(&self, method: &Method, headers: &HeaderMap) -> Option<Method> {
        let asked =
            headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| method == Method::OPTIONS)?;
        self.origin(headers)?;
        Method::from_bytes(asked.as_bytes()).ok()
    }

    /// The answer to a preflight: the methods that are taken there, and whatever fields it asks
    /// for, since the request itself is judged when it comes.
    pub(super) fn preflight(&self, asked: &HeaderMap, taken: GrantedMethods) -> Response {
        let mut response = response::empty(StatusCode::NO_CONTENT);
        let headers = response.headers_mut();
        if let Some(origin) = self.origin(asked) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        let methods = match taken {
            GrantedMethods::ByRoute => asked.get(ACCESS_CONTROL_REQUEST_METHOD).cloned(),
            GrantedMethods::ByResource(methods) => methods,
        };
        let fields = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        for (name, value) in
            [(ACCESS_CONTROL_ALLOW_METHODS, methods), (ACCESS_CONTROL_ALLOW_HEADERS, fields)]
        {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED));
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        headers.insert(VARY, HeaderValue::from_static(vary));
        response
    }

    /// Gives a page leave to read an answer.
    pub(super) fn expose(&self, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
        if self.off {
            return;
        }
        headers.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(origin: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))])
    }

    #[test]
    fn only_named_origins_have_leave_and_answers_vary_by_it() {
        let cors = Cors::new(CorsOrigins::These(vec!["https://app.example".to_owned()]));
        for (origin, leave) in [("https://app.example", true), ("https://app.example.evil", false)]
        {
            let mut answer = HeaderMap::new();
            cors.expose(&mut answer, cors.origin(&asking(origin)));
            assert_eq!(answer.get(ACCESS_CONTROL_ALLOW_ORIGIN).is_some(), leave, "{origin}");
            assert_eq!(answer[VARY], "Origin");
        }
    }

    #[test]
    fn where_nobody_is_named_answers_say_nothing_of_it() {
        let cors = Cors::new(CorsOrigins::default());
        let mut answer = HeaderMap::new();
        cors.expose(&mut answer, cors.origin(&asking("https://app.example")));
        assert!(answer.is_empty());
    }
}
