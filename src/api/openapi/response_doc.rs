//! The description of one answer: its fields, its content and where it leads.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use super::parts::problem_schema;
use crate::api::Document;
use crate::api::problem::PROBLEM_TYPE;
use crate::api::response::{DOCUMENT_TYPE, JSON_TYPE};

/// Schemas by their names.
pub(in crate::api) type Schemas = BTreeMap<String, Value>;

/// The fields of every answer of the gateway's own.
const OWN_FIELDS: [&str; 3] = ["Gateway-Origin", "Cache-Control", "Referrer-Policy"];

/// The fields of every 202.
pub(in crate::api) const PENDING_FIELDS: [&str; 4] =
    ["Location", "Operation-Location", "Operation-Id", "Retry-After"];

/// Where the links of an answer find the ticket.
#[derive(Clone, Copy, Debug)]
enum TicketIn {
    /// In the request's path.
    Path,
    /// At the end of `Location`. OpenAPI's runtime expressions take whole values only; what
    /// stands behind `#` is a notation of schemathesis, which other readers may not know:
    /// they are told by the description.
    Location,
}

/// What clients are told of an answer.
#[derive(Clone, Debug)]
pub(in crate::api) struct ResponseDoc {
    says: String,
    fields: Vec<&'static str>,
    content: Map<String, Value>,
    ticket: Option<TicketIn>,
    schemas: Schemas,
}

impl ResponseDoc {
    /// An answer of an upstream's: nothing is known of it.
    pub(in crate::api) fn foreign(says: impl Into<String>) -> Self {
        Self {
            says: says.into(),
            fields: Vec::new(),
            content: Map::new(),
            ticket: None,
            schemas: Schemas::new(),
        }
    }

    /// An answer of the gateway's own without content.
    pub(in crate::api) fn empty(says: impl Into<String>) -> Self {
        Self { fields: OWN_FIELDS.to_vec(), ..Self::foreign(says) }
    }

    /// A JSON document of this type.
    pub(in crate::api) fn json<T: ToSchema>(says: impl Into<String>) -> Self {
        Self::empty(says).of::<T>(JSON_TYPE)
    }

    /// An operation document.
    pub(in crate::api) fn document(says: impl Into<String>) -> Self {
        Self::empty(says).of::<Document>(DOCUMENT_TYPE)
    }

    /// A problem (RFC 9457).
    pub(super) fn problem(says: impl Into<String>) -> Self {
        let mut reply = Self::empty(says).or(PROBLEM_TYPE, reference("Problem"));
        reply.schemas.insert("Problem".to_owned(), problem_schema());
        reply
    }

    /// The 202 of a new operation.
    pub(in crate::api) fn accepted(says: impl Into<String>) -> Self {
        let reply = Self::document(says).with(&PENDING_FIELDS);
        reply.with(&["Content-Location", "Preference-Applied"]).linked(TicketIn::Location)
    }

    /// The 202 of an operation that is still pending.
    pub(in crate::api) fn pending(says: impl Into<String>) -> Self {
        Self::document(says).with(&PENDING_FIELDS).with(&["X-Progress"]).linked_by_path()
    }

    /// Links to the other resources of the operation that the path names.
    pub(in crate::api) fn linked_by_path(self) -> Self {
        self.linked(TicketIn::Path)
    }

    /// The same with these fields.
    pub(in crate::api) fn with(mut self, fields: &[&'static str]) -> Self {
        self.fields.extend(fields);
        self
    }

    /// The same without content.
    pub(super) fn without_content(mut self) -> Self {
        self.content.clear();
        self
    }

    /// The same, with content of another type too.
    pub(in crate::api) fn or(mut self, media_type: &str, schema: Value) -> Self {
        let mut content = json!({});
        if !schema.is_null() {
            content["schema"] = schema;
        }
        self.content.insert(media_type.to_owned(), content);
        self
    }

    /// The same, with live events.
    pub(in crate::api) fn or_live_events(self) -> Self {
        self.or("text/event-stream", json!({ "type": "string" }))
    }

    /// The same with content of any type.
    pub(in crate::api) fn or_anything(mut self) -> Self {
        self.content.extend(anything());
        self
    }

    fn of<T: ToSchema>(mut self, media_type: &str) -> Self {
        self.schemas.extend(schemas_of::<T>());
        self.or(media_type, reference(&T::name()))
    }

    fn linked(mut self, ticket: TicketIn) -> Self {
        self.ticket = Some(ticket);
        self
    }

    /// The response object.
    pub(super) fn response(&self) -> Value {
        let mut response = json!({ "description": self.says });
        let named = |field: &&str| {
            let reference = json!({ "$ref": format!("#/components/headers/{field}") });
            ((*field).to_owned(), reference)
        };
        let headers: Map<_, _> = self.fields.iter().map(named).collect();
        if !headers.is_empty() {
            response["headers"] = Value::Object(headers);
        }
        if !self.content.is_empty() {
            response["content"] = Value::Object(self.content.clone());
        }
        if let Some(ticket) = self.ticket {
            response["links"] = links(ticket);
        }
        response
    }

    pub(super) const fn schemas(&self) -> &Schemas {
        &self.schemas
    }
}

/// Content of any type. Generators that do not read `*/*` take one of the types before it. Octets
/// have no schema: a generator that tells bodies apart by their types can then send anything.
pub(super) fn anything() -> Map<String, Value> {
    let any = || json!({ "schema": {} });
    let kinds =
        [("application/json", any()), ("application/octet-stream", json!({})), ("*/*", any())];
    kinds.map(|(kind, content)| (kind.to_owned(), content)).into_iter().collect()
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// The schema of a type, and those that it refers to.
fn schemas_of<T: ToSchema>() -> Schemas {
    let mut schemas = vec![(T::name().into_owned(), <T as PartialSchema>::schema())];
    T::schemas(&mut schemas);
    // Schemas are made of strings and maps with text keys: they serialize.
    let text = |schema| serde_json::to_value(schema).unwrap_or_default();
    schemas.into_iter().map(|(name, schema)| (name, text(schema))).collect()
}

fn links(ticket: TicketIn) -> Value {
    let (expression, says) = match ticket {
        TicketIn::Path => ("$request.path.ticket", "With the same ticket."),
        TicketIn::Location => (
            r"$response.header.Location#regex:/operations/([^/?#]+)$",
            "The ticket is the last segment of Location.",
        ),
    };
    let to = |id: &str| json!({ "operationId": id, "parameters": { "ticket": expression }, "description": says });
    json!({
        "monitor": to("getMonitor"), "status": to("getOperation"), "result": to("getResult"),
        "events": to("listEvents"), "tree": to("getTree"), "cancel": to("cancelOperation"),
        "delete": to("deleteOperation"),
    })
}
