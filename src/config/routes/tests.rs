//! Tests of the routes: defaults, every setting, references and bounds.

use super::super::{
    Config, Overrides,
    testing::{faults, lines, load, read, rows},
};
use super::*;

fn route(settings: &str) -> String {
    format!("[[routes]]\nmatch = \"POST /orders/{{id}}\"\n{settings}\n")
}

fn only(text: &str) -> RouteConfig {
    let mut routes = read(text).routes;
    assert_eq!(routes.len(), 1);
    routes.remove(0)
}

#[test]
fn a_route_needs_nothing_but_what_it_matches() {
    let route = only(&route(""));
    assert_eq!((route.method.as_str(), route.path.as_str()), ("POST", "/orders/{id}"));
    assert_eq!((route.name.as_str(), route.implicit), ("post-orders-id", false));
    assert_eq!((route.upstream.as_str(), route.queue.as_str()), ("default", "default"));
    assert_eq!(route.mode, Mode::Async);
    assert_eq!(route.allow, Allow { asynchronous: true, synchronous: true });
    assert_eq!((route.sync_wait, route.delay), (seconds(10), Duration::ZERO));
    assert_eq!((route.timeout, route.deadline), (minutes(15), hours(24)));
    assert_eq!((route.delivery, route.serial_key, route.idempotency_key), (None, None, None));
    let retry = RetryConfig { attempts: 10, min: seconds(1), max: minutes(5), statuses: None };
    assert_eq!(route.retry, retry);
    assert!(!route.idempotency_required && !route.unique_pending && !route.foreign_location);
    assert!(route.tags.is_empty() && route.erase.is_empty());
}

#[test]
fn every_setting_of_a_route_is_taken() {
    let route = only(&route(
        r#"
        name = "orders"
        mode = "hybrid"
        sync_wait = "45s"
        delivery = "at-least-once"
        timeout = "30s"
        deadline = "1h"
        retry = { attempts = 3, min = "10ms", max = "1s" }
        serial_key = "path:id"
        parent = "header:Caused-By"
        client_reference = "query:number"
        idempotency_key = "pointer:/number"
        idempotency_required = true
        unique = "pending"
        tags = ["kind:order"]
        delay = "5s"
        foreign_location = true
        erase = ["X-Api-Key"]"#,
    ));
    assert_eq!((route.name.as_str(), route.mode), ("orders", Mode::Hybrid));
    assert_eq!((route.sync_wait, route.delay), (seconds(45), seconds(5)));
    assert_eq!(route.delivery, Some(DeliveryGuarantee::AtLeastOnce));
    assert_eq!((route.timeout, route.deadline), (seconds(30), hours(1)));
    assert_eq!((route.retry.attempts, route.retry.min), (3, Duration::from_millis(10)));
    assert_eq!(route.serial_key, Some(Selector::Path("id".into())));
    assert_eq!(route.parent, Some(Selector::Header(HeaderName::from_static("caused-by"))));
    assert_eq!(route.client_reference, Some(Selector::Query("number".into())));
    assert_eq!(route.idempotency_key, Some(KeyRule::Pointer("/number".into())));
    assert!(route.idempotency_required && route.unique_pending && route.foreign_location);
    assert_eq!((route.tags, route.erase.len()), (vec!["kind:order".to_owned()], 1));
}

#[test]
fn without_routes_every_post_is_one() {
    let route = only("");
    assert_eq!((route.method.as_str(), route.path.as_str()), ("POST", "/{*rest}"));
    assert!(route.implicit && route.mode == Mode::Async && route.name == "every-post");
    let loaded = load("").unwrap();
    assert_eq!(rows(&loaded)["routes[0].match"].source, SettingSource::Default);
}

