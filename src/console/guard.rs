//! The guard of the admin listener: which requests it admits.
//!
//! Owns three refusals. A request that names another host is refused, so that a page whose name
//! resolves to loopback (DNS rebinding) gets no answer. A request that changes something must come
//! from a program or from this listener's own pages, never from a page of another origin. A
//! request that a gateway has sent, a webhook or a call to an upstream, is refused, because
//! clients choose its destination. Pure: it reads header fields, and knows no credential.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Method, Uri};

use cloakroom_domain::http::{media_type, via};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdmissionError {
    /// It names a host that this listener does not answer for: 421.
    Misdirected,
    /// A gateway has sent it: 508.
    SentByGateway,
    /// It would change something, and comes from another origin's page: 403.
    ForeignPage,
    /// It would change something, and does not show that no page's form has sent it: 415.
    NotJson,
}

/// Whether a request may be answered. `hosts` are lower-case names without a port.
pub(super) fn admit(
    method: &Method,
    uri: &Uri,
    fields: &HeaderMap,
    hosts: &[String],
) -> Result<(), AdmissionError> {
    let authority = authority(uri, fields).ok_or(AdmissionError::Misdirected)?;
    if !is_ours(&authority, hosts) {
        return Err(AdmissionError::Misdirected);
    }
    if via::is_from_gateway(fields) {
        return Err(AdmissionError::SentByGateway);
    }
    let reads = *method == Method::GET || *method == Method::HEAD;
    if reads { Ok(()) } else { may_write(fields, &authority) }
}

/// Host and port that the request is meant for, in lower case.
fn authority(uri: &Uri, fields: &HeaderMap) -> Option<String> {
    // An absolute target takes the place of Host (RFC 9112 section 3.2.2).
    if let Some(authority) = uri.authority() {
        return Some(authority.as_str().to_ascii_lowercase());
    }
    let mut named = fields.get_all(HOST).iter();
    let only = named.next().filter(|_| named.next().is_none())?;
    only.to_str().ok().map(str::to_ascii_lowercase)
}

fn is_ours(authority: &str, hosts: &[String]) -> bool {
    let Some(host) = without_port(authority) else { return false };
    if let Some(inside) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inside.parse::<Ipv6Addr>().is_ok();
    }
    host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4())
        || hosts.iter().any(|ours| ours == host)
}

fn without_port(authority: &str) -> Option<&str> {
    let end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = authority[end..].find(':') else { return Some(authority) };
    let port = &authority[end + colon + 1..];
    port.bytes().all(|octet| octet.is_ascii_digit()).then(|| &authority[..end + colon])
}

fn may_write(fields: &HeaderMap, authority: &str) -> Result<(), AdmissionError> {
    // What a browser says about itself decides alone: pages cannot set this field.
    if fields.contains_key(SEC_FETCH_SITE) {
        let own = |value: &http::HeaderValue| matches!(value.as_bytes(), b"same-origin" | b"none");
        let is_own = fields.get_all(SEC_FETCH_SITE).iter().all(own);
        return is_own.then_some(()).ok_or(AdmissionError::ForeignPage);
    }
    if fields.contains_key(ORIGIN) {
        let same = |value: &http::HeaderValue| is_origin_of(value.as_bytes(), authority);
        let is_same = fields.get_all(ORIGIN).iter().all(same);
        return is_same.then_some(()).ok_or(AdmissionError::ForeignPage);
    }
    is_json(fields).then_some(()).ok_or(AdmissionError::NotJson)
}

/// Whether an origin is that of this host, over http or, through a proxy, https.
fn is_origin_of(origin: &[u8], authority: &str) -> bool {
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let origin = origin.to_ascii_lowercase();
    let bare = |text: &str, port: &str| text.strip_suffix(port).unwrap_or(text).to_owned();
    match origin.split_once("://") {
        Some(("http", named)) => bare(named, ":80") == bare(authority, ":80"),
        Some(("https", named)) => bare(named, ":443") == bare(authority, ":443"),
        _ => false,
    }
}

