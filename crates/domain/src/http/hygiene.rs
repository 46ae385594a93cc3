//! Field hygiene: fields that are refused, and fields that are removed in either direction.
//!
//! Owns the lists of names. The invariant: after the removals for a direction no field is left that
//! belongs to one connection only, that the gateway reads or sets itself, or that a server which reads
//! `_` or `.` as `-` would take for one of those. It must not know where the fields go.

use ::http::header::{HeaderMap, HeaderName};

use super::grammar::excerpt;

/// Why a request's fields are refused (400).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldProblem {
    /// `Connection` names a field that a client may not have removed.
    #[error("the connection field names `{0}`, which is not about one connection: leave it out")]
    ConnectionNames(String),
    /// More than one `Host` line.
    #[error("there is more than one host field: send one")]
    SeveralHosts,
    /// More than one `Content-Length` line, or one that is no number.
    #[error("the content-length is not one whole number: send it once, in digits")]
    ContentLength,
    /// Both ways of framing a body.
    #[error("there are both content-length and transfer-encoding: send one of the two")]
    TwoFramings,
    /// A coding of the body, for the way, that is not undone here.
    #[error("a transfer-encoding other than chunked is not undone here: send the body without it")]
    TransferCoding,
    /// A control character other than a tab in a value.
    #[error("the value of `{0}` has a control character: leave it out")]
    ControlCharacter(String),
}

/// Speak of one connection only (RFC 9110 section 7.6.1), or to the gateway as a proxy.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-authentication-info",
];

/// Families of names that are the gateway's own.
const OWN_FAMILIES: [&str; 2] = ["operation-", "callback-"];

/// Names that are the gateway's own, beside the families.
const OWN: [&str; 5] =
    ["client-reference", "gateway-origin", "upstream-status", "idempotency-replayed", "x-progress"];

/// What the gateway alone says of every answer, whether the request is an operation or not.
const NOT_FROM_UPSTREAM: [&str; 3] = ["gateway-origin", "idempotency-replayed", "operation-id"];

/// Names that upstreams trust, where an alias with `_` would be a second opinion.
const TRUSTED: [&str; 9] = [
    "accept-encoding",
    "idempotency-key",
    "x-real-ip",
    "cdn-loop",
    "content-length",
    "content-type",
    "transfer-encoding",
    "proxy-authorization",
    "user-agent",
];

/// Fields that `Connection` may not name, beside the gateway's own.
const KEPT_FROM_CONNECTION: [&str; 9] = [
    "host",
    "authorization",
    "transfer-encoding",
    "content-length",
    "forwarded",
    "via",
    "cdn-loop",
    "traceparent",
    "idempotency-key",
];

/// Never replayed by a result, beside what is hop-by-hop or the gateway's own.
const NOT_REPLAYED: [&str; 37] = [
    "set-cookie",
    "set-cookie2",
    "location",
    "refresh",
    "retry-after",
    "www-authenticate",
    "clear-site-data",
    "strict-transport-security",
    "alt-svc",
    "service-worker-allowed",
    "preference-applied",
    // The monitor of an exchange that is over.
    "azure-asyncoperation",
    // A browser would keep these for the whole origin.
    "accept-ch",
    "critical-ch",
    "expect-ct",
    "nel",
    "public-key-pins",
    "report-to",
    "reporting-endpoints",
    // A server in front would send a file of its own, as with `X-Accel-Redirect`.
    "x-sendfile",
    "x-lighttpd-send-file",
    "x-reproxy-url",
    // Caching: the recorded answer's freshness and validators are not those of its copy.
    "age",
    "cache-control",
    "cache-status",
    "cdn-cache-control",
    "expires",
    "no-vary-search",
    "pragma",
    "warning",
    "vary",
    "etag",
    "last-modified",
    // The copy has its own length and its own ranges.
    "content-length",
    "accept-ranges",
    // Replaced by `RESULT_FIELDS`.
    "x-content-type-options",
    "content-security-policy",
];

const NOT_REPLAYED_FAMILIES: [&str; 5] =
    ["proxy-", "access-control-", "x-accel-", "surrogate-", "x-litespeed-"];

/// What every result carries, so that no browser renders recorded bytes as a page.
pub const RESULT_FIELDS: [(&str, &str); 3] = [
    ("cache-control", "private, no-store"),
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "sandbox; default-src 'none'"),
];

/// An octet of a name as some servers read it: without case, and `-` for all that is neither
/// letter nor digit (CGI's names of variables have only `_` for those).
const fn plain(octet: u8) -> u8 {
    if octet.is_ascii_alphanumeric() { octet.to_ascii_lowercase() } else { b'-' }
}

/// A name as servers read it that take any other sign for `-`.
pub fn as_read(name: &str) -> String {
    name.bytes().map(|octet| char::from(plain(octet))).collect()
}

