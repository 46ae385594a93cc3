//! The description of one endpoint: its answers, refusals, parameters and body.
//!
//! Each handler's file makes the description of its endpoint. The invariant: a description brings
//! every schema that it refers to, so that the document needs no list of schemas.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Map, Value, json};

use super::parts::header;
use super::response_doc::{ResponseDoc, Schemas};
use super::tags::Tag;

/// A status of a refusal, and when it is given.
pub(in crate::api) type Refusal = (u16, &'static str);

/// The refusals that can meet every request: those of the connection, of the caller and of the
/// ledger.
const EVERYWHERE: [Refusal; 10] = [
    (400, "The path, a field or a parameter cannot be used."),
    (401, "A credential is required."),
    (403, "On the admin listener: a page of another site sent it."),
    (408, "The request did not arrive in time."),
    (414, "The target is too long."),
    (415, "On the admin listener: a change is sent as JSON."),
    (421, "On the admin listener: it does not answer to that host."),
    (431, "The header section is too large."),
    (500, "The gateway failed; its log says why."),
    (503, "The ledger cannot be reached, or the gateway is stopping."),
];

/// A list of entity tags, or `*`, as a pattern.
const TAGS: &str = r#"^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$"#;

/// What clients are told of an endpoint.
#[derive(Clone, Debug)]
pub(in crate::api) struct Description {
    pub(super) id: String,
    pub(super) tag: Tag,
    summary: String,
    text: Option<String>,
    head: Option<&'static str>,
    in_path: Vec<Value>,
    parameters: Vec<Value>,
    body: Option<Value>,
    replies: BTreeMap<String, ResponseDoc>,
    callbacks: Map<String, Value>,
    is_open: bool,
    schemas: Schemas,
}

impl Description {
    /// A description with the refusals that every endpoint has. The id is unique: a verb and a
    /// noun, as generated clients name the call.
    pub(in crate::api) fn new(tag: Tag, id: impl Into<String>, summary: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            tag,
            summary: summary.into(),
            text: None,
            head: None,
            in_path: Vec::new(),
            parameters: Vec::new(),
            body: None,
            replies: BTreeMap::new(),
            callbacks: Map::new(),
            is_open: false,
            schemas: Schemas::new(),
        }
        .refuses(&EVERYWHERE)
    }

    /// More about it than the summary.
    pub(in crate::api) fn explained(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// The endpoint answers HEAD too, under this id.
    pub(in crate::api) fn with_head(mut self, id: &'static str) -> Self {
        self.head = Some(id);
        self
    }

    /// An answer with this status.
    pub(in crate::api) fn replies(self, status: u16, reply: ResponseDoc) -> Self {
        self.replies_in(&status.to_string(), reply)
    }

    /// An answer with a status in this range, like `4XX`, or `default`.
    pub(in crate::api) fn replies_in(mut self, statuses: &str, reply: ResponseDoc) -> Self {
        self.replies.insert(statuses.to_owned(), reply);
        self
    }

    /// Problems with these statuses.
    pub(in crate::api) fn refuses(mut self, refusals: &[Refusal]) -> Self {
        for (status, says) in refusals {
            let fields: &[&str] = match status {
                401 => &["WWW-Authenticate"],
                416 => &["Content-Range"],
                503 => &["Retry-After"],
                _ => &[],
            };
            self = self.replies(*status, ResponseDoc::problem(*says).with(fields));
        }
        self
    }

    /// The same with every refusal so far changed.
    pub(in crate::api) fn each_refusal(
        mut self,
        change: impl Fn(ResponseDoc) -> ResponseDoc,
    ) -> Self {
        for (status, reply) in &mut self.replies {
            if status.starts_with(['4', '5']) {
                *reply = change(reply.clone());
            }
        }
        self
    }

    /// The parameters of its path, in order.
    pub(in crate::api) fn at(mut self, parameters: impl IntoIterator<Item = Value>) -> Self {
        self.in_path.extend(parameters);
        self
    }

    /// Parameters of the query or the header section.
    pub(in crate::api) fn asks(mut self, parameters: impl IntoIterator<Item = Value>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// It holds to preconditions (RFC 9110 section 13.1.1).
    pub(in crate::api) fn conditional(self) -> Self {
        let says = "The ETag that the resource has to have, several of them, or *.";
        let tags = json!({ "type": "string", "pattern": TAGS });
        self.asks([header("If-Match", says, tags)])
            .refuses(&[(412, "A precondition does not hold.")])
    }

    /// A JSON body with a schema of that name.
    pub(in crate::api) fn takes(mut self, required: bool, name: &str, schema: Value) -> Self {
        self.schemas.insert(name.to_owned(), schema);
        let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
        self.takes_json(required, schema)
    }

    /// A JSON body with a schema without a name.
    pub(in crate::api) fn takes_json(self, required: bool, schema: Value) -> Self {
        let mut body = if required { json!({ "required": true }) } else { json!({}) };
        body["content"]["application/json"]["schema"] = schema;
        self.takes_body(body)
    }

    /// A body of any kind.
    pub(super) fn takes_body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Requests that the gateway makes because of this one, by name: the expression of their URL,
    /// and the operation that the client's server offers there.
    pub(super) fn calls_back(mut self, name: &str, url: &str, description: &Self) -> Self {
        let (operation, schemas) = description.operation(&Method::POST);
        self.schemas.extend(schemas);
        self.callback(name, json!({ url: { "post": operation } }))
    }

    /// The same, described elsewhere.
    pub(super) fn callback(mut self, name: &str, callback: Value) -> Self {
        self.callbacks.insert(name.to_owned(), callback);
        self
    }

    /// Nothing but the path is needed to be let in.
    pub(in crate::api) fn open(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// The parameters of the path.
    pub(super) fn path_parameters(&self) -> &[Value] {
        &self.in_path
    }

    /// The methods that it answers besides its own, each with what is said of it.
    pub(super) fn beside(&self) -> Option<(Method, Self)> {
        let id = self.head?.to_owned();
        Some((Method::HEAD, Self { id, head: None, ..self.clone() }))
    }

    /// The operation object and the schemas that it refers to.
    pub(super) fn operation(&self, method: &Method) -> (Value, Schemas) {
        let mut schemas = self.schemas.clone();
        let mut operation = json!({
            "operationId": self.id, "tags": [self.tag.name()], "summary": self.summary,
        });
        if let Some(text) = &self.text {
            operation["description"] = json!(text);
        }
        if !self.parameters.is_empty() {
            operation["parameters"] = json!(self.parameters);
        }
        // RFC 9110 gives a body of these no meaning.
        let has_no_body = [Method::GET, Method::HEAD].contains(method);
        if let Some(body) = self.body.as_ref().filter(|_| !has_no_body) {
            operation["requestBody"] = body.clone();
        }
        let mut responses = Map::new();
        for (status, reply) in &self.replies {
            responses.insert(status.clone(), reply.response());
            schemas.extend(reply.schemas().clone());
        }
        operation["responses"] = Value::Object(responses);
        if !self.callbacks.is_empty() {
            operation["callbacks"] = Value::Object(self.callbacks.clone());
        }
        if self.is_open {
            operation["security"] = json!([]);
        }
        (operation, schemas)
    }
}
