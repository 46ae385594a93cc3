//! The public form of URLs in an upstream's answer.
//!
//! Owns which URLs belong to the gateway, and where a reference leads. The invariant: a target is
//! either a path on the public origin or marked as foreign. It must not know how the location is used.

use std::borrow::Cow;

use ::http::HeaderValue;
use url::{Position, Url};

use super::grammar::trim;

/// The target of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocationTarget {
    /// To the upstream, or to the public origin: path, query and fragment there, without
    /// the path of the public URL.
    Own(String),
    /// To another origin: the URL.
    Foreign(String),
    /// Nowhere: empty, with control characters, not http or https, or no URL at all.
    Unusable,
}

impl LocationTarget {
    /// The URL, where links are built on `public_base` (`https://api.example.com/base`).
    pub fn url(self, public_base: &str) -> Option<String> {
        match self {
            Self::Own(path) => Some(public(&path, public_base)),
            Self::Foreign(url) => Some(url),
            Self::Unusable => None,
        }
    }

    /// Whether it leads nowhere.
    pub fn is_unusable(&self) -> bool {
        *self == Self::Unusable
    }
}

/// The origins that are the gateway's own.
#[derive(Clone, Copy, Debug)]
pub struct OwnOrigins<'a> {
    /// The upstream's URL, of which only host and port count: what stands behind a proxy
    /// that ends TLS writes the scheme that it was told of, with its own port.
    pub upstream: &'a Url,
    /// What clients call the gateway: frameworks build such URLs from `X-Forwarded-*`.
    pub public: &'a [Url],
}

impl OwnOrigins<'_> {
    /// The path of a URL that is the gateway's own.
    pub fn path_of(&self, url: &Url) -> Option<String> {
        if is_same_host(url, self.upstream) {
            return Some(url[Position::BeforePath..].to_owned());
        }
        on_public(url, self.public)
    }

    /// The origin of the gateway's own whose host a URL names, and the path there. The URL may
    /// leave the port out: a redirect to another scheme does, where it takes the default one of
    /// that scheme.
    pub fn by_host(&self, url: &Url) -> Option<(&Url, String)> {
        let on_public = |named: fn(&Url, &Url) -> bool| {
            let public = self.public.iter().find(|public| named(url, public))?;
            let path = below(url.path(), public.path()).unwrap_or_else(|| url.path().to_owned());
            Some((public, path))
        };
        let on_upstream = |named: fn(&Url, &Url) -> bool| {
            named(url, self.upstream).then(|| (self.upstream, url.path().to_owned()))
        };
        on_public(is_same_host)
            .or_else(|| on_upstream(is_same_host))
            .or_else(|| on_upstream(is_host_alone))
            .or_else(|| on_public(is_host_alone))
    }

    /// Resolves a location that an upstream gave in an answer to a request for `target`:
    /// path and query, from which relative references start.
    pub fn resolve(&self, location: &[u8], target: &str) -> LocationTarget {
        self.resolve_from(&requested(self.upstream, target), location)
    }

    /// The same for a URL that was requested, so that many locations cost its reading once.
    pub fn resolve_from(&self, requested: &Url, location: &[u8]) -> LocationTarget {
        match meant(requested, location) {
            None => LocationTarget::Unusable,
            Some(url) => match self.path_of(&url) {
                Some(path) => LocationTarget::Own(path),
                None => LocationTarget::Foreign(url.into()),
            },
        }
    }
}

/// The path of a URL on one of the public origins, without that of the public URL.
fn on_public(url: &Url, public: &[Url]) -> Option<String> {
    let public = public.iter().find(|public| is_same_host(url, public))?;
    let path = &url[Position::BeforePath..];
    Some(below(path, public.path()).unwrap_or_else(|| path.to_owned()))
}

/// Whether two URLs name the same host and port, whatever their schemes.
fn is_same_host(one: &Url, other: &Url) -> bool {
    let default_ports = one.port().is_none() && other.port().is_none();
    let same_port = default_ports || one.port_or_known_default() == other.port_or_known_default();
    one.host().is_some() && one.host() == other.host() && same_port
}

/// Whether a URL names the host of another one, and no port.
fn is_host_alone(url: &Url, other: &Url) -> bool {
    url.host().is_some() && url.host() == other.host() && url.port().is_none()
}

/// What lies below the path of the public URL; services behind it do not know that path,
/// as a rule, and leave it out. `path` may have a query and a fragment.
fn below(path: &str, base: &str) -> Option<String> {
    let rest = path.strip_prefix(base.trim_end_matches('/'))?;
    match rest.chars().next() {
        Some('/') => Some(rest.to_owned()),
        // The public URL itself, without the slash at its end.
        None | Some('?' | '#') => Some(format!("/{rest}")),
        Some(_) => None,
    }
}

