//! The settings of an upstream, validated once at the start.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderMap};
use url::{Origin, Url};

use cloakroom_domain::Fields;
pub use cloakroom_domain::connections::{HeaderCase, Reuse};
use cloakroom_domain::job::JobWords;
use cloakroom_domain::operation::Doubt;

/// Where an upstream is and how it is called.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Scheme, host and port; no path, query or userinfo.
    pub origin: Url,
    /// Whether it is sent the client's `Host` instead of its own authority.
    pub preserve_host: bool,
    /// Added to every request to its own origin, replacing what the client sent.
    pub headers: Fields,
    /// Foreign origins whose monitors may be followed, as `https://jobs.example.com`.
    pub follow: Vec<String>,
    /// Where and in which words the documents of its monitors tell how a job stands.
    pub job_words: JobWords,
    /// The longest that name lookup, TCP and TLS handshake may take together.
    pub connect_timeout: Duration,
    /// How long it may be silent on a request that is only passed on.
    pub response_timeout: Duration,
    /// The largest answer that is recorded, in octets.
    pub max_response: u64,
    /// Statuses that say here that the request was not processed, though they usually leave that
    /// open.
    pub unprocessed: Vec<u16>,
    /// The longest head of an answer, in octets.
    pub max_response_headers: usize,
    /// Whether connections are used again.
    pub reuse: Reuse,
    /// How the names of fields are written.
    pub header_case: HeaderCase,
}

impl UpstreamSettings {
    /// What a status alone leaves open of a request that this upstream was sent.
    pub fn doubt_of(&self, status: u16) -> Doubt {
        match self.unprocessed.contains(&status) {
            true => Doubt::None,
            false => Doubt::of_status(status),
        }
    }
}

/// An upstream cannot be used as it is set.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamSettingsError {
    /// The URL is more, or something else, than an http or https origin.
    #[error(
        "upstream {name}: url must be an http or https origin like http://localhost:9000, without path, query or user"
    )]
    NotAnOrigin {
        /// The upstream.
        name: Arc<str>,
    },
    /// An entry of `follow` is not an origin.
    #[error(
        "upstream {name}: follow must list http or https origins like https://jobs.example.com, but has {entry:?}"
    )]
    NotFollowable {
        /// The upstream.
        name: Arc<str>,
        /// The entry.
        entry: String,
    },
    /// TLS has no certificates to trust.
    #[error(
        "upstream {name}: no certificate authorities found ({cause}); install the ca-certificates package"
    )]
    NoRoots {
        /// The upstream.
        name: Arc<str>,
        /// What the search said.
        cause: std::io::Error,
    },
}

impl UpstreamSettings {
    /// Whether it can be used as it is set.
    pub fn is_usable(&self) -> Result<(), UpstreamSettingsError> {
        self.check().map(|_| ())
    }

    /// The URL that requests with these fields call it by, where that is not its own: that of
    /// the client's `Host`, where it is preserved. An upstream writes it into its locations.
    pub fn called(&self, fields: &HeaderMap) -> Option<Url> {
        let host = fields.get(HOST).filter(|_| self.preserve_host)?.to_str().ok()?;
        let url = Url::parse(&format!("{}://{host}", self.origin.scheme())).ok()?;
        is_bare_origin(&url).then_some(url)
    }

    pub(super) fn check(&self) -> Result<Vec<Origin>, UpstreamSettingsError> {
        let name = || self.name.clone();
        if !is_bare_origin(&self.origin) {
            return Err(UpstreamSettingsError::NotAnOrigin { name: name() });
        }
        let origin_of = |entry: &String| match Url::parse(entry) {
            Ok(url) if is_bare_origin(&url) => Ok(url.origin()),
            _ => Err(UpstreamSettingsError::NotFollowable { name: name(), entry: entry.clone() }),
        };
        self.follow.iter().map(origin_of).collect()
    }
}

/// Whether any of these is reached by TLS.
pub(super) fn wants_tls<'a>(mut origins: impl Iterator<Item = &'a Origin>) -> bool {
    origins.any(|origin| matches!(origin, Origin::Tuple(scheme, ..) if scheme == "https"))
}

fn is_bare_origin(url: &Url) -> bool {
    is_web(url) && url.path() == "/" && url.query().is_none() && url.fragment().is_none()
}

/// Whether a URL is http or https with a host, and names no user.
pub(super) fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
}
