//! Configurations and circumstances that the program refuses to start with.

use crate::support::gateway::order;
use crate::support::{Setup, Upstream};

async fn refused(setup: Setup, words: &[&str]) {
    let (status, said) = setup.refused().await;
    assert!(!status.success());
    for word in words {
        assert!(said.contains(word), "{word} in {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[tokio::test]
async fn an_unknown_key_is_refused_and_the_nearest_known_one_suggested() {
    let upstream = Upstream::start().await;
    let setup = || Setup::before(&upstream);
    refused(setup().set("server", "max_bdy = 5"), &["max_bdy", "max_body"]).await;
    refused(setup().set("retension", "result = \"1h\""), &["retension", "retention"]).await;
    let route = setup().route("POST /orders", "delivry = \"at-least-once\"");
    refused(route, &["delivry", "delivery"]).await;
}

#[tokio::test]
async fn values_that_make_no_sense_are_refused() {
    let upstream = Upstream::start().await;
    let setup = || Setup::before(&upstream);
    refused(setup().route("POST /orders", "delivery = \"sometimes\""), &["at-most-once"]).await;
    refused(setup().route("POST /orders", "timeout = \"soon\""), &["timeout"]).await;
    refused(setup().route("POST /orders", "timeout = \"-1s\""), &["timeout"]).await;
    refused(setup().route("POST /orders", "upstream = \"missing\""), &["missing"]).await;
    refused(setup().route("orders", ""), &["orders"]).await;
    refused(setup().route("POST /orders", "mode = \"later\""), &["mode"]).await;
    refused(Setup::before_url("ftp://localhost/"), &["url"]).await;
    refused(Setup::before_url("not a url"), &["url"]).await;
}

#[tokio::test]
async fn a_principal_from_a_field_needs_a_trusted_proxy_to_set_it() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).principal("header:X-User");
    refused(setup, &["trusted_proxies"]).await;
    let slices = (0..128).map(|n| format!("\"{}.0.0.0/8\"", 2 * n)).collect::<Vec<_>>().join(", ");
    let setup = Setup::before(&upstream).principal("header:X-User");
    let setup = setup.set("server", &format!("trusted_proxies = [{slices}]"));
    refused(setup, &["trusted_proxies", "0.0.0.0/0"]).await;
}

#[tokio::test]
async fn patterns_of_other_routers_are_refused_with_what_to_write() {
    let upstream = Upstream::start().await;
    for (pattern, words) in [
        ("POST /x-*", ["x-*", "{*rest}"]),
        ("POST /orders/(.*)", ["(.*)", "{*rest}"]),
        ("POST /orders/<id>", ["<id>", "{name}"]),
        ("POST /orders/:id", [":id", "{name}"]),
        ("ANY /orders", ["ANY", "`*`"]),
        ("post /orders", ["post", "POST"]),
    ] {
        refused(Setup::before(&upstream).route(pattern, ""), &words).await;
    }
}

#[tokio::test]
async fn text_that_is_no_configuration_is_refused_with_its_place() {
    let upstream = Upstream::start().await;
    refused(Setup::before(&upstream).set("server", "this is = not toml ="), &["cloakroom.toml:"])
        .await;
}

#[tokio::test]
async fn a_port_in_use_is_refused_by_its_address() {
    let upstream = Upstream::start().await;
    let taken = upstream.address.to_string();
    let setup = Setup::before(&upstream).listen_on(&taken);
    refused(setup, &[&taken]).await;
}

#[tokio::test]
async fn a_second_gateway_on_the_same_ledger_is_refused() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    let (status, said) = process.second().await;
    assert!(!status.success());
    assert!(said.contains("cloakroom.db"), "{said}");
    let ticket = process.accept(order()).await;
    assert_eq!(process.settled(&ticket).await["status"], "succeeded");
}
