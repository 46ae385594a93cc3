//! The public origin of links, and the syntax of `Host`.
//!
//! Owns the choice between `server.public_url`, the listen address and the request's own `Host`. The
//! invariant: an origin taken from a `Host` is used in the answer to that very request only, which is
//! why [`PublicOrigin::lasting`] never returns it. It must not know which links are built.

use std::net::SocketAddr;

use ::http::HeaderMap;
use url::Url;

use super::forwarded::{RequestSender, Scheme};

/// Why a `server.public_url` is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicUrlProblem {
    /// Not an absolute http or https URL.
    #[error("`{0}` is not an http or https url: write it as in https://api.example.com")]
    NotAbsolute(String),
    /// With userinfo, a query or a fragment.
    #[error("`{0}` has a user, a query or a fragment: a public url has a host and may have a path")]
    TooMuch(String),
}

/// Why a `Host` is refused (400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostProblem {
    /// None, or an empty one.
    #[error("the request has no host field: send the host that it is meant for")]
    Missing,
    /// More than one line.
    #[error("there is more than one host field: send one")]
    Several,
    /// Not a host and an optional port.
    #[error("the host field is not a host and an optional port")]
    Malformed,
}

/// Where the gateway is reached from outside, as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicOrigin {
    /// Always here, as `server.public_url` says: scheme, host, and perhaps a path, without a
    /// slash at the end.
    Fixed(String),
    /// Where the gateway listens, which is loopback: no client from outside comes here.
    Listening(String),
    /// Wherever each request says that it was sent to.
    PerRequest,
}

impl PublicOrigin {
    /// The origin by `server.public_url` if that is set, else by the address that is
    /// really listened on: fixed where that is loopback.
    pub fn resolve(public_url: Option<&str>, listen: SocketAddr) -> Result<Self, PublicUrlProblem> {
        match public_url {
            Some(text) => check_public_url(text).map(Self::Fixed),
            None if listen.ip().to_canonical().is_loopback() => {
                Ok(Self::Listening(format!("http://{listen}")))
            }
            None => Ok(Self::PerRequest),
        }
    }

    /// What may stand in webhooks, callbacks and everything else that outlives an
    /// answer. `None`: they are refused until `server.public_url` is set.
    pub fn lasting(&self) -> Option<&str> {
        match self {
            Self::Fixed(base) | Self::Listening(base) => Some(base),
            Self::PerRequest => None,
        }
    }

    /// The scheme and the host that `server.public_url` names, and its port where it has one.
    pub fn told(&self) -> Option<(Scheme, &str)> {
        match self {
            Self::Fixed(base) => authority(base),
            Self::Listening(_) | Self::PerRequest => None,
        }
    }

    /// The scheme and the host of what outlives an answer.
    pub fn lasting_authority(&self) -> Option<(Scheme, &str)> {
        authority(self.lasting()?)
    }

    /// What links in the answer to this request are built on, without a slash at the
    /// end: the fixed one, else what a trusted peer forwarded, else the `Host`.
    /// `scheme` is that of the connection itself.
    pub fn for_request(
        &self,
        headers: &HeaderMap,
        sender: &RequestSender,
        scheme: Scheme,
    ) -> Result<String, HostProblem> {
        let Self::PerRequest = self else {
            return Ok(self.lasting().unwrap_or_default().to_owned());
        };
        let host = match &sender.host {
            Some(host) => host.clone(),
            None => host(headers)?.ok_or(HostProblem::Missing)?,
        };
        Ok(format!("{}://{host}", sender.scheme.unwrap_or(scheme)))
    }
}

/// The scheme and the authority of a base that went through [`check_public_url`].
fn authority(base: &str) -> Option<(Scheme, &str)> {
    let (scheme, rest) = base.split_once("://")?;
    Some((Scheme::parse(scheme)?, rest.split('/').next()?))
}

fn check_public_url(text: &str) -> Result<String, PublicUrlProblem> {
    let refused = || PublicUrlProblem::NotAbsolute(text.to_owned());
    let url = Url::parse(text).map_err(|_| refused())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused());
    }
    let user = !url.username().is_empty() || url.password().is_some();
    if user || url.query().is_some() || url.fragment().is_some() {
        return Err(PublicUrlProblem::TooMuch(text.to_owned()));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The `Host` of a request in lower case, if there is one that is not empty.
pub fn host(headers: &HeaderMap) -> Result<Option<String>, HostProblem> {
    let mut lines = headers.get_all("host").iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(HostProblem::Several);
    }
    let text = line.to_str().map_err(|_| HostProblem::Malformed)?;
    let host = check_host(text).ok_or(HostProblem::Malformed)?;
    Ok(Some(host).filter(|host| !host.is_empty()))
}

