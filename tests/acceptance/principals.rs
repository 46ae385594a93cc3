//! Contract section 8: the principal of a request, and the view of other principals.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::gateway::{operations_of, order};
use crate::support::{Connection, Gateway, Request, Setup, Upstream, get, post, time};

fn of(who: &str, request: Request) -> Request {
    request.field("Authorization", format!("Bearer {who}"))
}

async fn by_credential(upstream: &Upstream) -> Gateway {
    Setup::before(upstream).principal("authorization").start().await
}

async fn by_field(upstream: &Upstream) -> Gateway {
    Setup::before(upstream)
        .principal("header:X-User")
        .set("server", "trusted_proxies = [\"127.0.0.0/8\"]")
        .start()
        .await
}

/// How many operations there are of all principals together.
async fn stored(gateway: &Gateway) -> usize {
    operations_of(&gateway.admin(get("/-/operations")).await.expect(200).json()).len()
}

#[tokio::test]
async fn without_a_credential_a_route_and_the_prefix_are_401_and_nothing_is_stored() {
    let upstream = Upstream::start().await;
    for gateway in [by_credential(&upstream).await, by_field(&upstream).await] {
        let ticket = "/-/operations/0192f7c0-0000-7000-8000-000000000000x";
        let under_the_prefix = ["", "/status", "/result", "/events", "/tree"]
            .map(|resource| get(format!("{ticket}{resource}")));
        let requests = [order(), get("/-/operations"), post(format!("{ticket}/cancel"))];
        for request in requests.into_iter().chain(under_the_prefix) {
            let answer = gateway.send(request).await;
            let challenge = answer.expect_field("www-authenticate").to_owned();
            assert!(challenge.split(' ').next().is_some_and(|scheme| !scheme.is_empty()));
            answer.problem(401);
        }
        assert_eq!(stored(&gateway).await, 0);
        assert!(upstream.received().is_empty());
    }
}

#[tokio::test]
async fn what_is_not_routed_needs_no_credential_of_the_gateways() {
    let upstream = Upstream::start().await;
    for gateway in [by_credential(&upstream).await, by_field(&upstream).await] {
        gateway.get("/catalogue").await.expect(200);
    }
}

#[tokio::test]
async fn each_credential_lists_its_own_and_the_same_one_is_the_same_principal_after_a_restart() {
    let upstream = Upstream::start().await;
    let gateway = by_credential(&upstream).await;
    let ann = gateway.accept(of("ann", order())).await;
    let bob = gateway.accept(of("bob", order())).await;
    let gateway = gateway.restart().await;
    for (who, own) in [("ann", &ann), ("bob", &bob)] {
        let list = gateway.send(of(who, get("/-/operations"))).await.expect(200).json();
        let ids: Vec<Value> = operations_of(&list).iter().map(|one| one["id"].clone()).collect();
        assert_eq!(ids, [&*own.id], "{who}");
    }
    let list = gateway.send(of("eve", get("/-/operations"))).await.expect(200).json();
    assert!(operations_of(&list).is_empty());
}

#[tokio::test]
async fn a_filter_finds_nothing_of_another_principal() {
    let upstream = Upstream::start().await;
    let gateway = by_credential(&upstream).await;
    gateway.accept(of("ann", order()).field("Operation-Tags", "account:1")).await;
    let filtered = get("/-/operations?tag=account:1");
    let list = gateway.send(of("bob", filtered.clone())).await.expect(200).json();
    assert!(operations_of(&list).is_empty(), "{list}");
    let list = gateway.send(of("ann", filtered)).await.expect(200).json();
    assert_eq!(operations_of(&list).len(), 1);
}

#[tokio::test]
async fn the_same_key_of_two_credentials_is_two_operations() {
    let upstream = Upstream::start().await;
    let gateway = by_credential(&upstream).await;
    let keyed = || order().field("Idempotency-Key", "k");
    let ann = gateway.accept(of("ann", keyed())).await;
    let bob = gateway.accept(of("bob", keyed())).await;
    assert_ne!(ann, bob);
    assert_eq!(gateway.accept(of("ann", keyed())).await, ann);
    assert_eq!(gateway.accept(of("bob", keyed())).await, bob);
}

