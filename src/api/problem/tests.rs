use std::collections::BTreeSet;

use super::*;
use cloakroom_ledger::LedgerError;

#[test]
fn every_kind_has_a_name_of_its_own_and_an_error_status() {
    let names: BTreeSet<_> = kinds::ALL.iter().map(|kind| kind.name).collect();
    assert_eq!(names.len(), kinds::ALL.len());
    for kind in kinds::ALL {
        assert!(kind.status().as_u16() >= 400, "{kind:?}");
        assert!(kind.title.len() > 10, "{kind:?}");
    }
}

#[test]
fn a_full_disk_is_503_with_a_time_and_without_its_details() {
    for error in [LedgerError::Full, LedgerError::Unavailable("/var/secret.db is locked".into())] {
        let problem = Problem::from(error);
        assert!(!problem.body().to_string().contains("secret"));
        let response = problem.into_response();
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("retry-after"));
    }
    assert_eq!(Problem::from(LedgerError::Damaged("row 7".into())).status(), 500);
}

#[test]
fn whoever_may_have_been_accepted_unheard_is_told_so_and_how_to_find_out() {
    let detail = |error| Problem::from(error).body()["detail"].as_str().unwrap().to_owned();
    let unknown = detail(LedgerError::Unavailable("cut".into()));
    assert!(unknown.contains("may have been accepted") && unknown.contains("Idempotency-Key"));
    assert!(detail(LedgerError::Full).contains("nothing was accepted"));
}

#[test]
fn a_problem_is_marked_and_says_what_it_is() {
    let problem = Problem::answer_late("http://a/-/operations/T");
    let body = problem.body();
    assert_eq!(body["type"], "urn:cloakroom:problem:answer-not-in-time");
    assert_eq!(body["status"], 424);
    let response = problem.into_response();
    let field = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    assert_eq!(field("content-type"), Some(PROBLEM_TYPE));
    assert_eq!(field("gateway-origin"), Some("cloakroom"));
    assert_eq!(field("cache-control"), Some("no-store"));
    assert_eq!(field("referrer-policy"), Some("no-referrer"));
    assert_eq!(field("location"), Some("http://a/-/operations/T"));
    assert_eq!(field("retry-after"), None);
}
