//! The table, row by row, and what no request can do to it.

use super::*;
use ::http::{HeaderName, HeaderValue};
use proptest::prelude::*;

const SYNC_WAIT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_mins(15);
const NO_ASYNC: Allow = Allow { asynchronous: false, synchronous: true };
const NO_SYNC: Allow = Allow { asynchronous: true, synchronous: false };

fn offer(mode: Mode) -> Offer {
    Offer { mode, allow: Allow::ALL, sync_wait: SYNC_WAIT, timeout: TIMEOUT }
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn hybrid(seconds: u64) -> AnswerMode {
    AnswerMode::Hybrid { wait: Duration::from_secs(seconds) }
}

fn sync(seconds: u64) -> AnswerMode {
    AnswerMode::Sync { wait: Duration::from_secs(seconds) }
}

/// The decision about a request with these two fields; empty ones are left out.
fn decided(expect: &str, prefer: &str, offer: &Offer) -> AnswerDecision {
    let fields: Vec<_> = [("expect", expect), ("prefer", prefer)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    decide(&headers(&fields), offer).unwrap()
}

fn refused(expect: &str, allow: Allow) -> ExpectationFailed {
    let offer = Offer { allow, ..offer(Mode::Async) };
    decide(&headers(&[("expect", expect)]), &offer).unwrap_err()
}

#[test]
fn every_row_of_the_table_with_everything_allowed() {
    use Mode::{Async, Hybrid, Sync};
    // Expect, Prefer, mode: answer, Preference-Applied of a 202, fallback to 202.
    let rows = [
        ("", "", Async, AnswerMode::Async, "", true),
        ("", "", Hybrid, hybrid(10), "", true),
        ("", "", Sync, sync(900), "", false),
        ("202-accepted", "", Sync, AnswerMode::Async, "", true),
        ("202-accepted", "wait=5", Hybrid, AnswerMode::Async, "", true),
        ("202-accepted", "respond-async", Sync, AnswerMode::Async, "respond-async", true),
        ("202-accepted", "respond-async, wait=5", Sync, AnswerMode::Async, "respond-async", true),
        ("200-ok", "", Async, sync(900), "", false),
        ("201-created", "", Async, sync(900), "", false),
        ("204-no-content", "", Hybrid, sync(900), "", false),
        ("200-ok, 201-created", "", Async, sync(900), "", false),
        ("200-ok", "wait=5", Async, sync(5), "wait=5", false),
        ("200-ok", "respond-async", Async, sync(900), "", false),
        ("200-ok", "respond-async, wait=5", Async, sync(5), "wait=5", false),
        ("200-ok", "return=minimal", Async, sync(900), "", false),
        ("200-ok/202-accepted", "", Sync, hybrid(10), "", true),
        ("202-accepted, 204-no-content", "wait=5", Sync, hybrid(5), "wait=5", true),
        ("200-ok, 202-accepted", "respond-async", Sync, hybrid(10), "respond-async", true),
        ("100-continue", "", Async, AnswerMode::Async, "", true),
        ("100-continue, 200-ok", "", Async, sync(900), "", false),
        ("", "respond-async", Async, AnswerMode::Async, "respond-async", true),
        ("", "respond-async", Sync, AnswerMode::Async, "respond-async", true),
        ("", "respond-async", Hybrid, AnswerMode::Async, "respond-async", true),
        ("", "respond-async, wait=5", Sync, hybrid(5), "respond-async, wait=5", true),
        ("", "wait=5, respond-async", Async, hybrid(5), "respond-async, wait=5", true),
        ("", "wait=5", Sync, sync(5), "wait=5", false),
        ("", "wait=5", Async, hybrid(5), "wait=5", true),
        ("", "wait=5", Hybrid, hybrid(5), "wait=5", true),
        ("", "wait=0", Async, hybrid(0), "wait=0", true),
        ("", "wait=99", Async, hybrid(45), "wait=45", true),
        ("", "wait=99999999999999999999", Sync, sync(45), "wait=45", false),
        ("", "return=minimal", Async, AnswerMode::Async, "return=minimal", true),
        ("", "return=minimal", Hybrid, hybrid(10), "return=minimal", true),
        ("", "return=minimal", Sync, sync(900), "", false),
        ("", "return=representation", Async, AnswerMode::Async, "", true),
        ("", "wait=x, handling=lenient, respond-async=\"", Async, AnswerMode::Async, "", true),
    ];
    for (expect, prefer, mode, answer, applied, fallback) in rows {
        let decision = decided(expect, prefer, &offer(mode));
        let row = format!("{expect} | {prefer} | {mode:?}");
        assert_eq!(decision.answer, answer, "{row}");
        assert_eq!(decision.applied.join(", "), applied, "{row}");
        assert_eq!(decision.may_fall_back_to_202, fallback, "{row}");
        assert_eq!(decision.minimal, applied.contains("minimal"), "{row}");
        assert_eq!(decision.continue_expected, expect.contains("100"), "{row}");
    }
}

#[test]
fn respond_async_where_async_is_not_allowed_is_synchronous_without_complaint() {
    let offer = Offer { allow: NO_ASYNC, ..offer(Mode::Sync) };
    let plain = decided("", "respond-async", &offer);
    assert_eq!((plain.answer, plain.applied.len()), (sync(900), 0));
    assert!(plain.may_fall_back_to_202, "the request did allow a 202");
    let limited = decided("", "respond-async, wait=5", &offer);
    assert_eq!((limited.answer, limited.applied), (sync(5), vec!["wait=5".to_owned()]));
}

#[test]
fn a_wait_is_not_honoured_where_a_synchronous_answer_is_not_allowed() {
    let offer = Offer { allow: NO_SYNC, ..offer(Mode::Async) };
    assert_eq!(decided("", "wait=5", &offer).answer, AnswerMode::Async);
    let both = decided("", "respond-async, wait=5", &offer);
    assert_eq!((both.answer, both.applied), (AnswerMode::Async, vec!["respond-async".to_owned()]));
}

#[test]
fn the_mode_is_given_to_who_asks_for_nothing_whatever_may_be_asked_for() {
    let nothing = Allow { asynchronous: false, synchronous: false };
    let offer = Offer { allow: nothing, ..offer(Mode::Async) };
    assert_eq!(decided("", "", &offer).answer, AnswerMode::Async);
}

#[test]
fn a_wait_is_never_longer_than_the_timeout_of_a_synchronous_answer() {
    let offer = Offer { timeout: Duration::from_secs(3), ..offer(Mode::Sync) };
    assert_eq!(decided("", "wait=5", &offer).answer, sync(3));
}

#[test]
fn an_expectation_outside_allow_is_refused_with_what_is_supported() {
    let accepted = refused("202-Accepted", NO_ASYNC);
    assert_eq!(accepted.expectation, "202-Accepted");
    assert_eq!(accepted.supported, ["100-continue", "200-ok", "201-created", "204-no-content"]);
    let synchronous = refused("204-no-content", NO_SYNC);
    assert_eq!(synchronous.expectation, "204-no-content");
    assert_eq!(synchronous.supported, ["100-continue", "202-accepted"]);
    assert_eq!(refused("200-ok/202-accepted", NO_ASYNC).expectation, "202-accepted");
    assert_eq!(refused("200-ok/202-accepted", NO_SYNC).expectation, "200-ok");
}

#[test]
fn an_unknown_expectation_is_refused_by_name_even_beside_known_ones() {
    for (expect, named) in [
        ("418-teapot", "418-teapot"),
        ("100-continue, x", "x"),
        ("200-ok;q=1", "200-ok;q=1"),
        ("200", "200"),
        ("200 ok", "200 ok"),
    ] {
        let refused = refused(expect, Allow::ALL);
        assert_eq!(refused.expectation, named);
        assert!(refused.to_string().contains("202-accepted"), "{refused}");
    }
}

#[test]
fn an_expectation_that_is_no_text_is_unknown() {
    let mut headers = HeaderMap::new();
    headers.insert("expect", HeaderValue::from_bytes(b"200-ok\xff").unwrap());
    assert!(decide(&headers, &offer(Mode::Async)).is_err());
}

#[test]
fn members_are_read_from_all_lines_of_both_fields_in_any_case() {
    let fields =
        [("expect", "200-OK"), ("expect", " , 100-Continue"), ("operation-expect", "202-ACCEPTED")];
    let decision = decide(&headers(&fields), &offer(Mode::Sync)).unwrap();
    assert_eq!(decision.answer, hybrid(10));
    assert!(decision.continue_expected);
}

#[test]
fn an_answer_that_is_no_202_lists_only_the_wait() {
    let decision = decided("", "respond-async, wait=5, return=minimal", &offer(Mode::Async));
    let full = "respond-async, wait=5, return=minimal";
    assert_eq!(decision.applied_when(true).as_deref(), Some(full));
    assert_eq!(decision.applied_when(false).as_deref(), Some("wait=5"));
    assert_eq!(decided("", "", &offer(Mode::Async)).applied_when(true), None);
}

#[test]
fn unrouted_reading_and_what_lies_under_the_prefix_ignore_all_but_100_continue() {
    let strange = headers(&[("expect", "202-accepted, x, 100-continue")]);
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        assert_eq!(unrouted(&method, false, &strange), Ok(true));
    }
    assert_eq!(unrouted(&Method::POST, true, &strange), Ok(true));
    assert_eq!(unrouted(&Method::GET, false, &headers(&[("expect", "x")])), Ok(false));
}

#[test]
fn other_unrouted_requests_may_expect_only_the_synchronous_family() {
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::TRACE] {
        for bad in ["202-accepted", "x", "200-ok, 202-accepted"] {
            assert!(unrouted(&method, false, &headers(&[("expect", bad)])).is_err(), "{bad}");
        }
        for good in ["200-ok", "201-created/204-no-content"] {
            assert_eq!(
                unrouted(&method, false, &headers(&[("operation-expect", good)])),
                Ok(false)
            );
        }
    }
}