#[tokio::test]
async fn anothers_ticket_and_one_that_never_was_cannot_be_told_apart() {
    let upstream = Upstream::start().await;
    let gateway = by_credential(&upstream).await;
    let ticket = gateway.accept(of("ann", order())).await;
    gateway.send(of("ann", get(&*ticket.monitor)).field("Prefer", "wait=5")).await.expect(303);
    let mut forged = ticket.monitor.clone();
    let last = if forged.pop() == Some('0') { '1' } else { '0' };
    forged.push(last);
    for resource in ["", "/status", "/result", "/events", "/tree"] {
        let mut seen = BTreeSet::new();
        for monitor in [&ticket.monitor, &forged] {
            let answer = gateway.send(of("bob", get(format!("{monitor}{resource}")))).await;
            let names: Vec<_> = answer.fields.iter().map(|(name, _)| name.clone()).collect();
            seen.insert((names, answer.problem(404).to_string()));
        }
        assert_eq!(seen.len(), 1, "{resource}: {seen:?}");
    }
}

#[tokio::test]
async fn nobody_else_can_cancel_or_free_an_operation() {
    let upstream = Upstream::start().await;
    let gateway = by_credential(&upstream).await;
    let ticket = gateway.accept(of("ann", order().field("Operation-Delay", "60"))).await;
    gateway.send(of("bob", post(ticket.at("cancel")))).await.problem(404);
    gateway.send(of("bob", Request::new("DELETE", &*ticket.monitor))).await.problem(404);
    let document = gateway.send(of("ann", get(ticket.at("status")))).await.expect(200).json();
    assert_eq!(document["status"], "queued");
    gateway.advance(60);
    time::until("its success", || async {
        let document = gateway.send(of("ann", get(ticket.at("status")))).await.expect(200).json();
        (document["status"] == "succeeded").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_credential_of_the_same_principal_is_no_other_request() {
    let upstream = Upstream::start().await;
    let gateway = by_field(&upstream).await;
    let with = |token: &str| {
        let request = of(token, order()).field("Cookie", token).field("X-User", "ann");
        request.field("Idempotency-Key", "k")
    };
    let first = gateway.accept(with("monday")).await;
    assert_eq!(gateway.accept(with("tuesday")).await, first);
}

#[tokio::test]
async fn only_one_field_with_that_very_name_names_the_principal() {
    let upstream = Upstream::start().await;
    let gateway = by_field(&upstream).await;
    gateway.send(order().field("X_User", "ann")).await.problem(401);
    gateway.send(order().field("X-User", "")).await.problem(401);
    let twice = order().field("X-User", "ann").field("X-User", "bob");
    gateway.send(twice).await.problem(400);
    // Upstreams rely on it where nothing is routed, too.
    for target in ["/catalogue", "/-/operations"] {
        let twice = get(target).field("X-User", "ann").field("X-User", "bob");
        gateway.send(twice).await.problem(400);
    }
    assert_eq!(stored(&gateway).await, 0);
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn a_trusted_proxy_is_known_in_either_form_of_its_address() {
    for (listen, range) in [
        ("127.0.0.1:0", "::ffff:127.0.0.0/104"),
        ("[::]:0", "127.0.0.0/8"),
        ("[::]:0", "::ffff:127.0.0.1/128"),
    ] {
        let upstream = Upstream::start().await;
        let setup = Setup::before(&upstream).principal("header:X-User").listen_on(listen);
        let trusted = format!("trusted_proxies = [{range:?}]");
        let gateway = setup.set("server", &trusted).start().await;
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], gateway.public.port()));
        let mut connection = Connection::open(address).await;
        connection.send(&order().field("X-User", "ann")).await.expect(202);
    }
}

#[tokio::test]
async fn a_trusted_peers_field_reaches_the_upstream_but_no_alias_that_a_client_slipped_past_it() {
    let upstream = Upstream::start().await;
    let gateway = by_field(&upstream).await;
    for request in [order(), get("/catalogue")] {
        gateway.send(request.field("X-User", "ann").field("X_User", "root")).await;
    }
    for path in ["/orders", "/catalogue"] {
        let received = upstream.until_received(path, 1).await;
        assert_eq!(received[0].all("x-user"), ["ann"], "{path}");
        assert!(!received[0].fields.iter().any(|(_, value)| value == "root"), "{received:?}");
    }
}

#[tokio::test]
async fn no_credential_that_names_a_principal_stays_in_the_ledger() {
    let upstream = Upstream::start().await;
    let mut process = Setup::before(&upstream).principal("authorization").spawn().await;
    let ticket = process.accept(of("a-credential-to-look-for", order())).await;
    let monitor = of("a-credential-to-look-for", get(&*ticket.monitor));
    process.send(monitor.field("Prefer", "wait=5")).await.expect(303);
    process.signal("TERM").await;
    assert!(process.ended().await.success());
    let kept = std::fs::read(process.store()).unwrap();
    let secret = b"a-credential-to-look-for";
    assert!(!kept.windows(secret.len()).any(|window| window == secret));
    assert_eq!(upstream.only().expect_field("authorization"), "Bearer a-credential-to-look-for");
}