/// A host with an optional port, in lower case, if the text is one: a name of letters,
/// digits, `-`, `.` and `_`, or an address; stricter than RFC 3986, because it ends up
/// in links. An empty text is an empty host.
pub(super) fn check_host(text: &str) -> Option<String> {
    const LONGEST: usize = 261;
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (None, rest.strip_prefix(':').or(rest.is_empty().then_some(""))?)
        }
        None => match text.split_once(':') {
            Some((name, port)) => (Some(name), port),
            None => (Some(text), ""),
        },
    };
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._".contains(&octet);
    let good_name = name.is_none_or(|name| name.bytes().all(plain));
    let nameless = name == Some("") && !text.is_empty();
    let digits = port.bytes().all(|octet| octet.is_ascii_digit());
    let good_port = port.is_empty() || (digits && port.parse::<u16>().is_ok());
    let good = good_name && !nameless && good_port && text.len() <= LONGEST;
    good.then(|| text.trim_end_matches(':').to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;
    use proptest::prelude::*;

    fn listen(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn hosts(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("host", HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn sender() -> RequestSender {
        RequestSender::direct("192.0.2.1".parse().unwrap())
    }

    #[test]
    fn a_public_url_is_fixed_and_may_have_a_path() {
        for (text, base) in [
            ("https://api.example.com", "https://api.example.com"),
            ("https://API.example.com:443/", "https://api.example.com"),
            ("http://example.com:8080/a/b/", "http://example.com:8080/a/b"),
        ] {
            let origin = PublicOrigin::resolve(Some(text), listen("0.0.0.0:80")).unwrap();
            assert_eq!(origin.lasting(), Some(base));
            let headers = hosts(&["evil.example"]);
            assert_eq!(origin.for_request(&headers, &sender(), Scheme::Http).as_deref(), Ok(base));
        }
    }

    #[test]
    fn a_public_url_that_cannot_be_one_is_refused() {
        use PublicUrlProblem as P;
        for text in ["", "api.example.com", "/a", "ftp://a.example", "localhost:8080"] {
            let refused = PublicOrigin::resolve(Some(text), listen("0.0.0.0:80"));
            assert_eq!(refused, Err(P::NotAbsolute(text.to_owned())));
        }
        for text in ["https://u@a.example", "https://a.example/?q", "https://a.example/#f"] {
            let refused = PublicOrigin::resolve(Some(text), listen("0.0.0.0:80"));
            assert_eq!(refused, Err(P::TooMuch(text.to_owned())));
        }
    }

    #[test]
    fn unset_a_loopback_listener_is_its_own_public_origin() {
        for (address, base) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("[::1]:80", "http://[::1]:80"),
            ("[::ffff:127.0.0.1]:80", "http://[::ffff:127.0.0.1]:80"),
        ] {
            let origin = PublicOrigin::resolve(None, listen(address)).unwrap();
            assert_eq!(origin.lasting(), Some(base));
        }
    }

    #[test]
    fn unset_elsewhere_links_follow_the_request_and_nothing_lasts() {
        let origin = PublicOrigin::resolve(None, listen("0.0.0.0:8080")).unwrap();
        assert_eq!(origin.lasting(), None);
        let base = |headers: &HeaderMap, sender: &RequestSender| {
            origin.for_request(headers, sender, Scheme::Http)
        };
        let headers = hosts(&["API.example.com:8080"]);
        assert_eq!(base(&headers, &sender()).as_deref(), Ok("http://api.example.com:8080"));
        let mut forwarded = sender();
        forwarded.scheme = Some(Scheme::Https);
        forwarded.host = Some("public.example".to_owned());
        assert_eq!(base(&headers, &forwarded).as_deref(), Ok("https://public.example"));
        assert_eq!(base(&hosts(&[]), &sender()), Err(HostProblem::Missing));
        assert_eq!(base(&hosts(&[""]), &sender()), Err(HostProblem::Missing));
        assert_eq!(base(&hosts(&["a", "b"]), &sender()), Err(HostProblem::Several));
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for good in ["a", "a.example", "a_b.c-d:80", "192.0.2.1:1", "[::1]", "[2001:db8::1]:443"] {
            assert_eq!(host(&hosts(&[good])), Ok(Some(good.to_owned())));
        }
        assert_eq!(host(&hosts(&["A.Example:"])), Ok(Some("a.example".to_owned())));
        for bad in [
            "a/b", "a b", "a,b", "u@a", "a:b", "a:70000", ":80", "[::1", "[::1]x", "::1", "[a]",
            "a?b", "a#b", "a\\b", "a\"b", "<a>", "é", "a:80:80", "a%2f", "a:+1",
        ] {
            assert_eq!(host(&hosts(&[bad])), Err(HostProblem::Malformed), "{bad}");
        }
        assert_eq!(host(&hosts(&[&"a".repeat(300)])), Err(HostProblem::Malformed));
    }

    proptest! {
        #[test]
        fn whatever_passes_as_host_is_the_host_of_the_link(text in "[a-z0-9.:/@#?\\\\ \\[\\]_-]{1,30}") {
            if let Some(host) = check_host(&text) {
                prop_assert_eq!(check_host(&host), Some(host.clone()));
                if let Ok(url) = Url::parse(&format!("http://{host}/path")) {
                    prop_assert_eq!((url.path(), url.username()), ("/path", ""));
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = check_host(&text);
            let _ = PublicOrigin::resolve(Some(&text), listen("0.0.0.0:80"));
        }
    }
}