#[test]
fn a_wait_that_is_given_up_for_a_202_at_once_is_not_named_as_honoured() {
    let asked = headers(&[("prefer", "respond-async, wait=7, return=minimal")]);
    let decision = decide(&asked, &offer(Mode::Async)).unwrap();
    assert_eq!(decision.answer, AnswerMode::Hybrid { wait: Duration::from_secs(7) });
    let decision = decision.at_once();
    assert_eq!(decision.answer, AnswerMode::Async);
    assert_eq!(decision.applied, ["respond-async", "return=minimal"]);
    assert!(!decision.meets("wait"));
}

#[test]
fn the_monitor_waits_as_long_as_preferred_and_capped() {
    assert_eq!(monitor_wait(&headers(&[("prefer", "wait=60")])), Some(Duration::from_secs(45)));
    assert_eq!(monitor_wait(&headers(&[("prefer", "respond-async")])), None);
}

fn offers() -> impl Strategy<Value = Offer> {
    let mode = prop_oneof![Just(Mode::Async), Just(Mode::Hybrid), Just(Mode::Sync)];
    (mode, any::<bool>(), any::<bool>()).prop_map(|(mode, asynchronous, synchronous)| Offer {
        allow: Allow { asynchronous, synchronous },
        ..offer(mode)
    })
}

