//! Tests that every field reader takes time in proportion to the length of its field.
//!
//! Each reader gets more than any head has room for. A reader that compares each member with all others
//! would need hours here; a proportional one needs a moment.

use std::sync::mpsc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::answer_head::AnswerHead;
use super::expectation::{self, Allow, Mode, Offer};
use super::forwarded::{self, RequestSender, Scheme};
use super::location::OwnOrigins;
use super::operation_headers::{HeaderGrants, OperationHeaders};
use super::prefer::Preferences;
use super::{
    hygiene, idempotency, media_type, public_url, redirect, relocation, request_override,
    retry_after, via,
};
use crate::Timestamp;

/// Far more than one pass takes on any machine, and far less than comparing all with all.
const PATIENCE: Duration = Duration::from_mins(1);

/// So many members of a list, none of which is like another.
const MEMBERS: usize = 100_000;

fn long_values() -> Vec<String> {
    let numbered = |begin: &str, end: &str| -> String {
        let members: Vec<String> =
            (0..MEMBERS).map(|number| format!("{begin}{number:x}{end}")).collect();
        members.concat()
    };
    vec![
        numbered("a", ","),
        numbered("a", ";"),
        numbered("a=", ";"),
        numbered("a;b=", ","),
        numbered("\"", "\","),
        numbered("for=\"", ""),
        numbered("10.0.0.", ", "),
        numbered("_method=", "&"),
        numbered("/", ""),
        numbered("\\", "\""),
        ",".repeat(MEMBERS),
        "\"".repeat(MEMBERS + 1),
        "\\\"".repeat(MEMBERS),
        "10.0.0.1,".repeat(MEMBERS),
    ]
}

fn read_all(headers: &HeaderMap, value: &str) {
    let net = ["10.0.0.0/8".parse().unwrap()];
    let peer = "10.0.0.1".parse().unwrap();
    let mut copy = headers.clone();
    let offer = Offer {
        mode: Mode::Async,
        allow: Allow::ALL,
        sync_wait: Duration::ZERO,
        timeout: Duration::ZERO,
    };
    let granted = HeaderGrants { timeout: Duration::ZERO, deadline: Duration::ZERO };
    let preferences = Preferences::of(headers);
    let _ = (preferences.wait(), preferences.respond_async(), preferences.minimal());
    drop(expectation::decide(headers, &offer));
    drop(expectation::unrouted(&Method::POST, false, headers));
    drop(OperationHeaders::parse(headers, Timestamp::EPOCH, granted));
    drop((idempotency::key(headers), public_url::host(headers)));
    let _ = (via::is_loop(headers, "a"), via::is_from_gateway(headers));
    drop(hygiene::screen(headers, &[]));
    drop(request_override::methods(&Method::POST, Some(value), headers, |method| {
        *method == Method::PUT
    }));
    let _ = request_override::paths(headers).count();
    let sender = RequestSender::of(peer, &net, headers);
    hygiene::remove_hop_by_hop(&mut copy);
    hygiene::remove_gateway_fields(&mut copy, &[]);
    forwarded::announce(&mut copy, &sender, Scheme::Http, None);
    forwarded::repeat(&mut copy);
    let _ = retry_after::parse(&HeaderValue::from_str(value).unwrap(), Timestamp::EPOCH);
}

#[test]
fn no_reader_takes_more_than_a_time_in_proportion_to_the_length() {
    const NAMES: [&str; 22] = [
        "accept",
        "callback-url",
        "cdn-loop",
        "client-reference",
        "connection",
        "expect",
        "forwarded",
        "host",
        "idempotency-key",
        "operation-deadline",
        "operation-delay",
        "operation-expect",
        "operation-not-before",
        "operation-parent",
        "operation-serial-key",
        "operation-tags",
        "prefer",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-original-url",
    ];
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for value in long_values() {
            let field =
                |name| (HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
            read_all(&NAMES.into_iter().map(field).collect(), &value);
        }
        tell.send(()).unwrap();
    });
    assert!(told.recv_timeout(PATIENCE).is_ok(), "a reader takes too long");
}

/// So many octets stand in a field of an upstream's answer, and in what a client asks for.
const OCTETS: usize = 256 * 1024;

fn long_answers() -> Vec<String> {
    let parts = [
        "<",
        "<,",
        "<a",
        "\"",
        "\\\"",
        "\\",
        "<a>,",
        "<?>,",
        "<..>,",
        "</>,",
        "<>",
        "<http:a>,",
        "<http://up:9000/>,",
        "anchor=\"/\";",
        "anchor=\"",
        "\"a\",",
        " =",
        ";",
        ",",
        "../",
        "%2e/",
        "url=",
        "a/b;c=d;",
        "xn--",
        "\u{e9}.",
        "@",
    ];
    let repeated = parts.iter().map(|part| part.repeat(OCTETS / part.len()));
    let mut values: Vec<String> = repeated.collect();
    values.push(format!("<a>{}", ";".repeat(OCTETS)));
    values.push(format!("<a>;x=\"{}", "\\".repeat(OCTETS)));
    let hosts: Vec<_> = values[23..].iter().map(|host| format!("http://{host}/")).collect();
    values.extend(hosts);
    values
}

fn read_answer(value: &str, targets: &[String]) {
    let upstream = url::Url::parse("http://up:9000").unwrap();
    let base = "https://api.example.com/base";
    let public = [url::Url::parse(base).unwrap()];
    let home = OwnOrigins { upstream: &upstream, public: &public };
    let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
    let names = ["link", "location", "refresh"];
    let field = |name| (HeaderName::from_static(name), value.clone());
    let headers: HeaderMap = names.into_iter().map(field).collect();
    for target in targets {
        relocation::pass(&mut headers.clone(), home, target, base);
        let mut recorded = headers.clone();
        relocation::record(&mut recorded, home, target);
        relocation::show(&mut recorded, base);
    }
    drop(hygiene::for_replay(&headers));
    hygiene::response_fields_from_upstream(&mut headers.clone());
    let _ = redirect::path_again(&value, &upstream, home);
    let _ = redirect::names_scheme_alone(&value, &upstream, home);
    let _ = retry_after::parse(&value, Timestamp::EPOCH);
    drop(media_type::canonical(value.as_bytes()));
}

fn long_heads() -> [String; 4] {
    [" a\r\n", "\r\n", "a\r\n", "a:\r\n b\r\n"].map(|lines| {
        let lines = lines.repeat(OCTETS / lines.len());
        format!("HTTP/1.1 200 OK\r\nX: a\r\n{lines}Content-Length: 0\r\n\r\n")
    })
}

#[test]
fn no_reader_of_an_answer_takes_more_than_a_time_in_proportion_to_the_length() {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let targets = ["/".to_owned(), format!("/{}/x?y", "a".repeat(64_000))];
        long_answers().iter().for_each(|value| read_answer(value, &targets));
        for head in long_heads() {
            drop(AnswerHead::read(&bytes::Bytes::from(head), false));
        }
        tell.send(()).unwrap();
    });
    assert!(told.recv_timeout(PATIENCE).is_ok(), "a reader takes too long");
}
