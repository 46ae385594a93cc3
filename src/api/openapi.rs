//! The `OpenAPI` 3.1 document of the public interface.
//!
//! Owns the document that `cloakroom openapi` prints and `openapi.json` serves. Schemas
//! come from the types that are answered with; which status each resource has is in
//! [`paths`]. Paths are those under the usual prefix, `/-`.

mod parts;
mod paths;
mod webhooks;

use std::sync::LazyLock;

use serde_json::{Value, json};
use utoipa::OpenApi;

use super::document::{Document, DocumentError, DocumentLinks, DocumentRequest, DocumentVerdict};
use super::events::{EventDocument, Timeline, TimelineLinks};
use super::list::{List, ListLinks};
use super::nodes::{NodeDocument, Nodes};
use super::queues::{BreakerDocument, QueueDocument, QueueList, UpstreamDocument};
use super::reconcile::{FindingDocument, ReconcileReport};
use super::reseal::ResealReport;
use super::serial::{SerialKeyDocument, SerialKeyRelease, SerialKeys, SerialLinks};
use super::tree::{Descendant, DescendantStanding, Tree};
use super::webhooks::document::{
    AttemptDocument, CallbackKeys, DeliveryDocument, DeliveryLinks, DeliveryList, KeyDocument,
    KeyUse, NewSubscriptionDocument, PageLinks, PublicKeyDocument, PublicKeys, RotationDocument,
    SecretDocument, SubscriptionDocument, SubscriptionLinks, SubscriptionList,
};

#[derive(OpenApi)]
#[openapi(components(schemas(
    Document,
    DocumentRequest,
    DocumentError,
    DocumentLinks,
    DocumentVerdict,
    EventDocument,
    Timeline,
    TimelineLinks,
    List,
    ListLinks,
    Nodes,
    NodeDocument,
    Tree,
    Descendant,
    DescendantStanding,
    QueueList,
    QueueDocument,
    UpstreamDocument,
    BreakerDocument,
    SerialKeys,
    SerialKeyDocument,
    SerialLinks,
    SerialKeyRelease,
    ReconcileReport,
    ResealReport,
    FindingDocument,
    SubscriptionDocument,
    SubscriptionLinks,
    SubscriptionList,
    NewSubscriptionDocument,
    SecretDocument,
    KeyDocument,
    KeyUse,
    RotationDocument,
    CallbackKeys,
    PublicKeys,
    PublicKeyDocument,
    PageLinks,
    DeliveryDocument,
    DeliveryLinks,
    DeliveryList,
    AttemptDocument
)))]
struct Schemas;

/// The description as JSON, indented, with a line end behind it.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", described()));
    &TEXT
}

fn described() -> Value {
    // Schemas are made of strings and maps with text keys: they serialize.
    let schemas = serde_json::to_value(Schemas::openapi()).unwrap_or_default();
    let mut components = schemas["components"].clone();
    components["schemas"]["Problem"] = parts::problem_schema();
    components["schemas"]["Progress"] = parts::progress_schema();
    for (name, schema) in webhooks::schemas() {
        components["schemas"][name] = schema;
    }
    components["headers"] = parts::headers();
    components["securitySchemes"] = json!({
        "credential": {
            "type": "http",
            "scheme": "bearer",
            "description": "Needed where auth.principal tells callers apart.",
        },
    });
    let mut paths = paths::all();
    for (path, resource) in webhooks::paths() {
        paths[path] = resource;
    }
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
        "servers": [{ "url": "/" }],
        "security": [{}, { "credential": [] }],
        "paths": paths,
        "webhooks": webhooks::messages(),
        "components": components,
    })
}

#[cfg(test)]
mod tests {
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
    fn every_resource_is_described_with_its_answers() {
        let description: Value = serde_json::from_str(document()).unwrap();
        assert_eq!(description["openapi"], "3.1.0");
        for (path, method) in [
            ("/-/operations", "get"),
            ("/-/operations/{ticket}", "get"),
            ("/-/operations/{ticket}", "head"),
            ("/-/operations/{ticket}", "delete"),
            ("/-/operations/{ticket}/status", "get"),
            ("/-/operations/{ticket}/result", "get"),
            ("/-/operations/{ticket}/events", "get"),
            ("/-/operations/{ticket}/cancel", "post"),
            ("/-/operations/{ticket}/tree", "get"),
            ("/-/operations/{ticket}/progress/{token}", "post"),
            ("/-/operations/{ticket}/retry", "post"),
            ("/-/queues", "get"),
            ("/-/queues/{queue}/pause", "post"),
            ("/-/queues/{queue}/resume", "post"),
            ("/-/operations/{ticket}/verdict", "post"),
            ("/-/reconcile", "post"),
            ("/-/secrets/reseal", "post"),
            ("/-/serial", "get"),
            ("/-/serial/{name}/release", "post"),
            ("/-/webhooks", "get"),
            ("/-/webhooks", "post"),
            ("/-/webhooks/keys", "get"),
            ("/-/webhooks/callback-key", "get"),
            ("/-/webhooks/callback-key", "post"),
            ("/-/webhooks/{id}", "get"),
            ("/-/webhooks/{id}", "patch"),
            ("/-/webhooks/{id}", "delete"),
            ("/-/webhooks/{id}/enable", "post"),
            ("/-/webhooks/{id}/disable", "post"),
            ("/-/webhooks/{id}/rotate", "post"),
            ("/-/webhooks/{id}/ping", "post"),
            ("/-/webhooks/{id}/replay", "post"),
            ("/-/webhooks/{id}/deliveries", "get"),
            ("/-/webhooks/{id}/deliveries/{number}", "get"),
            ("/-/webhooks/{id}/deliveries/{number}/redeliver", "post"),
            ("/-/openapi.json", "get"),
        ] {
            let responses = &description["paths"][path][method]["responses"];
            assert!(responses.as_object().is_some_and(|all| !all.is_empty()), "{method} {path}");
        }
    }
}
