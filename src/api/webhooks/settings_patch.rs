//! The settings of a subscription, as a request body sets or changes them.
//!
//! Owns what each member may be. The same reading serves making and changing: what is not
//! said stays as it was, null is what it is unless set.

use http::HeaderMap;
use serde_json::{Value, json};

use super::context::WebhookContext;
use crate::api::Problem;
use crate::api::json_object::{JsonObject, MemberValue};
use crate::api::openapi::Refusal;
use cloakroom_domain::Principal;
use cloakroom_domain::http::operation_headers::MOST_TAGS;
use cloakroom_domain::webhooks::{Topic, Topics, extra_fields};
use cloakroom_ledger::Format;

/// The members that are read here.
pub(super) const KNOWN: [&str; 7] =
    ["url", "events", "routes", "tags", "headers", "description", "format"];

/// The most routes that one subscription names.
const MOST_ROUTES: usize = 100;
/// The longest description, in characters.
const LONGEST_DESCRIPTION: usize = 500;

/// The settings of a subscription.
#[derive(Clone, Debug)]
pub(super) struct SettingsPatch {
    pub(super) url: String,
    pub(super) topics: Topics,
    pub(super) routes: Vec<String>,
    pub(super) tags: Vec<String>,
    pub(super) headers: HeaderMap,
    pub(super) description: Option<String>,
    pub(super) format: Format,
}

impl Default for SettingsPatch {
    fn default() -> Self {
        Self {
            url: String::new(),
            topics: Topics::default(),
            routes: Vec::new(),
            tags: Vec::new(),
            headers: HeaderMap::new(),
            description: None,
            format: Format::Standard,
        }
    }
}

impl SettingsPatch {
    /// Merges the members of a request body for a principal. A new URL is checked with the
    /// addresses of its host.
    pub(super) async fn merge(
        &mut self,
        members: &mut JsonObject,
        context: &WebhookContext,
        whose: &Principal,
    ) -> Result<(), Problem> {
        match members.texts("events")? {
            MemberValue::Absent => {}
            said => self.topics = topics(said.present().unwrap_or_default())?,
        }
        match members.texts("routes")? {
            MemberValue::Absent => {}
            said => self.routes = routes(said.present().unwrap_or_default(), context)?,
        }
        match members.texts("tags")? {
            MemberValue::Absent => {}
            said => self.tags = tags(said.present().unwrap_or_default())?,
        }
        match members.any("headers") {
            MemberValue::Absent => {}
            MemberValue::Null => self.headers.clear(),
            MemberValue::Present(changes) => self.headers = headers(&self.headers, &changes)?,
        }
        match members.text("description")? {
            MemberValue::Absent => {}
            said => self.description = said.present().map(description).transpose()?,
        }
        match members.text("format")? {
            MemberValue::Absent => {}
            said => self.format = format(said.present())?,
        }
        // The last, because it takes longest.
        match members.text("url")? {
            MemberValue::Absent => {}
            said => self.url = judged(said.present(), context, whose).await?,
        }
        self.complete()
    }

    fn complete(&self) -> Result<(), Problem> {
        if self.url.is_empty() {
            return Err(wrong("url", "say where messages are to go"));
        }
        if self.topics.is_empty() {
            let detail = format!("name what to be told of: {}", all_topics());
            return Err(wrong("events", detail));
        }
        Ok(())
    }
}

fn wrong(member: &str, detail: impl Into<String>) -> Problem {
    Problem::malformed_body(Some(member), detail)
}

async fn judged(
    url: Option<String>,
    context: &WebhookContext,
    whose: &Principal,
) -> Result<String, Problem> {
    let Some(url) = url else { return Ok(String::new()) };
    let judged = context.settings().probe.judge(&url, whose).await;
    let destination = judged.map_err(|why| why.told("url", context))?;
    Ok(destination.as_str().to_owned())
}

fn all_topics() -> String {
    Topic::ALL.map(Topic::as_str).join(", ")
}

/// Events that can be subscribed to, by their names.
fn topics(names: Vec<String>) -> Result<Topics, Problem> {
    let topic = |name: String| {
        let found = Topic::ALL.into_iter().find(|topic| topic.as_str() == name);
        found.ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            wrong("events", format!("{shown:?} is no event; there are {}", all_topics()))
        })
    };
    names.into_iter().map(topic).collect()
}

fn routes(names: Vec<String>, context: &WebhookContext) -> Result<Vec<String>, Problem> {
    if names.len() > MOST_ROUTES {
        return Err(wrong("routes", format!("name at most {MOST_ROUTES} routes")));
    }
    let known = &context.request.api.settings.foreign_location;
    if let Some(name) = names.iter().find(|name| !known.contains_key(*name)) {
        let shown: String = name.chars().take(64).collect();
        return Err(wrong("routes", format!("no route is called {shown:?}")));
    }
    Ok(once(names))
}

