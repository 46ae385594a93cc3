//! The SSRF guard: the addresses that deliveries never reach.

use std::sync::Arc;

use cloakroom::webhooks::{DnsLookups, GuardRefusal, SsrfGuard};
use cloakroom_domain::Principal;
use cloakroom_domain::webhooks::{BadDestination, DeliveryError, DestinationRules};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

use super::outward::{Answer, NOW, Names, Outward, addresses, open_to};
use crate::support::Receiver;

fn lookups(names: &Arc<Names>) -> DnsLookups {
    DnsLookups::new(Arc::clone(names) as _, Clock::manual(NOW), Tasks::new())
}

fn strict() -> DestinationRules {
    DestinationRules { ports: vec![443, 80], ..DestinationRules::default() }
}

#[tokio::test]
async fn a_name_that_is_public_when_checked_and_private_when_dialled_is_not_dialled() {
    let receiver = Receiver::start().await;
    let rules = DestinationRules { allow: Vec::new(), ..open_to(&[receiver.address]) };
    let names = Names::answering([addresses(&["93.184.215.14"]), addresses(&["127.0.0.1"])]);
    let guard = SsrfGuard::new(rules.clone(), &[], Arc::clone(&names) as _);
    let url = receiver.url("/").replace("localhost", "rebinding.example");
    assert!(guard.check_url(&url, &Principal::everyone(), &lookups(&names)).await.is_ok());
    let attempted = Outward::new(rules, &[], names, Vec::new()).send(&url).await;
    assert_eq!(attempted.error, Some(DeliveryError::RefusedAddress), "{attempted:?}");
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_with_any_bad_address_is_not_dialled_at_all() {
    let receiver = Receiver::start().await;
    for bad in
        ["10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd00::1"]
    {
        for both in [["127.0.0.1", bad], [bad, "127.0.0.1"]] {
            let names = Names::answering([addresses(&both)]);
            let rules = open_to(&[receiver.address]);
            let attempted =
                Outward::new(rules, &[], names, Vec::new()).send(&receiver.url("/")).await;
            assert_eq!(attempted.error, Some(DeliveryError::RefusedAddress), "{both:?}");
        }
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn no_spelling_of_loopback_is_dialled() {
    let receiver = Receiver::start().await;
    let port = receiver.address.port();
    let rules = DestinationRules { allow: Vec::new(), ..open_to(&[receiver.address]) };
    let outward = Outward::new(rules, &[], Names::loopback(), Vec::new());
    let hosts = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "127.0.0.2",
        "%31%32%37.0.0.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "[::1]",
        "[::]",
        "0",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "a.localhost",
        "printer.local",
        "db.internal",
        "metadata.google.internal",
    ];
    for host in hosts {
        let attempted = outward.send(&format!("http://{host}:{port}/")).await;
        assert_eq!(attempted.error, Some(DeliveryError::RefusedAddress), "{host}: {attempted:?}");
    }
    assert_eq!(receiver.connections(), 0);
    println!("{} spellings not dialled", hosts.len());
}

#[tokio::test]
async fn the_gateways_own_listeners_are_refused_even_where_their_range_is_open() {
    let listener = Receiver::start().await;
    let everywhere = format!("0.0.0.0:{}", listener.address.port()).parse().unwrap();
    for own in [listener.address, everywhere] {
        let outward =
            Outward::new(open_to(&[listener.address]), &[own], Names::loopback(), Vec::new());
        let attempted = outward.send(&listener.url("/")).await;
        assert_eq!(attempted.error, Some(DeliveryError::RefusedAddress));
        assert!(attempted.detail.unwrap().contains("the gateway itself"));
    }
    assert_eq!(listener.connections(), 0);
}

#[tokio::test]
async fn a_url_is_judged_with_what_it_stands_for_before_it_is_kept() {
    let check = async |names: Answer, url: &str| {
        let names = Names::answering([names]);
        let guard = SsrfGuard::new(strict(), &[], Arc::clone(&names) as _);
        let judged = guard.check_url(url, &Principal::everyone(), &lookups(&names)).await;
        judged.map(|to| to.origin())
    };
    let public = || addresses(&["93.184.215.14", "2606:2800:21f::1"]);
    let fine = check(public(), "https://a.example/x").await;
    assert_eq!(fine, Ok("https://a.example".to_owned()));
    let refused = check(addresses(&["93.184.215.14", "10.0.0.7"]), "https://a.example/").await;
    assert!(matches!(refused, Err(GuardRefusal::Address(_))), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("10.0.0.7 is not public: it is private"));
    let refused = check(public(), "http://a.example/").await;
    assert_eq!(refused, Err(GuardRefusal::Url(BadDestination::PlainHttp)));
    let unknown = check(Answer::Nothing, "https://a.example/").await;
    assert!(matches!(unknown, Err(GuardRefusal::Unresolvable(_))), "{unknown:?}");
}

#[tokio::test]
async fn a_url_that_was_closed_since_it_was_registered_is_not_dialled() {
    let receiver = Receiver::start().await;
    for rules in [
        DestinationRules { allow_http: false, ..open_to(&[receiver.address]) },
        DestinationRules { ports: vec![443], ..open_to(&[receiver.address]) },
    ] {
        let outward = Outward::new(rules, &[], Names::loopback(), Vec::new());
        let attempted = outward.send(&receiver.url("/")).await;
        assert_eq!(attempted.error, Some(DeliveryError::RefusedUrl));
    }
    assert_eq!(receiver.connections(), 0);
}