/// Whether some server takes the one name for the other. Compared in place, because every
/// field of every request comes by here.
pub(super) fn reads_as(name: &[u8], original: &str) -> bool {
    name.len() == original.len() && begins_as(name, original)
}

fn begins_as(name: &[u8], family: &str) -> bool {
    let pairs = name.iter().zip(family.as_bytes());
    name.len() >= family.len() && pairs.into_iter().all(|(one, other)| plain(*one) == plain(*other))
}

fn is_own(name: &[u8]) -> bool {
    OWN.iter().any(|own| reads_as(name, own))
        || OWN_FAMILIES.iter().any(|family| begins_as(name, family))
}

/// Whether a name, in any spelling, is one of [`is_forwarding`].
fn reads_as_forwarding(name: &[u8]) -> bool {
    reads_as(name, "forwarded") || reads_as(name, "x-real-ip") || begins_as(name, "x-forwarded-")
}

/// Whether a name, in any spelling, is that of a field between two neighbours, or one that
/// tells about the way that a request has come.
pub(crate) fn is_about_the_way(name: &[u8]) -> bool {
    let known = ["expect", "http2-settings", "via", "cdn-loop"];
    HOP_BY_HOP.iter().chain(&known).any(|known| reads_as(name, known)) || reads_as_forwarding(name)
}

/// Whether a name, in any spelling, is one that the gateway alone says or reads.
pub fn is_gateways(name: &[u8]) -> bool {
    is_own(name) || reads_as(name, "idempotency-key")
}

/// Whether some server takes a name for one of that family.
pub(crate) fn is_of_family(name: &[u8], family: &str) -> bool {
    begins_as(name, family)
}

/// Whether a field tells about hops before this one: `Forwarded`, `X-Forwarded-*`,
/// `X-Real-IP`.
pub(super) fn is_forwarding(name: &str) -> bool {
    name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-")
}

/// Refuses what must not be repaired by removing it. `trusted` are further names that
/// other code relies on, as the field that names the principal.
pub fn screen(headers: &HeaderMap, trusted: &[HeaderName]) -> Result<(), FieldProblem> {
    if let Some((name, _)) = headers.iter().find(|(_, value)| has_control(value.as_bytes())) {
        return Err(FieldProblem::ControlCharacter(name.to_string()));
    }
    if headers.get_all("host").iter().nth(1).is_some() {
        return Err(FieldProblem::SeveralHosts);
    }
    screen_framing(headers)?;
    let kept = |name: &&[u8]| {
        trusted.iter().any(|trusted| reads_as(name, trusted.as_str()))
            || KEPT_FROM_CONNECTION.iter().any(|kept| reads_as(name, kept))
            || reads_as_forwarding(name)
            || is_own(name)
    };
    match connection_names(headers).find(kept) {
        Some(name) => Err(FieldProblem::ConnectionNames(excerpt(&String::from_utf8_lossy(name)))),
        None => Ok(()),
    }
}

fn screen_framing(headers: &HeaderMap) -> Result<(), FieldProblem> {
    let mut codings = headers.get_all("transfer-encoding").iter();
    let is_chunked = |codings: &::http::HeaderValue| {
        // An empty member of a list says nothing (RFC 9110 section 5.6.1.2).
        let named = codings.as_bytes().split(|octet| *octet == b',').map(<[u8]>::trim_ascii);
        let mut named = named.filter(|coding| !coding.is_empty());
        let is_first = named.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        is_first && named.next().is_none()
    };
    // RFC 9112 section 6.1: no more than once.
    let (first, second) = (codings.next(), codings.next());
    if second.is_some() || first.is_some_and(|coding| !is_chunked(coding)) {
        return Err(FieldProblem::TransferCoding);
    }
    let mut lengths = headers.get_all("content-length").iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    let digits = |octets: &[u8]| !octets.is_empty() && octets.iter().all(u8::is_ascii_digit);
    if lengths.next().is_some() || !digits(length.as_bytes()) {
        return Err(FieldProblem::ContentLength);
    }
    if headers.contains_key("transfer-encoding") {
        return Err(FieldProblem::TwoFramings);
    }
    Ok(())
}

/// Whether there is an octet that no value may have (RFC 9110 section 5.5).
fn has_control(value: &[u8]) -> bool {
    value.iter().any(|octet| octet.is_ascii_control() && *octet != b'\t')
}

/// The names in all `Connection` lines, as written.
fn connection_names(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all("connection").into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|octet| *octet == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
}