/// A place as it is shown: what is the gateway's own is on the public origin.
pub fn public(place: &str, base: &str) -> String {
    match own_path(place, base) {
        Some(path) => format!("{}{path}", base.trim_end_matches('/')),
        None => place.to_owned(),
    }
}

/// The path of a place that is the gateway's own for a reader whose public origin is `base`:
/// without `server.public_url`, an answer's reader says which one that is.
pub fn own_path<'p>(place: &'p str, base: &str) -> Option<Cow<'p, str>> {
    if place.starts_with('/') {
        return Some(Cow::Borrowed(place));
    }
    let (url, base) = (Url::parse(place).ok()?, Url::parse(base).ok()?);
    on_public(&url, std::slice::from_ref(&base)).map(Cow::Owned)
}

/// The URL that a reference means in an answer to a request for `base`; none where it is
/// empty, has control characters, or leads to anything but http and https.
pub fn joined(base: &Url, value: &HeaderValue) -> Option<Url> {
    meant(base, value.as_bytes())
}

fn meant(base: &Url, location: &[u8]) -> Option<Url> {
    // Servers send UTF-8 here too, and Latin-1. The parser would silently drop tabs and
    // line ends.
    let text = match std::str::from_utf8(location) {
        Ok(text) => text.to_owned(),
        Err(_) => encoded(location),
    };
    let text = trim(&text);
    if text.is_empty() || text.contains(char::is_control) {
        return None;
    }
    let url = base.join(text).ok()?;
    let usable = matches!(url.scheme(), "http" | "https") && url.has_host();
    usable.then_some(url)
}

/// The octets, those that are not ASCII percent-encoded, as browsers ask for them.
fn encoded(octets: &[u8]) -> String {
    let written = octets.iter().map(|octet| match octet.is_ascii() {
        true => char::from(*octet).to_string(),
        false => format!("%{octet:02X}"),
    });
    written.collect()
}

