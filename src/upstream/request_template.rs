//! The request template: the fields that every request to one origin gets.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use url::{Position, Url};

use super::body::CallBody;
use super::error::UpstreamError;
use super::settings::UpstreamSettings;
use cloakroom_domain::http::hygiene;

/// Fields between two neighbours, and those that never reach an upstream. The caller has
/// dropped them already, with those that `Connection` named; this is the second lock.
const DROPPED: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("http2-settings"),
];

/// The fields of every request to one origin.
#[derive(Debug)]
pub(super) struct RequestTemplate {
    host: HeaderValue,
    preserve_host: bool,
    headers: HeaderMap,
}

impl RequestTemplate {
    pub(super) fn new(settings: &UpstreamSettings) -> Option<Self> {
        let headers = settings.headers.as_map().clone();
        let host = match headers.get(header::HOST) {
            Some(set) => set.clone(),
            None => authority(&settings.origin)?,
        };
        Some(Self { host, preserve_host: settings.preserve_host, headers })
    }

    /// A request to the upstream itself. `upgrade` is the protocol that it asks to
    /// switch to.
    pub(super) fn request(
        &self,
        (method, target): (Method, PathAndQuery),
        mut fields: HeaderMap,
        body: CallBody,
        upgrade: Option<HeaderValue>,
    ) -> Request<CallBody> {
        replace(&mut fields, &self.headers);
        if !(self.preserve_host && fields.contains_key(header::HOST)) {
            fields.insert(header::HOST, self.host.clone());
        }
        for name in &DROPPED {
            fields.remove(name);
        }
        if let Some(protocol) = upgrade {
            fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            fields.insert(header::UPGRADE, protocol);
        }
        set_length(&mut fields, &method, body.length());
        assemble(method, target, fields, body)
    }
}

/// A GET to an origin that is not the upstream's: it carries no secret.
pub(super) fn foreign_get(url: &Url, fields: &HeaderMap) -> Option<Request<CallBody>> {
    let mut plain = HeaderMap::new();
    plain.insert(header::HOST, authority(url)?);
    for name in [header::ACCEPT, header::USER_AGENT] {
        if let Some(value) = fields.get(&name) {
            plain.insert(name, value.clone());
        }
    }
    Some(assemble(Method::GET, target_of(url)?, plain, CallBody::empty()))
}

/// A target as the client sent it, octet by octet.
pub(super) fn parse_target(target: String) -> Result<PathAndQuery, UpstreamError> {
    // A fragment is not part of a target, and the parser would cut it off in silence.
    if !(target.starts_with('/') || target == "*") || target.contains('#') {
        return Err(UpstreamError::unsendable("the request target is not a path"));
    }
    PathAndQuery::from_maybe_shared(Bytes::from(target))
        .map_err(|error| UpstreamError::unsendable(format!("the request target: {error}")))
}

/// The target of a request for a URL.
pub(super) fn target_of(url: &Url) -> Option<PathAndQuery> {
    url[Position::BeforePath..Position::AfterQuery].parse().ok()
}

/// What to dial for a URL.
pub(super) fn origin_uri(url: &Url) -> Option<Uri> {
    url[..Position::BeforePath].parse().ok()
}

fn authority(url: &Url) -> Option<HeaderValue> {
    HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]).ok()
}

fn assemble(
    method: Method,
    target: PathAndQuery,
    fields: HeaderMap,
    body: CallBody,
) -> Request<CallBody> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(target);
    *request.headers_mut() = fields;
    request
}

/// Sets fields in the place of all that some server would take for one of them.
fn replace(fields: &mut HeaderMap, by: &HeaderMap) {
    for name in by.keys() {
        hygiene::remove_with_aliases(fields, name);
    }
    for (name, value) in by {
        fields.append(name.clone(), value.clone());
    }
}

/// RFC 9110 section 8.6: an empty body has its length told where the method is one of
/// which a body is expected. What the client said of an empty body stays.
fn set_length(fields: &mut HeaderMap, method: &Method, length: Option<u64>) {
    let expected = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    match length {
        Some(0) if !expected && !fields.contains_key(header::CONTENT_LENGTH) => {}
        Some(length) => {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            fields.remove(header::CONTENT_LENGTH);
            // Unless it is told, the client leaves out the body of a GET or a HEAD.
            fields.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}
