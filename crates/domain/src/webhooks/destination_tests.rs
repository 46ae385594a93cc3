use super::*;
use proptest::prelude::*;

fn rules() -> DestinationRules {
    DestinationRules { ports: vec![443, 80], ..DestinationRules::default() }
}

fn lax() -> DestinationRules {
    DestinationRules { allow_http: true, ports: vec![443, 80, 9100], ..DestinationRules::default() }
}

fn refused(text: &str) -> BadDestination {
    Destination::parse(text, &rules()).expect_err(text)
}

#[test]
fn a_plain_https_url_is_a_destination() {
    let destination = Destination::parse("https://Example.com/hooks?a=b", &rules()).unwrap();
    assert_eq!(destination.authority(), "example.com");
    assert_eq!(destination.target(), "/hooks?a=b");
    assert_eq!((destination.port(), destination.is_tls()), (443, true));
    assert_eq!(destination.name(), "example.com");
    let literal = Destination::parse("https://[2606:4700::1111]:80", &rules()).unwrap();
    assert_eq!((literal.name(), literal.authority()), ("2606:4700::1111", "[2606:4700::1111]:80"));
    assert_eq!(literal.target(), "/");
}

#[test]
fn what_can_never_be_allowed_is_refused_with_its_reason() {
    for (text, reason) in [
        ("", BadDestination::NoUrl),
        ("example.com/hooks", BadDestination::NoUrl),
        ("https://", BadDestination::NoUrl),
        ("https://1.2.3.4.5/", BadDestination::NoUrl),
        ("https:///example.com/", BadDestination::NoUrl),
        ("https:example.com/", BadDestination::NoUrl),
        ("https:/example.com/", BadDestination::NoUrl),
        ("https://[fe80::1%25eth0]/", BadDestination::NoUrl),
        ("ftp://example.com/", BadDestination::Scheme),
        ("file:///etc/passwd", BadDestination::Scheme),
        ("gopher://example.com/", BadDestination::Scheme),
        ("http://example.com/", BadDestination::PlainHttp),
        ("https://user@example.com/", BadDestination::UserInfo),
        ("https://user:password@example.com/", BadDestination::UserInfo),
        ("https://@example.com/", BadDestination::UserInfo),
        ("https://:@example.com/", BadDestination::UserInfo),
        ("https:///@example.com/", BadDestination::UserInfo),
        ("https://example.com/#a", BadDestination::Fragment),
        ("https://example.com:22/", BadDestination::Port(22)),
        ("https://example.com:9100/", BadDestination::Port(9100)),
        ("https://exam\tple.com/", BadDestination::Spelling),
        (" https://example.com/", BadDestination::Spelling),
        ("https://example.com\\@127.0.0.1/", BadDestination::Spelling),
    ] {
        assert_eq!(refused(text), reason, "{text}");
    }
    assert_eq!(
        refused(&format!("https://example.com/{}", "a".repeat(2048))),
        BadDestination::TooLong
    );
    assert!(Destination::parse("https://example.com/@user", &rules()).is_ok());
}

#[test]
fn names_of_loopback_are_judged_as_its_addresses() {
    for name in ["localhost", "LOCALHOST", "localhost.", "a.localhost", "a.b.localhost."] {
        let text = format!("http://{name}:9100/");
        let judged = Destination::parse(&text, &lax());
        assert!(matches!(judged, Err(BadDestination::Address(_))), "{text}");
        for range in ["127.0.0.0/8", "::1/128"] {
            let opened = DestinationRules { allow: vec![range.parse().unwrap()], ..lax() };
            assert!(Destination::parse(&text, &opened).is_ok(), "{text} {range}");
        }
    }
    for other in ["localhost.example.com", "notlocalhost"] {
        assert!(Destination::parse(&format!("http://{other}:9100/"), &lax()).is_ok(), "{other}");
    }
}

#[test]
fn an_error_never_repeats_the_url() {
    for text in ["https://user:hunter2@a.example/", "http://a.example/hunter2", "hunter2"] {
        assert!(!refused(text).to_string().contains("hunter2"));
    }
    let destination = Destination::parse("https://a.example/hunter2", &rules()).unwrap();
    assert_eq!(format!("{destination:?}"), "Destination(\"https://a.example\")");
}

#[test]
fn what_is_opened_may_be_used() {
    assert!(Destination::parse("http://example.com:9100/", &lax()).is_ok());
    let opened = DestinationRules { allow: vec!["127.0.0.0/8".parse().unwrap()], ..lax() };
    assert!(Destination::parse("http://127.0.0.1:9100/", &opened).is_ok());
    assert!(Destination::parse("http://127.0.0.1:9100/", &lax()).is_err());
}

