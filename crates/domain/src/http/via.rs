//! Loop detection by `Via` and `CDN-Loop`.
//!
//! Owns the gateway's mark in both fields. The invariant: a request that carries this gateway's mark
//! has passed it before (RFC 8586). It must not know where requests go.

use ::http::header::VIA;
use ::http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::grammar::{lines, pair, plain_members, quote, split};
use crate::TicketKey;

/// The name by which the gateway calls itself.
const PSEUDONYM: &str = "cloakroom";

/// Adds `Via` (RFC 9110 section 7.6.3) for a request that was received in `version`.
pub fn add_via(headers: &mut HeaderMap, version: Version) {
    let via = match version {
        Version::HTTP_10 => "1.0 cloakroom",
        Version::HTTP_2 => "2 cloakroom",
        Version::HTTP_3 => "3 cloakroom",
        _ => "1.1 cloakroom",
    };
    headers.append(VIA, HeaderValue::from_static(via));
}

const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// A gateway's mark. `own_id` tells gateways apart, in ASCII; what could not stand in a
/// field is left out of it.
pub fn mark(own_id: &str) -> HeaderValue {
    let mark = format!("{PSEUDONYM}; id={}", quote(&plain(own_id)));
    HeaderValue::from_str(&mark).unwrap_or(HeaderValue::from_static(PSEUDONYM))
}

/// What a gateway tells itself apart by: the same for every start on the same ledger, and
/// tells nothing of it.
pub fn own_id(key: &TicketKey) -> String {
    let digest = key.digest("cdn-loop", &[]);
    let (half, _) = digest.split_first_chunk().unwrap_or((&[0; 8], &[]));
    format!("{:016x}", u64::from_be_bytes(*half))
}

/// Adds a gateway's mark.
pub fn add_cdn_loop(headers: &mut HeaderMap, mark: &HeaderValue) {
    headers.append(CDN_LOOP, mark.clone());
}

/// Whether the request carries this gateway's own mark: it is answered 508.
///
/// A comma separates, quoted or not: a quote that a client left open would hide the mark behind it
/// where a proxy joined the lines. A quoted comma within the mark hides it no more, so the line is also
/// read with its quotes.
pub fn is_loop(headers: &HeaderMap, own_id: &str) -> bool {
    let own_id = plain(own_id);
    let is_own = |mark: &str| {
        let mut parts = split(mark, ';');
        let own_name = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(PSEUDONYM));
        let named = |(name, value): (String, Option<String>)| {
            name == "id" && value.as_deref() == Some(own_id.as_str())
        };
        own_name && parts.filter_map(pair).any(named)
    };
    lines(headers, "cdn-loop")
        .any(|line| plain_members(&line).any(is_own) || split(&line, ',').any(is_own))
}

/// Whether any gateway of this kind has sent the request.
pub fn is_from_gateway(headers: &HeaderMap) -> bool {
    let is_named = |mark: &str| {
        split(mark, ';').next().is_some_and(|name| name.eq_ignore_ascii_case(PSEUDONYM))
    };
    lines(headers, "cdn-loop").any(|line| plain_members(&line).any(is_named))
}

fn plain(id: &str) -> String {
    id.chars().filter(|it| it.is_ascii_alphanumeric() || "-._".contains(*it)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marked(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("cdn-loop", HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn a_request_that_was_here_before_is_a_loop() {
        let mut headers = marked(&["other.example; id=\"a\""]);
        assert!(!is_loop(&headers, "a"));
        add_cdn_loop(&mut headers, &mark("a"));
        assert!(is_loop(&headers, "a"));
        assert!(!is_loop(&headers, "b"), "another gateway of the same name");
        assert_eq!(headers.get_all("cdn-loop").iter().nth(1).unwrap(), "cloakroom; id=\"a\"");
    }

    #[test]
    fn the_mark_is_found_when_lines_were_joined_or_quoting_was_changed() {
        assert!(is_loop(&marked(&["x, CLOAKROOM ;v=1;ID=a, y"]), "a"));
        assert!(!is_loop(&marked(&["x; id=\"cloakroom; id=a\""]), "a"));
        assert!(!is_loop(&marked(&["cloakroom", "cloakroom; id", "cloakroom; id=\"a"]), "a"));
    }

    #[test]
    fn nothing_that_a_client_writes_before_the_mark_hides_it() {
        for before in ["é", "\"", "x; a=\"", "x; a=\"\\\\", "\u{fffd}\"\"\""] {
            assert!(
                is_loop(&marked(&[&format!("{before}, cloakroom; id=\"a\"")]), "a"),
                "{before}"
            );
        }
        for own in ["cloakroom; x=\"a,b\"; id=\"a\"", "y, cloakroom; x=\",\"; id=a, z"] {
            assert!(is_loop(&marked(&[own]), "a"), "{own}");
        }
        let mut octets = marked(&[]);
        octets.append("cdn-loop", HeaderValue::from_bytes(b"\xe9, cloakroom; id=a").unwrap());
        assert!(is_loop(&octets, "a"));
    }

    #[test]
    fn via_names_the_version_received_behind_those_of_others() {
        let mut headers = HeaderMap::new();
        headers.append("via", HeaderValue::from_static("1.0 fred"));
        add_via(&mut headers, Version::HTTP_11);
        let lines: Vec<_> = headers.get_all("via").iter().collect();
        assert_eq!(lines, ["1.0 fred", "1.1 cloakroom"]);
    }

    proptest! {
        #[test]
        fn every_gateway_recognises_its_own_mark(id in "\\PC{0,20}", others in "[ -~]{0,20}") {
            let mut headers = HeaderMap::new();
            add_cdn_loop(&mut headers, &mark(&id));
            prop_assert!(is_loop(&headers, &id));
            headers.append("cdn-loop", HeaderValue::from_str(&others).unwrap());
            prop_assert!(is_loop(&headers, &id));
        }
    }
}
