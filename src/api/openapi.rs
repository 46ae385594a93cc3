//! The `OpenAPI` 3.1 document of the public interface.
//!
//! Owns the document that `cloakroom openapi` prints and `openapi.json` serves. It is a fold over
//! the router's rows, each of which brings its description and its schemas. Without a
//! configuration, paths are those under the usual prefix, `/-`, and one path stands for all routes.

mod description;
mod messages;
mod parts;
mod paths;
mod response_doc;
mod routes;
mod submission;
mod tags;

use std::sync::LazyLock;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Map, Value, json};

use super::extract::RequestContext;
use super::{response, router};
use crate::config::{Config, LocationForm, PrincipalRule};

pub(super) use description::{Description, Refusal};
pub(super) use parts::{header, in_path, query, text};
pub(super) use paths::Paths;
pub(super) use response_doc::{PENDING_FIELDS, ResponseDoc};
pub(super) use tags::Tag;

/// The prefix unless it is configured.
const PREFIX: &str = "/-";

/// The description as JSON, indented, with a line end behind it.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", of_any_gateway()));
    &TEXT
}

/// The same of a gateway with this configuration: its routes, its prefix, and how it tells callers
/// apart.
pub fn configured_document(config: &Config) -> String {
    format!("{:#}\n", of_gateway(config))
}

pub(super) async fn show(_visit: RequestContext) -> Response {
    let text = document();
    let mut response = response::empty(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(response::JSON_TYPE));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    *response.body_mut() = Body::from(text);
    response
}

pub(super) fn description() -> Description {
    let shown = json!({ "type": "object" });
    Description::new(Tag::Description, "getDescription", "This interface")
        .replies(200, ResponseDoc::empty("This description.").or(response::JSON_TYPE, shown))
}

fn of_any_gateway() -> Value {
    let says = "A path that a route names, without its first slash. It may have several \
                segments, which this notation cannot say: `cloakroom openapi --config FILE` \
                describes each route of a configuration. Any method that a route names may stand \
                in for POST.";
    // One segment; what servers disagree on, and dots that lead elsewhere, are refused.
    let route = in_path("route", says, r"^(?!\.{1,2}$|-$)[^/\\\u0000]+$");
    let mut paths = Paths::default();
    paths.add("/{route}", &Method::POST, &submission::of_any_route().at([route]));
    router::described(PREFIX, &mut paths);
    router::described_for_operators(PREFIX, &mut paths);
    let credential = json!({
        "type": "http",
        "scheme": "bearer",
        "description": "Needed where auth.principal tells callers apart.",
    });
    whole(paths, "/", &json!([{}, { "credential": [] }]), &json!({ "credential": credential }))
}

fn of_gateway(config: &Config) -> Value {
    let mut paths = Paths::default();
    router::described(&config.server.prefix, &mut paths);
    if config.admin.listen.is_some() {
        router::described_for_operators(&config.server.prefix, &mut paths);
    }
    routes::add(config, &mut paths);
    let server = config.server.public_url.as_ref().map_or("/", url::Url::as_str);
    let server = if server == "/" { server } else { server.trim_end_matches('/') };
    let (security, schemes) = security(&config.auth.principal);
    let mut document = whole(paths, server, &security, &schemes);
    if config.routes.iter().any(|route| route.location == LocationForm::Relative) {
        for field in ["Location", "Content-Location"] {
            let format = &mut document["components"]["headers"][field]["schema"]["format"];
            *format = json!("uri-reference");
        }
    }
    document
}

/// What clients have to bring: the requirements and their schemes.
fn security(rule: &PrincipalRule) -> (Value, Value) {
    match rule {
        PrincipalRule::None => (json!([]), json!({})),
        PrincipalRule::Authorization => {
            let scheme = |name: &str| json!({ "type": "http", "scheme": name });
            (
                json!([{ "bearer": [] }, { "basic": [] }]),
                json!({ "bearer": scheme("bearer"), "basic": scheme("basic") }),
            )
        }
        PrincipalRule::Header(name) => {
            let scheme = json!({
                "type": "apiKey", "in": "header", "name": name.as_str(),
                "description": "The proxy in front of the gateway sets it; what a client sets is \
                                believed only from a trusted proxy.",
            });
            (json!([{ "principal": [] }]), json!({ "principal": scheme }))
        }
    }
}

fn whole(paths: Paths, server: &str, security: &Value, schemes: &Value) -> Value {
    let (paths, mut schemas) = paths.into_parts();
    schemas.extend(messages::schemas());
    let mut components = Map::new();
    components.insert("schemas".to_owned(), json!(schemas));
    components.insert("headers".to_owned(), parts::headers());
    components.insert("securitySchemes".to_owned(), schemes.clone());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "cloakroom",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An HTTP async-request gateway: a request that a route names is \
                            accepted with 202 and a monitor, carried out in the background, and \
                            ends in a 303 to what came of it.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": server }],
        "security": security,
        "tags": tags::all(),
        "paths": paths,
        "webhooks": messages::all(),
        "components": components,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    /// Every object in it that has an operation's id.
    fn operations<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
        match value {
            Value::Object(members) => {
                if members.contains_key("operationId") && members.contains_key("responses") {
                    found.push(value);
                }
                members.values().for_each(|member| operations(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| operations(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let description: Value = serde_json::from_str(document()).unwrap();
        let mut found = Vec::new();
        references(&description, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.trim_start_matches('#');
            assert!(description.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_call_has_a_name_of_its_own_that_is_an_identifier_and_a_tag() {
        let description: Value = serde_json::from_str(document()).unwrap();
        let mut found = Vec::new();
        operations(&description, &mut found);
        let tags: Vec<_> =
            description["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
        let mut ids = BTreeSet::new();
        for operation in &found {
            let id = operation["operationId"].as_str().unwrap();
            assert!(id.starts_with(|c: char| c.is_ascii_lowercase()), "{id}");
            assert!(id.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
            assert!(id.contains(|c: char| c.is_ascii_uppercase()), "{id} is no verb and noun");
            assert!(ids.insert(id), "{id} stands twice");
            assert!(tags.contains(&&operation["tags"][0]), "{id} has no tag");
        }
        assert!(found.len() > 40, "{}", found.len());
    }

    #[test]
    fn links_name_calls_that_there_are() {
        let description: Value = serde_json::from_str(document()).unwrap();
        let mut found = Vec::new();
        operations(&description, &mut found);
        let ids: BTreeSet<_> = found.iter().map(|call| call["operationId"].as_str()).collect();
        let answers = found.iter().flat_map(|call| call["responses"].as_object().unwrap().values());
        let links = answers.filter_map(|answer| answer["links"].as_object());
        let named: Vec<_> =
            links.flat_map(Map::values).map(|link| link["operationId"].as_str()).collect();
        assert!(!named.is_empty());
        assert!(named.iter().all(|id| ids.contains(id)), "{named:?}");
    }

    #[test]
    fn every_parameter_of_a_path_is_described() {
        let description: Value = serde_json::from_str(document()).unwrap();
        for (path, item) in description["paths"].as_object().unwrap() {
            let named =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            let described = item["parameters"].as_array().into_iter().flatten();
            let described: Vec<_> = described.filter_map(|one| one["name"].as_str()).collect();
            assert_eq!(described, named.collect::<Vec<_>>(), "{path}");
        }
    }
}
