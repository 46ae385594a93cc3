//! The client address, host and scheme of a request that came through proxies.
//!
//! Owns the reading and writing of `Forwarded` (RFC 7239) and `X-Forwarded-*`. The invariant: a peer's
//! claims about earlier hops count only if the peer is trusted, a hop's claims only if that hop is
//! trusted too, and claims that did not count are not passed on. It must not know how trust is used.

use std::fmt;
use std::net::IpAddr;

use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use url::Url;

use super::grammar::{elements, is_token, lines, quote, split, text, trim, unquote};
use super::hygiene::is_forwarding;
use super::public_url::check_host;

/// The scheme by which a client reached the public side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            _ => None,
        }
    }

    /// As it is written in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a request came from, as far as it can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSender {
    /// The address of the client: the nearest one that is not a trusted proxy.
    pub client: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub peer_trusted: bool,
    /// The scheme that the client used, if a trusted peer says so.
    pub scheme: Option<Scheme>,
    /// The host and port that the client named, valid and in lower case, if a trusted
    /// peer says so.
    pub host: Option<String>,
    // The client first, the peer last.
    path: Vec<IpAddr>,
}

/// What the proxies said, the nearest first.
#[derive(Debug, Default)]
struct ProxyClaims {
    nodes: Vec<Option<IpAddr>>,
    hosts: Vec<Option<String>>,
    schemes: Vec<Option<Scheme>>,
}

impl RequestSender {
    /// The sender of a request whose peer speaks only for itself.
    pub fn direct(peer: IpAddr) -> Self {
        let client = peer.to_canonical();
        Self { client, peer_trusted: false, scheme: None, host: None, path: vec![client] }
    }

    /// The sender of a request that came from `peer`. `X-Forwarded-*` counts before
    /// `Forwarded`: common proxies set the former, and pass on a client's `Forwarded`
    /// unread.
    pub fn of(peer: IpAddr, trusted: &[IpNet], headers: &HeaderMap) -> Self {
        let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
        let direct = Self::direct(peer);
        if !is_trusted(&direct.client) {
            return direct;
        }
        let claims = ProxyClaims::of(headers);
        let (mut path, mut furthest) = (direct.path, 0);
        for (at, node) in claims.nodes.iter().enumerate() {
            if !path.last().is_some_and(is_trusted) {
                break;
            }
            furthest = at;
            let Some(node) = node else { break };
            path.push(*node);
        }
        path.reverse();
        Self {
            client: path.first().copied().unwrap_or(direct.client),
            peer_trusted: true,
            scheme: believed(&claims.schemes, furthest),
            host: believed(&claims.hosts, furthest),
            path,
        }
    }
}

/// The claim made about the client: at `furthest`, or the furthest there is before it,
/// where proxies replace a value instead of adding to a list.
fn believed<T: Clone>(claims: &[Option<T>], furthest: usize) -> Option<T> {
    claims.iter().take(furthest + 1).rev().find_map(Clone::clone)
}

impl ProxyClaims {
    fn of(headers: &HeaderMap) -> Self {
        let claims = Self {
            nodes: listed(headers, "x-forwarded-for", parse_node),
            hosts: listed(headers, "x-forwarded-host", parse_host),
            schemes: listed(headers, "x-forwarded-proto", Scheme::parse),
        };
        let none = claims.nodes.is_empty() && claims.hosts.is_empty() && claims.schemes.is_empty();
        if none { Self::of_forwarded(headers) } else { claims }
    }

    fn of_forwarded(headers: &HeaderMap) -> Self {
        let lines: Vec<_> = lines(headers, "forwarded").collect();
        let all: Vec<&str> = lines.iter().flat_map(|line| elements(line)).collect();
        let mut claims = Self::default();
        for element in all.into_iter().rev() {
            claims.nodes.push(parameter(element, "for").and_then(|node| parse_node(&node)));
            claims.hosts.push(parameter(element, "host").and_then(|host| parse_host(&host)));
            claims.schemes.push(parameter(element, "proto").and_then(|text| Scheme::parse(&text)));
        }
        claims
    }
}

/// What is read from each member of a list, the last one first.
fn listed<T>(headers: &HeaderMap, name: &str, read: fn(&str) -> Option<T>) -> Vec<Option<T>> {
    let mut all = Vec::new();
    for line in lines(headers, name) {
        all.extend(line.split(',').map(trim).map(read));
    }
    all.reverse();
    all
}

/// The value of a parameter of one element. Values that should have been quoted (a port
/// behind a host) are taken as they are; proxies forget that.
fn parameter(element: &str, name: &str) -> Option<String> {
    let value = split(element, ';').find_map(|pair| {
        let (own, value) = pair.split_once('=')?;
        trim(own).eq_ignore_ascii_case(name).then(|| trim(value))
    })?;
    if value.starts_with('"') { unquote(value) } else { Some(value.to_owned()) }
}