#[test]
fn flags_make_plain_routes_beside_those_of_the_file() {
    let flags = |routes: &[&str]| Overrides {
        upstream: Some("http://localhost:9000".into()),
        async_routes: routes.iter().map(|&route| route.into()).collect(),
        ..Overrides::default()
    };
    let load = |text: &str, routes: &[&str]| {
        super::super::read("test.toml", text, std::iter::empty(), flags(routes))
    };
    let routes = load("", &["POST /a", "* /b"]).unwrap().config.routes;
    let names: Vec<_> = routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["post-a", "any-b"]);
    assert!(routes.iter().all(|route| !route.implicit && route.mode == Mode::Async));
    let routes = load(&route(""), &["POST /a"]).unwrap().config.routes;
    assert_eq!((routes.len(), routes[1].name.as_str()), (2, "post-a"));
    let says = lines(load(&route(""), &["POST /orders/{x}", "/a"]).unwrap_err());
    assert!(says.contains("--async: routes[1].match: routes[0] matches the same"), "{says}");
    assert!(says.contains("--async: routes[2].match: `/a`: write a method"), "{says}");
}

#[test]
fn what_a_route_matches_cannot_be_left_out() {
    assert!(faults("[[routes]]\nname = \"x\"").contains("routes[0].match: is missing"));
    assert!(faults("[routes]\nname = \"x\"").contains("[[routes]]"));
    assert!(faults("routes = [1]").contains("[[routes]]"));
    assert!(faults("routes = [{}, 1]").contains("routes[1]: expected"));
}

#[test]
fn the_gateways_own_prefix_is_no_route() {
    let says = faults("[[routes]]\nmatch = \"POST /-/x\"");
    assert!(says.contains("routes[0].match") && says.contains("server.prefix"), "{says}");
    assert_eq!(only("[[routes]]\nmatch = \"POST /-x\"").path, "/-x");
}

#[test]
fn names_and_patterns_are_unique() {
    let says = faults(&(route("") + "[[routes]]\nmatch = \"POST /orders/{other}\""));
    assert!(says.contains("test.toml:5: routes[1].match: routes[0] matches"), "{says}");
    let says = faults(&(route("") + "[[routes]]\nmatch = \"POST /orders-id\""));
    assert!(says.contains("routes[1].name: routes[0] is called post-orders-id"), "{says}");
    assert!(faults(&route("name = \"a b\"")).contains("routes[0].name"));
}

#[test]
fn upstreams_and_queues_exist() {
    let says = faults(&route("upstream = \"defualt\"\nqueue = \"urgent\""));
    assert!(
        says.contains("routes[0].upstream: there is no upstream defualt; did you mean default?")
    );
    assert!(says.contains("routes[0].queue: there is no queue urgent; add [queues.urgent]"));
}

#[test]
fn the_upstream_may_be_left_out_where_there_is_one_or_a_default() {
    let a = "[upstreams.a]\nurl = \"http://a:1\"\n";
    let b = "[upstreams.b]\nurl = \"http://b:1\"\n";
    let config = Config::from_toml(&(route("") + a)).unwrap();
    assert_eq!(config.routes[0].upstream, "a");
    assert_eq!(config.fallback_upstream.as_deref(), Some("a"));
    assert_eq!(only(&(route("") + a)).upstream, "default");
    for text in [a.to_owned() + b, route("") + a + b] {
        let says = lines(Config::from_toml(&text).unwrap_err());
        assert!(says.contains("routes[0].upstream: there are several"), "{says}");
        assert!(says.contains("one of a, b"), "{says}");
    }
    let config = Config::from_toml(&(route("upstream = \"b\"") + a + b)).unwrap();
    assert_eq!((config.routes[0].upstream.as_str(), config.fallback_upstream), ("b", None));
    let wrong = route("upstream = \"c\"") + a + b;
    let says = lines(Config::from_toml(&wrong).unwrap_err());
    assert_eq!(says.lines().count(), 1, "{says}");
}