/// The URL that was requested. Path and query are set, not joined: a target such as
/// `//host/` is a path and must not choose the host.
pub fn requested(upstream: &Url, target: &str) -> Url {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut url = upstream.clone();
    url.set_path(path);
    url.set_query(query);
    url.set_fragment(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PUBLIC: &str = "https://api.example.com/base";

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    /// What it leads to in an answer of that upstream.
    fn of(upstream: &str, location: impl AsRef<[u8]>, target: &str) -> LocationTarget {
        let (upstream, public) = (url(upstream), [url(PUBLIC)]);
        OwnOrigins { upstream: &upstream, public: &public }.resolve(location.as_ref(), target)
    }

    fn resolved(location: impl AsRef<[u8]>) -> LocationTarget {
        of("http://orders.internal:9000", location, "/shop/orders?x=1")
    }

    fn own(path: &str) -> LocationTarget {
        LocationTarget::Own(path.to_owned())
    }

    #[test]
    fn what_is_relative_or_on_the_upstream_moves_to_the_public_origin() {
        for (location, rest) in [
            ("/orders/7", "/orders/7"),
            ("7", "/shop/7"),
            ("orders/7?y=2#f", "/shop/orders/7?y=2#f"),
            ("../7", "/7"),
            ("../../../etc", "/etc"),
            ("?y=2", "/shop/orders?y=2"),
            ("#f", "/shop/orders?x=1#f"),
            ("http://orders.internal:9000/orders/7", "/orders/7"),
            ("HTTP://ORDERS.internal:9000/orders/7", "/orders/7"),
            ("http://user:pass@orders.internal:9000/7", "/7"),
            ("//orders.internal:9000/7", "/7"),
            ("http://orders.internal:9000", "/"),
            (" /a ", "/a"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("https://orders.internal:9000/orders/7", "/orders/7"),
        ] {
            assert_eq!(resolved(location), own(rest), "{location}");
        }
    }

    #[test]
    fn a_default_port_may_be_written_or_not() {
        for location in ["http://orders.internal:80/7", "https://orders.internal/7"] {
            assert_eq!(of("http://orders.internal", location, "/"), own("/7"), "{location}");
        }
        let foreign = "https://orders.internal:8443/7";
        assert_eq!(
            of("http://orders.internal", foreign, "/"),
            LocationTarget::Foreign(foreign.to_owned())
        );
    }

    #[test]
    fn what_is_on_the_public_origin_is_the_gateways_own_with_or_without_its_path() {
        for location in [
            "https://api.example.com/base/orders/7",
            "https://api.example.com/orders/7",
            "https://API.example.com:443/orders/7",
            "http://api.example.com/orders/7",
            "https://user:pass@api.example.com/base/orders/7",
            "//api.example.com/orders/7",
        ] {
            assert_eq!(resolved(location), own("/orders/7"), "{location}");
            assert_eq!(
                resolved(location).url(PUBLIC).as_deref(),
                Some("https://api.example.com/base/orders/7")
            );
        }
        assert_eq!(resolved("https://api.example.com/based"), own("/based"));
        assert_eq!(resolved("https://api.example.com/base"), own("/"));
        assert_eq!(resolved("https://api.example.com/base?a#b"), own("/?a#b"));
        let port = "https://api.example.com:8443/7";
        assert_eq!(resolved(port), LocationTarget::Foreign(port.to_owned()));
    }

    #[test]
    fn what_lies_on_the_origin_of_its_reader_is_the_gateways_own_for_that_reader() {
        for (place, path) in [
            ("/orders/7", Some("/orders/7")),
            ("https://api.example.com/base/orders/7", Some("/orders/7")),
            ("http://api.example.com/orders/7?a#b", Some("/orders/7?a#b")),
            ("https://api.example.com:8443/orders/7", None),
            ("https://api.example.com.evil.example/orders/7", None),
            ("https://elsewhere.example/orders/7", None),
        ] {
            assert_eq!(own_path(place, PUBLIC).as_deref(), path, "{place}");
            let shown = path.map_or_else(|| place.to_owned(), |path| format!("{PUBLIC}{path}"));
            assert_eq!(public(place, PUBLIC), shown);
        }
        assert_eq!(public("/orders/7", ""), "/orders/7");
    }

    #[test]
    fn octets_of_latin_1_are_percent_encoded() {
        assert_eq!(resolved(b"/caf\xe9?q=\xfc"), own("/caf%E9?q=%FC"));
        assert_eq!(resolved(b"http://orders.internal:9000/\xff"), own("/%FF"));
        assert_eq!(resolved(b"http://caf\xe9.example/"), LocationTarget::Unusable);
    }

    #[test]
    fn another_origin_is_foreign_in_every_disguise() {
        for (location, url) in [
            ("https://evil.example/7", "https://evil.example/7"),
            ("//evil.example/7", "http://evil.example/7"),
            ("/\\evil.example/7", "http://evil.example/7"),
            ("\\\\evil.example", "http://evil.example/"),
            ("http:\\\\evil.example", "http://evil.example/"),
            (
                "http://orders.internal:9000@evil.example/",
                "http://orders.internal:9000@evil.example/",
            ),
            ("https://orders.internal/", "https://orders.internal/"),
            ("http://orders.internal:9001/", "http://orders.internal:9001/"),
            ("http://orders.internal/", "http://orders.internal/"),
        ] {
            assert_eq!(resolved(location), LocationTarget::Foreign(url.to_owned()), "{location}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_unusable() {
        for location in [
            "",
            "  ",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "mailto:a@b.example",
            "file:///etc/passwd",
            "/a\tb",
            "java\tscript:alert(1)",
            "http://",
            "http://[::1",
            "http://a b/",
            "https://:80/",
        ] {
            assert_eq!(resolved(location), LocationTarget::Unusable, "{location}");
        }
        assert_eq!(resolved("/\u{85}"), LocationTarget::Unusable);
    }

    #[test]
    fn the_requested_target_never_chooses_the_host() {
        let found = of("http://orders.internal:9000", "7", "//evil.example/x");
        assert_eq!(found, own("//evil.example/7"));
    }

    proptest! {
        #[test]
        fn whatever_is_own_stays_on_the_public_origin(
            location in "(http:|https:|/|\\\\|//|@|:|[a-z.]{1,6}|#|\\?|%2f|é){0,8}",
            target in "/[a-z/?#%]{0,12}",
        ) {
            if let LocationTarget::Own(path) = of("http://u.example", &location, &target) {
                let shown = public(&path, PUBLIC);
                let origin = Url::parse(PUBLIC).unwrap().origin();
                prop_assert_eq!(Url::parse(&shown).unwrap().origin(), origin);
                prop_assert!(HeaderValue::from_str(&shown).is_ok());
            }
        }

        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..60), target in "\\PC{0,20}") {
            let _ = of("http://u.example", &octets, &target);
        }
    }
}