/// The address in `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`;
/// `None` for what is hidden or unknown.
fn parse_node(text: &str) -> Option<IpAddr> {
    let address = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0.parse::<std::net::Ipv6Addr>().ok()?.into(),
        None => match text.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => text.split_once(':')?.0.parse::<std::net::Ipv4Addr>().ok()?.into(),
        },
    };
    Some(address.to_canonical())
}

fn parse_host(text: &str) -> Option<String> {
    check_host(text).filter(|host| !host.is_empty())
}

/// Writes `Forwarded` into a request that is sent on.
///
/// What the client side sent of it and of `X-Forwarded-For/-Host/-Proto`, and of other
/// forwarding fields where the peer is not trusted, is dropped. `scheme` and `host` are
/// those of the connection itself, for what no trusted peer has told.
pub fn announce(
    headers: &mut HeaderMap,
    sender: &RequestSender,
    scheme: Scheme,
    host: Option<&str>,
) {
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_forwarding(name.as_str()))
        .filter(|name| !sender.peer_trusted || WRITTEN.contains(&name.as_str()))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    let scheme = sender.scheme.unwrap_or(scheme);
    let fits = |host: &&str| HeaderValue::from_str(host).is_ok();
    let host = sender.host.as_deref().or(host).filter(fits);
    set(headers, FORWARDED, &forwarded(&sender.path, scheme, host));
}