/// Removes what speaks of one connection only: the fields that `Connection` names and
/// the known ones. On requests [`screen`] comes first.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let further = |name: &&[u8]| !HOP_BY_HOP.iter().any(|known| reads_as(name, known));
    // What is no name names no field. As a rule this stays empty, and takes no memory.
    let named: Vec<HeaderName> = connection_names(headers)
        .filter(further)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    for name in &named {
        headers.remove(name);
    }
    remove_where(headers, |name| HOP_BY_HOP.contains(&name));
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Removes from a request what only the gateway may say to an upstream: its own fields,
/// `Expect`, and every alias with `_` of those and of fields that upstreams trust
/// (`trusted` adds to these, as the field that names the principal). Trusted fields
/// themselves stay.
pub fn remove_gateway_fields(headers: &mut HeaderMap, trusted: &[HeaderName]) {
    remove_where(headers, |name| {
        let octets = name.as_bytes();
        let is_alias = |original: &str| reads_as(octets, original) && original != name;
        name == "expect"
            || is_own(octets)
            || (!is_forwarding(name) && reads_as_forwarding(octets))
            || TRUSTED.iter().any(|original| is_alias(original))
            || trusted.iter().any(|original| is_alias(original.as_str()))
    });
}

/// Removes a field and its aliases: the one that names the principal, from a peer that
/// is not trusted to.
pub fn remove_with_aliases(headers: &mut HeaderMap, field: &HeaderName) {
    remove_where(headers, |name| reads_as(name.as_bytes(), field.as_str()));
}

/// Removes from an upstream's answer what it may not say to a client: hop-by-hop fields,
/// and in any spelling what the gateway alone says of every answer.
pub fn response_fields_from_upstream(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    remove_where(headers, |name| {
        NOT_FROM_UPSTREAM.iter().any(|field| reads_as(name.as_bytes(), field))
    });
}

/// The same of an answer to an operation, of which the gateway alone speaks in its own fields.
pub fn operation_fields_from_upstream(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    remove_where(headers, |name| is_own(name.as_bytes()));
}