/// A content type that no form can send without a preflight.
fn is_json(fields: &HeaderMap) -> bool {
    let mut types = fields.get_all(CONTENT_TYPE).iter();
    let only = types.next().filter(|_| types.next().is_none());
    only.and_then(|value| value.to_str().ok()).is_some_and(media_type::is_json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &Method, fields: &[(&str, &str)]) -> Result<(), AdmissionError> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        admit(method, &Uri::from_static("/metrics"), &map, &["ops.example".to_owned()])
    }

    fn posted(fields: &[(&str, &str)]) -> Result<(), AdmissionError> {
        let host = [("host", "localhost:8081")];
        asked(&Method::POST, &[&host, fields].concat())
    }

    #[test]
    fn localhost_ip_literals_and_listed_hosts_are_answered() {
        for host in
            ["localhost", "LOCALHOST:8081", "127.0.0.1", "10.1.2.3:80", "[::1]:9", "ops.example:1"]
        {
            assert_eq!(asked(&Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn other_hosts_are_misdirected() {
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "ops.example.evil",
            "127.0.0.1.evil",
            "::1",
            "[evil]",
            "[::1",
            "localhost:80:80",
            "a@localhost",
        ] {
            assert_eq!(
                asked(&Method::GET, &[("host", host)]),
                Err(AdmissionError::Misdirected),
                "{host}"
            );
        }
        assert_eq!(asked(&Method::GET, &[]), Err(AdmissionError::Misdirected));
        let two = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(asked(&Method::GET, &two), Err(AdmissionError::Misdirected));
    }

    #[test]
    fn an_absolute_target_decides_over_the_host_field() {
        let fields = HeaderMap::from_iter([(HOST, "localhost".parse().unwrap())]);
        let target = Uri::from_static("http://evil.example/metrics");
        assert_eq!(admit(&Method::GET, &target, &fields, &[]), Err(AdmissionError::Misdirected));
    }

    #[test]
    fn own_pages_and_programs_may_write() {
        for fields in [
            [("sec-fetch-site", "same-origin")],
            [("sec-fetch-site", "none")],
            [("origin", "http://localhost:8081")],
            [("content-type", "application/json")],
            [("content-type", "Application/JSON; charset=utf-8")],
        ] {
            assert_eq!(posted(&fields), Ok(()), "{fields:?}");
        }
    }

    #[test]
    fn pages_on_other_origins_may_not() {
        let json = ("content-type", "application/json");
        for fields in [
            vec![("sec-fetch-site", "cross-site"), json],
            vec![("sec-fetch-site", "same-site"), ("origin", "http://localhost:8081")],
            vec![("origin", "null"), json],
            vec![("origin", "http://localhost:8082"), json],
            vec![("origin", "https://evil.example"), json],
        ] {
            assert_eq!(posted(&fields), Err(AdmissionError::ForeignPage), "{fields:?}");
        }
        let preflight = [("host", "localhost"), ("origin", "https://evil.example")];
        assert_eq!(asked(&Method::OPTIONS, &preflight), Err(AdmissionError::ForeignPage));
    }

    #[test]
    fn what_any_form_could_have_sent_has_to_say_json() {
        for fields in [
            vec![],
            vec![("content-type", "text/plain")],
            vec![("content-type", "application/x-www-form-urlencoded")],
            vec![("content-type", "application/json"), ("content-type", "text/plain")],
        ] {
            assert_eq!(posted(&fields), Err(AdmissionError::NotJson), "{fields:?}");
        }
    }

    #[test]
    fn what_a_gateway_sends_has_no_business_here() {
        let json = ("content-type", "application/json");
        for mark in ["cloakroom; id=\"a\"", "edge.example, Cloakroom", "cloakroom"] {
            assert_eq!(
                posted(&[json, ("cdn-loop", mark)]),
                Err(AdmissionError::SentByGateway),
                "{mark}"
            );
        }
        assert_eq!(posted(&[json, ("cdn-loop", "edge.example; note=\"cloakroom\"")]), Ok(()));
    }

    #[test]
    fn an_origin_matches_with_its_default_port_left_out() {
        assert!(is_origin_of(b"https://ops.example", "ops.example"));
        assert!(is_origin_of(b"http://ops.example", "ops.example:80"));
        assert!(!is_origin_of(b"http://ops.example:81", "ops.example"));
        assert!(!is_origin_of(b"file://ops.example", "ops.example"));
    }
}