#[test]
fn the_host_of_the_public_url_is_refused_on_every_port() {
    let url = |text: &str| Some(Url::parse(text).unwrap());
    let own = DestinationRules { public_url: url("https://api.example.com/base"), ..rules() };
    for text in
        ["https://api.example.com/x", "https://API.example.com.:80/", "https://%61pi.example.com/"]
    {
        assert_eq!(Destination::parse(text, &own), Err(BadDestination::Own), "{text}");
    }
    assert!(Destination::parse("https://example.com/", &own).is_ok());
    // Others share this host; only the gateway's own ports are refused there, when dialled.
    let local = DestinationRules {
        public_url: url("http://localhost:8080"),
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        ..lax()
    };
    assert!(Destination::parse("http://localhost:9100/", &local).is_ok());
}

/// Spellings of one address that some reader of URLs takes for it.
#[expect(clippy::many_single_char_names, reason = "an address has four parts")]
fn spellings([a, b, c, d]: [u8; 4]) -> Vec<String> {
    let whole = u32::from_be_bytes([a, b, c, d]);
    let low = u32::from_be_bytes([0, b, c, d]);
    let half = u16::from_be_bytes([c, d]);
    let words = (u16::from_be_bytes([a, b]), half);
    let circled = |text: &str| {
        let digit = |c: char| match c.to_digit(10) {
            Some(0) => '\u{24ea}',
            Some(n) => char::from_u32(0x2460 + n - 1).unwrap(),
            None => c,
        };
        text.chars().map(digit).collect::<String>()
    };
    let full = |text: &str| {
        let wide = |c: char| c.to_digit(10).map_or(c, |n| char::from_u32(0xff10 + n).unwrap());
        text.chars().map(wide).collect::<String>()
    };
    let dotted = format!("{a}.{b}.{c}.{d}");
    let percent: Vec<_> = dotted.bytes().map(|octet| format!("%{octet:02x}")).collect();
    let percent = percent.concat();
    vec![
        dotted.clone(),
        format!("{dotted}."),
        format!("{whole}"),
        format!("0x{whole:x}"),
        format!("0X{whole:08X}"),
        format!("0{whole:o}"),
        format!("{a}.{low}"),
        format!("{a}.{b}.{half}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("000{a:o}.00{b:o}.0{c:o}.{d}"),
        format!("0x{a:x}.{b}.0{c:o}.{d}"),
        format!("0x{a:x}.0x{low:x}"),
        format!("0{a:o}.{low}"),
        circled(&dotted),
        full(&dotted),
        dotted.replace('.', "\u{3002}"),
        dotted.replace('.', "\u{ff0e}"),
        dotted.replace('.', "%2e"),
        percent,
        format!("[::ffff:{dotted}]"),
        format!("[::ffff:{:x}:{:x}]", words.0, words.1),
        format!("[0:0:0:0:0:ffff:{:04x}:{:04x}]", words.0, words.1),
        format!("[::{dotted}]"),
        format!("[::{:x}:{:x}]", words.0, words.1),
        format!("[::ffff:0:{dotted}]"),
        format!("[64:ff9b::{dotted}]"),
        format!("[64:ff9b::{:x}:{:x}]", words.0, words.1),
        format!("[64:ff9b:1::{dotted}]"),
        format!("[2002:{:x}:{:x}::]", words.0, words.1),
        format!("[2002:{:x}:{:x}::1]", words.0, words.1),
        format!("[2001:0:{:x}:{:x}::1]", words.0, words.1),
        format!("[2001::{:x}:{:x}]", !words.0, !words.1),
        format!("[2606:4700::5efe:{:x}:{:x}]", words.0, words.1),
    ]
}

#[test]
fn no_spelling_of_loopback_or_of_the_metadata_address_is_a_destination() {
    let mut tried = 0;
    let extra = ["[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "0", "0.0.0.0", "0x0", "127.1", "127.0.1"]
        .map(str::to_owned);
    let all = [spellings([127, 0, 0, 1]), spellings([169, 254, 169, 254]), extra.to_vec()].concat();
    for host in all {
        for rules in [rules(), lax()] {
            let refused = Destination::parse(&format!("https://{host}/"), &rules);
            let refused = refused.expect_err(&host);
            let is_by_address =
                matches!(refused, BadDestination::Address(_) | BadDestination::NoUrl);
            assert!(is_by_address, "{host}: {refused}");
        }
        tried += 1;
    }
    println!("{tried} spellings refused");
    assert!(tried >= 40);
}

proptest! {
    #[test]
    fn no_special_address_is_a_destination_in_any_spelling(
        at in 0..address::SPECIAL_V4.len(), bits: u32
    ) {
        let net = address::SPECIAL_V4[at].0;
        let host = bits & net.hostmask().to_bits();
        let octets = (net.network().to_bits() | host).to_be_bytes();
        for host in spellings(octets) {
            let parsed = Destination::parse(&format!("https://{host}/"), &rules());
            prop_assert!(parsed.is_err(), "{}", host);
        }
    }

    #[test]
    fn any_text_is_judged_and_never_a_panic(text in ".{0,80}") {
        let _ = Destination::parse(&text, &rules());
        let _ = Destination::parse(&format!("https://{text}"), &lax());
    }
}