/// The fields of a recorded answer that its result repeats. [`RESULT_FIELDS`], the
/// length and the gateway's own come on top.
pub fn for_replay(recorded: &HeaderMap) -> HeaderMap {
    let mut replayed = recorded.clone();
    remove_hop_by_hop(&mut replayed);
    remove_where(&mut replayed, |name| {
        let name = name.as_bytes();
        is_own(name)
            || NOT_REPLAYED.iter().any(|field| reads_as(name, field))
            || NOT_REPLAYED_FAMILIES.iter().any(|family| begins_as(name, family))
    });
    replayed
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;
    use proptest::prelude::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn with(names: &[&str]) -> HeaderMap {
        map(&names.iter().map(|name| (*name, "1")).collect::<Vec<_>>())
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    fn user() -> HeaderName {
        HeaderName::from_static("x-user")
    }

    #[test]
    fn a_connection_that_names_what_others_rely_on_is_refused() {
        for name in [
            "Host",
            "authorization",
            "Transfer-Encoding",
            "Content-Length",
            "X-Forwarded-For",
            "X-Forwarded-Anything",
            "x_forwarded_proto",
            "Forwarded",
            "Operation-Id",
            "Callback-Url",
            "Client-Reference",
            "Idempotency-Key",
            "Gateway-Origin",
            "X-User",
        ] {
            let headers = map(&[("connection", "close"), ("connection", &format!("x, {name}"))]);
            let refused = screen(&headers, &[user()]);
            assert_eq!(refused, Err(FieldProblem::ConnectionNames(name.to_owned())));
        }
        let fine = map(&[("connection", "keep-alive, Upgrade, X-Mine, TE, ,")]);
        assert_eq!(screen(&fine, &[user()]), Ok(()));
    }

    #[test]
    fn two_hosts_or_two_framings_are_refused() {
        let hosts = map(&[("host", "a"), ("host", "a")]);
        assert_eq!(screen(&hosts, &[]), Err(FieldProblem::SeveralHosts));
        let lengths = map(&[("content-length", "1"), ("content-length", "1")]);
        assert_eq!(screen(&lengths, &[]), Err(FieldProblem::ContentLength));
        for bad in ["+1", "1, 1", "", "0x1"] {
            let length = map(&[("content-length", bad)]);
            assert_eq!(screen(&length, &[]), Err(FieldProblem::ContentLength), "{bad}");
        }
        let both = map(&[("content-length", "1"), ("transfer-encoding", "chunked")]);
        assert_eq!(screen(&both, &[]), Err(FieldProblem::TwoFramings));
        assert_eq!(screen(&map(&[("host", "a"), ("content-length", "1")]), &[]), Ok(()));
    }

    #[test]
    fn control_characters_but_the_tab_are_found() {
        for octets in [&b"a\0"[..], b"a\rb", b"a\nb", b"\x1b[0m", b"\x7f"] {
            assert!(has_control(octets), "{}", octets.escape_ascii());
        }
        assert!(!has_control("a\tb é".as_bytes()));
    }

    #[test]
    fn hop_by_hop_fields_go_and_those_that_connection_names() {
        let mut headers = with(&[
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "proxy-authorization",
            "proxy-authenticate",
            "x-mine",
            "x-also",
            "x-other",
        ]);
        headers.append("connection", HeaderValue::from_static("X-Mine"));
        headers.append("connection", HeaderValue::from_static("close, (bad), x-also"));
        remove_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["x-other"]);
    }

    #[test]
    fn what_the_gateway_reads_or_sets_goes_in_every_spelling() {
        let mut headers = with(&[
            "operation-delay",
            "operation_id",
            "Operation-Unheard-Of",
            "callback-url",
            "callback_url",
            "client-reference",
            "client_reference",
            "gateway-origin",
            "gateway_origin",
            "upstream-status",
            "expect",
            "idempotency_key",
            "x_forwarded_for",
            "x-forwarded_proto",
            "x_real_ip",
            "cdn_loop",
            "content_length",
            "transfer_encoding",
            "x_user",
            "x.user",
            "operation.id",
            "x.forwarded.for",
            "idempotency~key",
            "accept_encoding",
        ]);
        remove_gateway_fields(&mut headers, &[user()]);
        assert_eq!(names(&headers), [""; 0]);
    }

    #[test]
    fn what_is_the_clients_own_stays() {
        let own = [
            "idempotency-key",
            "x-user",
            "x_mine",
            "authorization",
            "cookie",
            "prefer",
            "content-type",
            "x-forwarded-for",
            "forwarded",
            "operations",
            "user-agent",
        ];
        let mut headers = with(&own);
        remove_gateway_fields(&mut headers, &[user()]);
        assert_eq!(headers, with(&own));
    }

    #[test]
    fn a_principal_from_an_untrusted_peer_goes_with_its_aliases() {
        let mut headers = with(&["x-user", "x_user", "x.user", "x-user-agent"]);
        remove_with_aliases(&mut headers, &user());
        assert_eq!(names(&headers), ["x-user-agent"]);
    }

    #[test]
    fn an_upstream_cannot_speak_as_the_gateway() {
        let always = ["gateway-origin", "gateway_origin", "idempotency-replayed", "Operation_Id"];
        let mut headers = with(&[&always[..], &["keep-alive", "etag", "x-progress"]].concat());
        response_fields_from_upstream(&mut headers);
        assert_eq!(names(&headers), ["etag", "x-progress"]);
        let of_operations = ["upstream-status", "x-progress", "operation-cursor", "etag"];
        let mut headers = with(&[&always[..], &of_operations].concat());
        operation_fields_from_upstream(&mut headers);
        assert_eq!(names(&headers), ["etag"]);
    }

    #[test]
    fn a_result_repeats_what_describes_the_body_and_nothing_that_acts() {
        let mut recorded = with(&[
            "set-cookie",
            "location",
            "refresh",
            "retry-after",
            "www-authenticate",
            "proxy-authenticate",
            "proxy-status",
            "clear-site-data",
            "strict-transport-security",
            "alt-svc",
            "service-worker-allowed",
            "x-accel-redirect",
            "X_Accel_Buffering",
            "x-sendfile",
            "surrogate-key",
            "access-control-allow-origin",
            "cache-control",
            "expires",
            "etag",
            "connection",
            "operation-id",
            "gateway-origin",
            "upstream-status",
            "content-security-policy",
        ]);
        let described = with(&["content-type", "content-language", "x-order", "content-encoding"]);
        recorded.extend(described.clone());
        assert_eq!(for_replay(&recorded), described);
        assert!(RESULT_FIELDS.iter().all(|(name, _)| !for_replay(&recorded).contains_key(*name)));
    }

    proptest! {
        #[test]
        fn removing_twice_is_removing_once(fields in prop::collection::vec(("[a-z_-]{1,20}|operation[-_][a-z]{1,4}|connection|te|x[-_]forwarded[-_]for", "[ -~]{0,20}"), 0..12)) {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let mut once = map(&fields);
            remove_gateway_fields(&mut once, &[user()]);
            remove_hop_by_hop(&mut once);
            let mut twice = once.clone();
            remove_gateway_fields(&mut twice, &[user()]);
            remove_hop_by_hop(&mut twice);
            prop_assert_eq!(&once, &twice);
            prop_assert!(once.keys().all(|name| !is_own(name.as_str().as_bytes())));
            prop_assert_eq!(for_replay(&for_replay(&once)), for_replay(&once));
        }

        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&octets) {
                let mut headers = HeaderMap::from_iter([(::http::header::CONNECTION, value)]);
                let _ = screen(&headers, &[user()]);
                remove_hop_by_hop(&mut headers);
                prop_assert!(headers.is_empty());
            }
        }
    }
}
