//! Redirects within the service that was called.
//!
//! Owns which redirects are followed and where they lead. The invariant: a followed redirect stays on
//! that service, whatever host and scheme it names. It must not know how a request is sent again.

use ::http::HeaderValue;
use url::{Position, Url};

use super::location::{OwnOrigins, joined};
use crate::operation::DeliveryGuarantee;

/// Whether a redirect with that status asks for the same request, method and body, once more.
/// A 301 may be meant so; many clients take it for a GET, so only what may be repeated follows.
pub const fn repeats_request(status: u16, delivery: DeliveryGuarantee) -> bool {
    match status {
        307 | 308 => true,
        301 => matches!(delivery, DeliveryGuarantee::AtLeastOnce),
        _ => false,
    }
}

/// Path and query at which a request for `requested` is sent again, where `location` names a
/// place of the service's own, and another path. The same path under another scheme or host would
/// only bring the same redirect once more.
pub fn path_again(location: &HeaderValue, requested: &Url, home: OwnOrigins<'_>) -> Option<String> {
    let mut url = joined(requested, location)?;
    url.set_fragment(None);
    let names_user = !url.username().is_empty() || url.password().is_some();
    let target = home.path_of(&url).filter(|_| !names_user)?;
    (target != requested[Position::BeforePath..Position::AfterQuery]).then_some(target)
}

/// Whether `location` names the place that was requested, by another scheme than that of the
/// service's own URL, or of the public one where it names that host. The service then wants TLS
/// and did nothing. Such redirects often leave the port out, and put the slash or the query right on
/// the way.
pub fn names_scheme_alone(location: &HeaderValue, requested: &Url, home: OwnOrigins<'_>) -> bool {
    let Some(url) = joined(requested, location) else { return false };
    home.by_host(&url).is_some_and(|(named, path)| {
        named.scheme() != url.scheme() && is_same_but_for_slash(&path, requested.path())
    })
}