fn tags(tags: Vec<String>) -> Result<Vec<String>, Problem> {
    if tags.len() > MOST_TAGS || !tags.iter().all(|tag| is_tag(tag)) {
        let detail = "name up to 16 tags of 1 to 256 visible ASCII characters without commas";
        return Err(wrong("tags", detail));
    }
    Ok(once(tags))
}

/// As routes and requests may have them.
fn is_tag(tag: &str) -> bool {
    let plain = |octet: u8| octet.is_ascii_graphic() && octet != b',';
    (1..=256).contains(&tag.len()) && tag.bytes().all(plain)
}

fn once(mut texts: Vec<String>) -> Vec<String> {
    let mut seen = Vec::new();
    texts.retain(|text| {
        let new = !seen.contains(text);
        seen.push(text.clone());
        new
    });
    texts
}

/// The headers that there were, with those changed, added and (null) taken out that are
/// named.
fn headers(former: &HeaderMap, changes: &Value) -> Result<HeaderMap, Problem> {
    let Value::Object(changes) = changes else {
        return Err(wrong("headers", "headers has to be an object of names and values"));
    };
    let mut kept = former.clone();
    for name in changes.keys() {
        kept.remove(name);
    }
    let mut pairs = Vec::new();
    for (name, value) in &kept {
        pairs.push((name.as_str(), value.to_str().unwrap_or_default()));
    }
    for (name, value) in changes {
        match value {
            Value::Null => {}
            Value::String(value) => pairs.push((name, value)),
            _ => {
                let shown: String = name.chars().take(64).collect();
                return Err(wrong("headers", format!("the value of {shown:?} has to be a text")));
            }
        }
    }
    extra_fields::check(pairs).map_err(|bad| wrong("headers", bad.to_string()))
}

fn description(text: String) -> Result<String, Problem> {
    if text.chars().count() > LONGEST_DESCRIPTION || text.contains(char::is_control) {
        let detail = format!("at most {LONGEST_DESCRIPTION} characters on one line");
        return Err(wrong("description", detail));
    }
    Ok(text)
}

fn format(name: Option<String>) -> Result<Format, Problem> {
    let Some(name) = name else { return Ok(Format::Standard) };
    Format::named(&name).ok_or_else(|| wrong("format", "format is standard or cloudevents"))
}

/// The settings, as a schema.
pub(super) fn schema() -> Value {
    let events: Vec<_> = Topic::ALL.map(Topic::as_str).to_vec();
    json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "url": {
                "type": "string", "format": "uri", "maxLength": 2048,
                "pattern": "^https?://[^/?#@]",
                "description": "Where messages go: https, without userinfo, to a public address.",
            },
            "events": {
                "type": "array", "minItems": 1, "items": { "type": "string", "enum": events },
            },
            "routes": {
                "type": ["array", "null"], "maxItems": MOST_ROUTES, "items": { "type": "string" },
                "description": "Only of these routes.",
            },
            "tags": {
                "type": ["array", "null"], "maxItems": MOST_TAGS,
                "items": { "type": "string", "pattern": "^[!-+\\--~]{1,256}$" },
                "description": "Only with one of these tags.",
            },
            "headers": {
                "type": ["object", "null"], "maxProperties": 10,
                "propertyNames": { "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" },
                "additionalProperties": {
                    "type": ["string", "null"], "maxLength": 4096, "pattern": "^[ -~]*$",
                },
                "description": "Up to 10 header fields that every delivery gets. Not webhook-*, \
                                content-*, host, or what belongs to the connection. A change \
                                merges them by name; null takes one out.",
            },
            "description": {
                "type": ["string", "null"], "maxLength": LONGEST_DESCRIPTION,
                "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
            },
            "format": {
                "type": ["string", "null"], "enum": ["standard", "cloudevents", null],
            },
        },
    })
}

/// How a request is refused while the host of its URL cannot be judged.
pub(super) const UNJUDGED: Refusal = (
    503,
    "The name of the URL's host was not looked up in time; or the ledger cannot be reached, or the \
     gateway is stopping.",
);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_known_by_its_name_and_a_ping_is_none_to_subscribe_to() {
        let read = |names: &[&str]| topics(names.iter().map(|name| (*name).to_owned()).collect());
        assert!(read(&["operation.succeeded", "webhook.disabled"]).unwrap().has(Topic::Disabled));
        for name in ["operation.exploded", "webhook.ping", "", "*"] {
            assert_eq!(read(&[name]).unwrap_err().status(), 400, "{name}");
        }
    }

    #[test]
    fn headers_are_merged_by_name() {
        let former = headers(&HeaderMap::new(), &json!({ "X-A": "1", "X-B": "2" })).unwrap();
        let now = headers(&former, &json!({ "x-a": null, "X-B": "3", "X-C": "4" })).unwrap();
        assert_eq!((now.get("x-a"), now.len()), (None, 2));
        assert_eq!(now["x-b"], "3");
        for wrong in [json!([]), json!({ "x": 1 }), json!({ "Host": "x" }), json!({ "a b": "x" })] {
            assert_eq!(headers(&former, &wrong).unwrap_err().status(), 400, "{wrong}");
        }
    }
}