#[test]
fn a_route_allows_what_its_mode_needs() {
    for (mode, allow, good) in [
        ("async", "\"async\"", true),
        ("async", "\"sync\"", false),
        ("sync", "\"sync\"", true),
        ("sync", "\"async\"", false),
        ("hybrid", "\"async\", \"sync\"", true),
        ("hybrid", "\"async\"", false),
        ("hybrid", "\"sync\"", false),
        ("async", "", false),
        ("async", "\"hybrid\"", false),
    ] {
        let text = route(&format!("mode = \"{mode}\"\nallow = [{allow}]"));
        if good {
            assert_eq!(load(&text).unwrap().config.routes.len(), 1);
        } else {
            assert!(faults(&text).contains("routes[0].allow"), "{mode} [{allow}]");
        }
    }
}

#[test]
fn bounds_are_held() {
    for (setting, key) in [
        ("sync_wait = \"46s\"", "sync_wait"),
        ("timeout = \"0s\"", "timeout"),
        ("deadline = \"0s\"", "deadline"),
        ("delay = \"400d\"", "delay"),
        ("retry = { attempts = 0 }", "retry.attempts"),
        ("retry = { min = \"0s\" }", "retry.min"),
        ("retry = { min = \"10m\" }", "retry.max"),
        ("retry = { least = 1 }", "retry.least"),
        ("retry = 3", "retry"),
        ("mode = \"later\"", "mode"),
        ("delivery = \"exactly-once\"", "delivery"),
        ("serial_key = \"path:nothing\"", "serial_key"),
        ("idempotency_key = \"query:a\"", "idempotency_key"),
        ("unique = \"always\"", "unique"),
        ("tags = [\"a,b\"]", "tags"),
        ("erase = [\"a b\"]", "erase"),
        ("callbacks = \"some\"", "callbacks"),
        ("callbacks = [\"any\"]", "callbacks"),
        ("callbacks = [\"https://*/hooks\"]", "callbacks"),
    ] {
        let says = faults(&route(setting));
        assert!(
            says.contains(&format!("test.toml:3: routes[0].{key}: ")) || key == "retry.max",
            "{says}"
        );
        assert!(says.contains(&format!("routes[0].{key}: ")), "{says}");
    }
}

#[test]
fn a_failure_lets_the_next_of_a_serial_key_go_or_blocks_it() {
    assert_eq!(only(&route("")).serial_on_failure, OnFailure::Skip);
    let block = only(&route("serial_key = \"path:id\"\nserial_on_failure = \"block\""));
    assert_eq!(block.serial_on_failure, OnFailure::Block);
    let told = faults(&route("serial_on_failure = \"wait\""));
    assert!(told.contains("skip") && told.contains("block"), "{told}");
}

#[test]
fn a_recheck_is_a_get_that_tells_operations_apart() {
    let good = only(&route("recheck = \"GET /a?ref={idempotency_key}\""));
    assert_eq!(good.recheck.unwrap().to_string(), "GET /a?ref={idempotency_key}");
    for (template, says) in [
        ("GET /a?ref={key}", "no placeholder {key}"),
        ("GET /a", "alike"),
        ("GET /a/../{operation_id}", "`..`"),
    ] {
        let told = faults(&route(&format!("recheck = {template:?}")));
        assert!(told.contains("routes[0].recheck") && told.contains(says), "{told}");
    }
}

#[test]
fn which_statuses_succeed_and_which_are_tried_again_is_a_list_of_those_that_can() {
    assert_eq!(only(&route("")).success, None);
    let told = only(&route("success = [303, 201]\nretry = { statuses = [500, 418] }"));
    assert_eq!(told.success.unwrap().to_string(), "201,303");
    assert_eq!(told.retry.statuses.unwrap().to_string(), "418,500");
    let none = only(&route("retry = { statuses = [] }"));
    assert_eq!(none.retry.statuses.unwrap().to_string(), "");
    for (lines, key, says) in [
        ("success = []", "success", "nothing would ever succeed"),
        ("success = [301]", "success", "302 and 303 can"),
        ("success = [100]", "success", "from 200 to 599"),
        ("retry = { statuses = [302] }", "retry.statuses", "from 400 to 599"),
    ] {
        let told = faults(&route(lines));
        assert!(told.contains(&format!("routes[0].{key}")) && told.contains(says), "{told}");
    }
}