fn is_same_but_for_slash(one: &str, other: &str) -> bool {
    let bare = |path| <str>::strip_suffix(path, '/').unwrap_or(path);
    bare(one) == bare(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_301_is_sent_again_only_where_it_may_be_repeated() {
        use DeliveryGuarantee::{AtLeastOnce, AtMostOnce};
        for (status, at_most_once, at_least_once) in [
            (301, false, true),
            (302, false, false),
            (303, false, false),
            (305, false, false),
            (307, true, true),
            (308, true, true),
        ] {
            assert_eq!(repeats_request(status, AtMostOnce), at_most_once, "{status}");
            assert_eq!(repeats_request(status, AtLeastOnce), at_least_once, "{status}");
        }
    }

    #[test]
    fn what_names_another_path_of_the_same_service_is_sent_there() {
        let requested = Url::parse("http://127.0.0.1:9000/orders?x=1").unwrap();
        let public = ["https://api.example.com/base", "http://b.example:81"];
        let public = public.map(|url| Url::parse(url).unwrap());
        let home = OwnOrigins { upstream: &requested, public: &public };
        for (location, target) in [
            ("/orders/?x=1", Some("/orders/?x=1")),
            ("orders/", Some("/orders/")),
            ("http://127.0.0.1:9000/orders/#part", Some("/orders/")),
            ("https://127.0.0.1:9000/orders/", Some("/orders/")),
            ("//127.0.0.1:9000/v2/orders", Some("/v2/orders")),
            ("https://api.example.com/orders/", Some("/orders/")),
            ("http://api.example.com/orders/", Some("/orders/")),
            ("https://api.example.com/base/orders/", Some("/orders/")),
            ("http://b.example:81/orders/", Some("/orders/")),
            // The same once more.
            ("https://127.0.0.1:9000/orders?x=1", None),
            ("https://api.example.com/orders?x=1", None),
            ("https://api.example.com/base/orders?x=1", None),
            ("/orders?x=1", None),
            ("?x=1#part", None),
            // Another service.
            ("https://127.0.0.1/orders/", None),
            ("http://127.0.0.1:9001/orders/", None),
            ("http://localhost:9000/orders/", None),
            ("http://api.example.com:81/orders/", None),
            ("https://login.example/", None),
            ("http://user@127.0.0.1:9000/orders/", None),
            ("javascript:alert(1)", None),
            ("", None),
        ] {
            let location = HeaderValue::from_static(location);
            let found = path_again(&location, &requested, home);
            assert_eq!(found.as_deref(), target, "{location:?}");
        }
    }

    #[test]
    fn the_same_place_by_another_scheme_is_told_from_every_other() {
        let requested = Url::parse("http://127.0.0.1:9000/orders?x=1").unwrap();
        for (public, location, found) in [
            ("http://api.example.com/base", "https://127.0.0.1/orders?x=1", true),
            ("http://api.example.com/base", "https://127.0.0.1:443/orders?x=1", true),
            ("http://api.example.com/base", "https://127.0.0.1:9000/orders/?x=1", true),
            ("http://api.example.com/base", "https://127.0.0.1:9000/orders?x=1&a=1", true),
            ("http://api.example.com/base", "https://127.0.0.1:9000/orders", true),
            ("http://api.example.com/base", "https://127.0.0.1/orders/", true),
            ("http://api.example.com:8080", "https://api.example.com/orders", true),
            ("http://api.example.com:8080/base", "https://api.example.com/base/orders/", true),
            ("http://api.example.com/base", "https://127.0.0.1:9000/orders?x=1", true),
            ("http://api.example.com/base", "https://127.0.0.1:9000/orders?x=1#part", true),
            ("http://api.example.com/base", "https://api.example.com/base/orders?x=1", true),
            ("http://api.example.com/base", "https://api.example.com/orders?x=1", true),
            ("http://api.example.com/base", "http://127.0.0.1:9000/orders?x=1", false),
            ("http://api.example.com/base", "/orders?x=1", false),
            ("http://api.example.com/base", "https://other.example/orders?x=1", false),
            ("http://api.example.com/base", "https://127.0.0.1:8443/orders?x=1", false),
            ("http://api.example.com/base", "https://127.0.0.1/orders/7", false),
            ("http://api.example.com/base", "https://127.0.0.1/orders//", false),
            ("http://api.example.com/base", "https://127.0.0.1/", false),
            ("http://api.example.com/base", "http://127.0.0.1/orders?x=1", false),
            // The page of what it did, on the service's host, and a place that is not that page.
            ("https://127.0.0.1", "https://127.0.0.1/orders", false),
            ("https://127.0.0.1:8443", "https://127.0.0.1/orders", true),
            ("https://api.example.com:8443", "https://api.example.com/orders", false),
            ("https://api.example.com/base", "https://127.0.0.1:9000/orders?x=1", true),
            ("https://api.example.com/base", "http://api.example.com/base/orders?x=1", true),
            // The page of what it did, as clients see it.
            ("https://api.example.com/base", "https://api.example.com/base/orders?x=1", false),
        ] {
            let public = [Url::parse(public).unwrap()];
            let home = OwnOrigins { upstream: &requested, public: &public };
            let location = HeaderValue::from_static(location);
            assert_eq!(names_scheme_alone(&location, &requested, home), found, "{location:?}");
        }
        let home = OwnOrigins { upstream: &requested, public: &[] };
        let root = Url::parse("http://127.0.0.1:9000/").unwrap();
        for location in ["https://127.0.0.1", "https://127.0.0.1/", "https://127.0.0.1/?a=1"] {
            let location = HeaderValue::from_static(location);
            assert!(names_scheme_alone(&location, &root, home), "{location:?}");
        }
    }

    #[test]
    fn a_service_on_the_usual_port_is_the_same_by_either_scheme() {
        let requested = Url::parse("http://orders.internal/orders").unwrap();
        for (location, target) in [
            ("https://orders.internal/orders/", Some("/orders/")),
            ("https://orders.internal/orders", None),
            ("https://orders.internal:8443/orders/", None),
        ] {
            let location = HeaderValue::from_static(location);
            let home = OwnOrigins { upstream: &requested, public: &[] };
            assert_eq!(path_again(&location, &requested, home).as_deref(), target, "{location:?}");
        }
    }
}