const FORWARDED: &str = "forwarded";
/// What the gateway writes itself, whatever a peer said.
const WRITTEN: [&str; 4] = [FORWARDED, "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// Says in `X-Forwarded-For/-Host/-Proto` what [`announce`] wrote into `Forwarded`: for
/// upstreams that read the older fields, and only when a request goes to one, because a
/// request that is stored would say everything twice.
pub fn repeat(headers: &mut HeaderMap) {
    let Some(value) = headers.get(FORWARDED).cloned() else { return };
    let line = text(&value);
    let elements = elements(&line);
    let client = elements.first().copied().unwrap_or_default();
    let (host, scheme) = (parameter(client, "host"), parameter(client, "proto"));
    let nodes = elements.iter().filter_map(|element| parse_node(&parameter(element, "for")?));
    let addresses: Vec<String> = nodes.map(|address| address.to_string()).collect();
    set(headers, "x-forwarded-for", &addresses.join(", "));
    if let Some(scheme) = scheme {
        set(headers, "x-forwarded-proto", &scheme);
    }
    if let Some(host) = host {
        set(headers, "x-forwarded-host", &host);
    }
}

/// The origin that [`announce`] told an upstream that the client called.
pub fn told(headers: &HeaderMap) -> Option<Url> {
    let line = text(headers.get(FORWARDED)?);
    let client = elements(&line).into_iter().next()?;
    let scheme = Scheme::parse(&parameter(client, "proto")?)?;
    let host = parse_host(&parameter(client, "host")?)?;
    Url::parse(&format!("{scheme}://{host}")).ok()
}

/// The elements of `Forwarded`; the first, about the client, has scheme and host.
fn forwarded(path: &[IpAddr], scheme: Scheme, host: Option<&str>) -> String {
    let mut nodes = path.iter().map(node);
    let client = nodes.next().unwrap_or_default();
    let word = |host: &str| if is_token(host) { host.to_owned() } else { quote(host) };
    let host = host.map(|host| format!(";host={}", word(host))).unwrap_or_default();
    nodes.fold(format!("{client}{host};proto={scheme}"), |text, node| format!("{text}, {node}"))
}

fn node(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("for={address}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\""),
    }
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Addresses, schemes and hosts that fit always make a field.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn sender(peer: &str, fields: &[(&'static str, &str)]) -> RequestSender {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        RequestSender::of(ip(peer), &trusted, &map(fields))
    }

    #[test]
    fn an_untrusted_peer_speaks_only_for_itself() {
        let claims = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=203.0.113.9;host=evil.example;proto=https"),
        ];
        assert_eq!(sender("192.0.2.1", &claims), RequestSender::direct(ip("192.0.2.1")));
    }

    #[test]
    fn a_trusted_peer_is_believed_in_either_family() {
        let families = [
            vec![("forwarded", "for=192.0.2.7;host=\"API.example.com:8443\";proto=HTTPS")],
            vec![("forwarded", "For=\"192.0.2.7:4711\"; Host=api.example.com:8443; proto=https")],
            vec![
                ("x-forwarded-for", "192.0.2.7"),
                ("x-forwarded-host", "api.example.com:8443"),
                ("x-forwarded-proto", "https"),
            ],
        ];
        for fields in families {
            for peer in ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1"] {
                let sender = sender(peer, &fields);
                assert_eq!(sender.client, ip("192.0.2.7"));
                assert_eq!(sender.host.as_deref(), Some("api.example.com:8443"));
                assert_eq!(sender.scheme, Some(Scheme::Https));
                assert!(sender.peer_trusted);
            }
        }
    }

    #[test]
    fn the_client_is_the_nearest_address_that_is_not_trusted() {
        let listed = [("x-forwarded-for", "1.1.1.1, 192.0.2.7"), ("x-forwarded-for", "10.0.0.2")];
        assert_eq!(sender("10.0.0.1", &listed).client, ip("192.0.2.7"));
        let elements = [("forwarded", "for=1.1.1.1, for=192.0.2.7, for=10.0.0.2")];
        assert_eq!(sender("10.0.0.1", &elements).client, ip("192.0.2.7"));
        let inside = [("x-forwarded-for", "10.0.0.3, 10.0.0.2")];
        assert_eq!(sender("10.0.0.1", &inside).client, ip("10.0.0.3"));
        assert_eq!(sender("10.0.0.1", &[]).client, ip("10.0.0.1"));
    }

    #[test]
    fn an_octet_that_is_no_text_hides_nothing_that_a_trusted_peer_added() {
        let claimed = |name: &'static str, octets: &[u8]| {
            let mut headers = map(&[("forwarded", "for=1.1.1.1;host=evil.example;proto=http")]);
            headers.insert(name, HeaderValue::from_bytes(octets).unwrap());
            RequestSender::of(ip("10.0.0.1"), &["10.0.0.0/8".parse().unwrap()], &headers)
        };
        for octets in [&b"\xe9, 192.0.2.7"[..], b"\xff\xff,192.0.2.7", "é, 192.0.2.7".as_bytes()] {
            let sender = claimed("x-forwarded-for", octets);
            assert_eq!((sender.client, sender.host), (ip("192.0.2.7"), None));
        }
        // A value that names no address is still the word of the proxy.
        assert_eq!(claimed("x-forwarded-for", b"\xe9").client, ip("10.0.0.1"));
        let sender = claimed("forwarded", b"for=\xe9, for=192.0.2.7;host=good.example");
        assert_eq!(
            (sender.client, sender.host.as_deref()),
            (ip("192.0.2.7"), Some("good.example"))
        );
    }

    #[test]
    fn a_quote_that_a_client_left_open_takes_in_nothing_that_a_trusted_peer_added() {
        for open in
            ["host=evil.example;for=\"", "for=\"1.1.1.1", "x=\"\\", "host=evil.example;x=\""]
        {
            for added in
                ["for=192.0.2.7;host=good.example", "for=\"192.0.2.7:80\";host=\"good.example\""]
            {
                let joined = format!("{open}, {added}");
                let sender = sender("10.0.0.1", &[("forwarded", &joined)]);
                assert_eq!(sender.client, ip("192.0.2.7"), "{joined}");
                assert_eq!(sender.host.as_deref(), Some("good.example"), "{joined}");
            }
        }
    }

    #[test]
    fn what_lies_behind_an_untrusted_hop_says_nothing_about_host_and_scheme() {
        let elements = [(
            "forwarded",
            "for=1.1.1.1;host=evil.example;proto=http, for=192.0.2.7;host=good.example;proto=https",
        )];
        let behind = sender("10.0.0.1", &elements);
        assert_eq!(behind.host.as_deref(), Some("good.example"));
        assert_eq!(behind.scheme, Some(Scheme::Https));
        let listed = [
            ("x-forwarded-for", "1.1.1.1, 192.0.2.7"),
            ("x-forwarded-host", "evil.example, good.example"),
        ];
        assert_eq!(sender("10.0.0.1", &listed).host.as_deref(), Some("good.example"));
    }

    #[test]
    fn one_value_for_several_hops_is_the_one_of_the_first_trusted_proxy() {
        let fields = [("x-forwarded-for", "192.0.2.7, 10.0.0.2"), ("x-forwarded-proto", "https")];
        assert_eq!(sender("10.0.0.1", &fields).scheme, Some(Scheme::Https));
    }

    #[test]
    fn a_forwarded_that_a_proxy_passed_on_unread_counts_for_nothing() {
        let fields =
            [("forwarded", "for=1.1.1.1;host=evil.example"), ("x-forwarded-for", "192.0.2.7")];
        let sender = sender("10.0.0.1", &fields);
        assert_eq!((sender.client, sender.host), (ip("192.0.2.7"), None));
    }

    #[test]
    fn hidden_or_malformed_nodes_end_the_search() {
        for node in ["unknown", "_secret", "", "1.1.1", "[::1", "\"[::1]\""] {
            let list = format!("1.1.1.1, {node}, 10.0.0.2");
            let sender = sender("10.0.0.1", &[("x-forwarded-for", &list)]);
            assert_eq!(sender.client, ip("10.0.0.2"), "{node}");
        }
        let malformed = [("forwarded", "for=\"192.0.2.7"), ("forwarded", ";;=,")];
        assert_eq!(sender("10.0.0.1", &malformed).client, ip("10.0.0.1"));
    }

    #[test]
    fn a_host_or_scheme_that_cannot_be_one_is_not_believed() {
        let fields = [("x-forwarded-host", "a/b"), ("x-forwarded-proto", "javascript")];
        let sender = sender("10.0.0.1", &fields);
        assert_eq!((sender.host, sender.scheme), (None, None));
    }

    #[test]
    fn addresses_are_read_with_and_without_ports() {
        for text in ["192.0.2.7", "192.0.2.7:80", "::ffff:192.0.2.7", "[::ffff:192.0.2.7]:80"] {
            assert_eq!(parse_node(text), Some(ip("192.0.2.7")), "{text}");
        }
        assert_eq!(parse_node("2001:db8::1"), Some(ip("2001:db8::1")));
    }

    #[test]
    fn both_families_are_written_and_an_untrusted_peers_claims_are_gone() {
        let mut headers = map(&[
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "1.1.1.1"),
            ("x-mine", "1"),
        ]);
        let direct = RequestSender::direct(ip("2001:db8::1"));
        announce(&mut headers, &direct, Scheme::Http, Some("a.example:80"));
        repeat(&mut headers);
        assert_eq!(
            headers,
            map(&[
                ("x-mine", "1"),
                ("x-forwarded-for", "2001:db8::1"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "a.example:80"),
                ("forwarded", "for=\"[2001:db8::1]\";host=\"a.example:80\";proto=http"),
            ])
        );
    }

    #[test]
    fn a_trusted_peers_claims_are_carried_on_as_far_as_they_count() {
        let fields = [
            ("x-forwarded-for", "1.1.1.1, 192.0.2.7"),
            ("x-forwarded-host", "good.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("forwarded", "for=1.1.1.1"),
        ];
        let mut headers = map(&fields);
        announce(&mut headers, &sender("10.0.0.1", &fields), Scheme::Http, Some("inner"));
        assert!(!headers.contains_key("x-forwarded-for"));
        repeat(&mut headers);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7, 10.0.0.1");
        assert_eq!(headers["x-forwarded-host"], "good.example");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-port"], "443");
        let written = "for=192.0.2.7;host=good.example;proto=https, for=10.0.0.1";
        assert_eq!(headers["forwarded"], written);
    }

    #[test]
    fn the_origin_that_an_upstream_was_told_of_is_read_back() {
        let mut headers = HeaderMap::new();
        let direct = RequestSender::direct(ip("192.0.2.7"));
        announce(&mut headers, &direct, Scheme::Https, Some("api.example.com:8443"));
        let origin = told(&headers).map(String::from);
        assert_eq!(origin.as_deref(), Some("https://api.example.com:8443/"));
        announce(&mut headers, &direct, Scheme::Https, None);
        assert_eq!(told(&headers), None);
    }

    proptest! {
        #[test]
        fn what_one_gateway_writes_the_next_one_reads(address in any::<u32>(), family in any::<bool>()) {
            let client = IpAddr::from(address.to_be_bytes());
            let mut headers = HeaderMap::new();
            announce(&mut headers, &RequestSender::direct(client), Scheme::Https, Some("a.example:1"));
            if family {
                repeat(&mut headers);
                headers.remove(FORWARDED);
            }
            let next = RequestSender::of(ip("127.0.0.1"), &["127.0.0.0/8".parse().unwrap()], &headers);
            prop_assert_eq!(next.client, client);
            prop_assert_eq!(next.scheme, Some(Scheme::Https));
            prop_assert_eq!(next.host.as_deref(), Some("a.example:1"));
        }

        #[test]
        fn no_octets_make_it_panic_and_what_is_written_is_stable(
            name in prop::sample::select(vec!["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]),
            octets in prop::collection::vec(any::<u8>(), 0..60),
            text in "[ -~]{0,60}",
        ) {
            let trusted: [IpNet; 1] = ["0.0.0.0/0".parse().unwrap()];
            for octets in [octets, text.into_bytes()] {
                let Ok(value) = HeaderValue::from_bytes(&octets) else { continue };
                let mut headers = HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
                let sender = RequestSender::of(ip("10.0.0.1"), &trusted, &headers);
                announce(&mut headers, &sender, Scheme::Http, None);
                repeat(&mut headers);
                let mut again = headers.clone();
                announce(&mut again, &sender, Scheme::Http, None);
                repeat(&mut again);
                prop_assert_eq!(again, headers);
            }
        }
    }
}
