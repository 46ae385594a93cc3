//! Tests of the description of configured routes.

use serde_json::Value;

use super::super::of_gateway;
use crate::config::Config;

const UPSTREAM: &str = "[upstreams.default]\nurl = \"http://localhost:9000\"\n";

fn described(routes: &[&str], more: &str) -> Value {
    let routes = routes.iter().map(|route| format!("[[routes]]\n{route}\n"));
    let text = format!("{more}\n{UPSTREAM}{}", routes.collect::<String>());
    of_gateway(&Config::from_toml(&text).unwrap())
}

/// The ids under the paths that are no resources of the gateway's own.
fn ids(document: &Value) -> Vec<String> {
    let mut ids = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        if path.starts_with("/-/") {
            continue;
        }
        for (method, call) in item.as_object().unwrap() {
            if let Some(id) = call["operationId"].as_str() {
                ids.push(format!("{method} {path} {id}"));
            }
        }
    }
    ids
}

fn statuses(call: &Value) -> Vec<&str> {
    call["responses"].as_object().unwrap().keys().map(String::as_str).collect()
}

fn parameter<'c>(call: &'c Value, name: &str) -> Option<&'c Value> {
    call["parameters"].as_array().unwrap().iter().find(|one| one["name"] == name)
}

#[test]
fn each_route_is_a_path_with_its_method_and_a_name() {
    let document = described(
        &["match = \"POST /orders\"", "match = \"PUT /orders/{id}\"\nname = \"replace\""],
        "",
    );
    assert_eq!(ids(&document), ["post /orders postOrders", "put /orders/{id} putReplace"]);
    let parameters = &document["paths"]["/orders/{id}"]["parameters"];
    assert_eq!((&parameters[0]["name"], &parameters[0]["in"]), (&"id".into(), &"path".into()));
    assert_eq!(document["paths"].get("/{route}"), None);
}

#[test]
fn a_rest_is_described_for_each_number_of_segments() {
    let document = described(&["match = \"POST /files/{*rest}\""], "");
    assert_eq!(
        ids(&document),
        [
            "post /files/{rest} postFilesRest",
            "post /files/{rest}/{rest2} postFilesRestAtDepth2",
            "post /files/{rest}/{rest2}/{rest3} postFilesRestAtDepth3",
            "post /files/{rest}/{rest2}/{rest3}/{rest4} postFilesRestAtDepth4",
        ]
    );
    let every_post = described(&[], "");
    assert_eq!(
        ids(&every_post)[..2],
        ["post / postEveryPostAtDepth0", "post /{rest} postEveryPost"]
    );
}

#[test]
fn the_more_specific_of_two_routes_is_described_and_equal_paths_are_one() {
    let document = described(
        &[
            "match = \"* /jobs/{*rest}\"",
            "match = \"POST /jobs/{id}\"",
            "match = \"GET /jobs/{job}\"",
        ],
        "",
    );
    let ids = ids(&document);
    let at_one: Vec<_> = ids.iter().filter(|id| !id.contains("Depth")).collect();
    assert_eq!(at_one.len(), 7, "{at_one:?}");
    assert!(at_one.iter().all(|id| id.contains(" /jobs/{id} ")), "{at_one:?}");
    assert_eq!(document["paths"]["/jobs/{id}"]["get"]["operationId"], "getJobsJob");
}

#[test]
fn names_that_would_be_the_same_are_numbered() {
    let document = described(
        &["match = \"GET /a\"\nname = \"result\"", "match = \"GET /b\"\nname = \"get-result\""],
        "",
    );
    assert_eq!(ids(&document), ["get /a getResult2", "get /b getResult3"]);
}

#[test]
fn no_id_stands_twice_not_even_in_callbacks() {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                if members.contains_key("responses") {
                    found.push(members["operationId"].as_str().unwrap().to_owned());
                }
                members.values().for_each(|member| collect(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let routes = ["match = \"* /a/{*rest}\"\ncallbacks = \"any\"", "match = \"POST /b\""];
    let mut found = Vec::new();
    collect(&described(&routes, ""), &mut found);
    let all = found.len();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), all);
}

#[test]
fn a_method_without_a_word_is_mentioned() {
    let document = described(&["match = \"PURGE /cache\""], "");
    let says = document["paths"]["/cache"]["description"].as_str().unwrap();
    assert!(says.contains("PURGE"), "{says}");
}

#[test]
fn answers_follow_the_modes_of_the_route() {
    let of = |settings: &str| {
        let document = described(&[&format!("match = \"POST /a\"\n{settings}")], "");
        document["paths"]["/a"]["post"].clone()
    };
    let only_async = of("allow = [\"async\"]");
    assert!(statuses(&only_async).contains(&"202") && statuses(&only_async).contains(&"417"));
    for status in ["200", "424", "502", "504", "default"] {
        assert!(!statuses(&only_async).contains(&status), "{status}");
    }
    let expect = parameter(&only_async, "Operation-Expect").unwrap()["schema"]["pattern"].clone();
    assert!(!expect.as_str().unwrap().contains("200-ok"), "{expect}");
    let only_sync = of("mode = \"sync\"\nallow = [\"sync\"]\nsuccess = [201, 204, 404]");
    assert!(!statuses(&only_sync).contains(&"202"));
    for status in ["201", "204", "417", "424", "default"] {
        assert!(statuses(&only_sync).contains(&status), "{status}");
    }
    assert!(only_sync["responses"]["204"].get("content").is_none());
    let hybrid = of("mode = \"hybrid\"\nsync_wait = \"7s\"");
    assert!(["200", "202", "424"].iter().all(|status| statuses(&hybrid).contains(status)));
    assert!(hybrid["description"].as_str().unwrap().contains("7 s"));
    let minimal = of("accepted = \"minimal\"");
    assert!(minimal["responses"]["202"].get("content").is_none());
}

#[test]
fn what_a_client_may_and_must_add_follows_the_route() {
    let document = described(
        &["match = \"POST /a\"\nidempotency_required = true\nserial_key = \"header:Customer-Id\""],
        "",
    );
    let call = &document["paths"]["/a"]["post"];
    assert_eq!(parameter(call, "Idempotency-Key").unwrap()["required"], true);
    assert!(parameter(call, "customer-id").is_some());
    assert!(parameter(call, "Callback-Url").is_none());
    assert!(call["callbacks"].get("callback").is_none());
    let document = described(&["match = \"POST /a\"\ncallbacks = \"any\""], "");
    let call = &document["paths"]["/a"]["post"];
    assert!(parameter(call, "Callback-Url").is_some());
    assert!(call["callbacks"].get("callback").is_some());
}

#[test]
fn callers_are_told_apart_as_configured() {
    let none = described(&[], "");
    assert_eq!(none["security"], serde_json::json!([]));
    let authorization = described(&[], "[auth]\nprincipal = \"authorization\"");
    assert_eq!(authorization["security"].as_array().unwrap().len(), 2);
    let header = described(
        &[],
        "[auth]\nprincipal = \"header:X-User\"\n[server]\ntrusted_proxies = [\"10.0.0.0/8\"]",
    );
    assert_eq!(header["components"]["securitySchemes"]["principal"]["name"], "x-user");
}

#[test]
fn the_prefix_and_the_public_url_are_those_of_the_configuration() {
    let document = described(
        &[],
        "[server]\nprefix = \"/_async\"\npublic_url = \"https://api.example.com\"\n\
         [admin]\nlisten = \"off\"",
    );
    assert_eq!(document["servers"][0]["url"], "https://api.example.com");
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/_async/operations/{ticket}"));
    assert!(!paths.contains_key("/_async/queues"));
}