proptest! {
    #[test]
    fn no_octets_make_it_panic_and_waits_stay_bounded(
        expect in prop::collection::vec(any::<u8>(), 0..40),
        prefer in prop::collection::vec(any::<u8>(), 0..40),
        offer in offers(),
    ) {
        let mut headers = HeaderMap::new();
        for (name, octets) in [("expect", expect), ("prefer", prefer)] {
            if let Ok(value) = HeaderValue::from_bytes(&octets) {
                headers.insert(name, value);
            }
        }
        if let Ok(AnswerDecision { answer: AnswerMode::Sync { wait } | AnswerMode::Hybrid { wait }, .. }) = decide(&headers, &offer) {
            prop_assert!(wait <= TIMEOUT);
        }
    }

    #[test]
    fn a_preference_never_overrules_an_expectation(
        expect in prop::sample::select(vec!["202-accepted", "200-ok", "201-created/204-no-content"]),
        prefer in prop::sample::subsequence(vec!["respond-async", "wait=7", "return=minimal"], 0..=3),
        offer in offers(),
    ) {
        let fields = headers(&[("expect", expect), ("prefer", &prefer.join(", "))]);
        if let Ok(decision) = decide(&fields, &offer) {
            if expect == "202-accepted" {
                prop_assert_eq!(decision.answer, AnswerMode::Async);
            } else {
                let synchronous = matches!(decision.answer, AnswerMode::Sync { .. });
                prop_assert!(synchronous && !decision.may_fall_back_to_202);
            }
        }
    }

    #[test]
    fn preferences_alone_are_never_refused(prefer in "[a-z=;,\" 0-9-]{0,40}", offer in offers()) {
        prop_assert!(decide(&headers(&[("prefer", &prefer)]), &offer).is_ok());
    }
}
