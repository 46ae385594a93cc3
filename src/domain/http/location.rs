//! Where an upstream's `Location` leads, seen from outside.
//!
//! Owns the rewriting of `Location` and `Content-Location` onto the public origin. The
//! invariant: what comes out is an absolute http or https URL that stays on the public
//! origin, or is owned up to be foreign. It must not know what the location is used for.

use ::http::HeaderValue;
use url::Url;

use super::grammar::trim;

/// Where a location leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// To the upstream, or to the public origin already: the URL there.
    Own(String),
    /// To another origin: the URL.
    Foreign(String),
    /// Nowhere: empty, with control characters, not http or https, or no URL at all.
    Unusable,
}

/// Resolves a location that an upstream gave.
///
/// `upstream` is the upstream's URL, of which only the origin counts; `target` the path
/// and query that were requested there, which relative references start from;
/// `public_base` what links are built on (`https://api.example.com/base`).
pub fn resolve(value: &HeaderValue, upstream: &Url, target: &str, public_base: &str) -> Resolved {
    let Some(url) = joined(&requested(upstream, target), value) else { return Resolved::Unusable };
    if url.origin() == upstream.origin() {
        return Resolved::Own(rebased(&url, public_base));
    }
    match Url::parse(public_base).map(|public| public.origin()) {
        // Without userinfo, as above.
        Ok(public) if public == url.origin() => {
            Resolved::Own(rebased(&url, &public.ascii_serialization()))
        }
        _ => Resolved::Foreign(url.into()),
    }
}

/// The URL that a reference means in an answer to a request for `base`; none where it is
/// empty, has control characters, or leads to anything but http and https.
pub fn joined(base: &Url, value: &HeaderValue) -> Option<Url> {
    // Servers send UTF-8 here too. The parser would silently drop tabs and line ends.
    let text = trim(std::str::from_utf8(value.as_bytes()).ok()?);
    if text.is_empty() || text.contains(char::is_control) {
        return None;
    }
    let url = base.join(text).ok()?;
    let usable = matches!(url.scheme(), "http" | "https") && url.has_host();
    usable.then_some(url)
}

/// The URL that was requested. Path and query are set, not joined: a target such as
/// `//host/` is a path and must not choose the host.
fn requested(upstream: &Url, target: &str) -> Url {
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

fn rebased(url: &Url, public_base: &str) -> String {
    let base = public_base.trim_end_matches('/');
    format!("{base}{}", &url[url::Position::BeforePath..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PUBLIC: &str = "https://api.example.com/base";

    fn resolved(location: &str) -> Resolved {
        let upstream = Url::parse("http://orders.internal:9000").unwrap();
        let value = HeaderValue::from_bytes(location.as_bytes()).unwrap();
        resolve(&value, &upstream, "/shop/orders?x=1", PUBLIC)
    }

    fn own(rest: &str) -> Resolved {
        Resolved::Own(format!("{PUBLIC}{rest}"))
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
        ] {
            assert_eq!(resolved(location), own(rest), "{location}");
        }
    }

    #[test]
    fn a_default_port_may_be_written_or_not() {
        let upstream = Url::parse("http://orders.internal").unwrap();
        let value = HeaderValue::from_static("http://orders.internal:80/7");
        assert_eq!(resolve(&value, &upstream, "/", PUBLIC), own("/7"));
    }

    #[test]
    fn what_is_on_the_public_origin_already_stays_as_it_is() {
        let location = "https://api.example.com/orders/7";
        assert_eq!(resolved(location), Resolved::Own(location.to_owned()));
        let with_user = "https://user:pass@api.example.com:443/orders/7";
        assert_eq!(resolved(with_user), Resolved::Own(location.to_owned()));
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
            ("https://orders.internal:9000/", "https://orders.internal:9000/"),
            ("http://orders.internal:9001/", "http://orders.internal:9001/"),
            ("http://orders.internal/", "http://orders.internal/"),
        ] {
            assert_eq!(resolved(location), Resolved::Foreign(url.to_owned()), "{location}");
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
            assert_eq!(resolved(location), Resolved::Unusable, "{location}");
        }
        let octets = HeaderValue::from_bytes(b"/\xff").unwrap();
        let upstream = Url::parse("http://a").unwrap();
        assert_eq!(resolve(&octets, &upstream, "/", PUBLIC), Resolved::Unusable);
        let control = HeaderValue::from_bytes("/\u{85}".as_bytes()).unwrap();
        assert_eq!(resolve(&control, &upstream, "/", PUBLIC), Resolved::Unusable);
    }

    #[test]
    fn the_requested_target_never_chooses_the_host() {
        let upstream = Url::parse("http://orders.internal:9000").unwrap();
        let value = HeaderValue::from_static("7");
        let found = resolve(&value, &upstream, "//evil.example/x", PUBLIC);
        assert_eq!(found, own("//evil.example/7"));
    }

    proptest! {
        #[test]
        fn whatever_is_own_stays_on_the_public_origin(
            location in "(http:|https:|/|\\\\|//|@|:|[a-z.]{1,6}|#|\\?|%2f|é){0,8}",
            target in "/[a-z/?#%]{0,12}",
        ) {
            let upstream = Url::parse("http://u.example").unwrap();
            let value = HeaderValue::from_bytes(location.as_bytes()).unwrap();
            if let Resolved::Own(url) = resolve(&value, &upstream, &target, PUBLIC) {
                let origin = Url::parse(PUBLIC).unwrap().origin();
                prop_assert_eq!(Url::parse(&url).unwrap().origin(), origin);
                prop_assert!(HeaderValue::from_str(&url).is_ok());
            }
        }

        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..60), target in "\\PC{0,20}") {
            let upstream = Url::parse("http://u.example").unwrap();
            if let Ok(value) = HeaderValue::from_bytes(&octets) {
                let _ = resolve(&value, &upstream, &target, PUBLIC);
            }
        }
    }
}
