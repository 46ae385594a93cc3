//! The paths of the document: a fold over endpoints and what is said of each.
//!
//! Its invariant: ids are unique, and paths that differ only in the names of their parameters
//! are one path.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Map, Value, json};

use super::description::Description;
use super::response_doc::Schemas;

/// The paths so far, and the schemas that they refer to.
#[derive(Default)]
pub(in crate::api) struct Paths {
    items: Map<String, Value>,
    schemas: Schemas,
    ids: BTreeSet<String>,
}

impl Paths {
    /// Adds an endpoint.
    pub(in crate::api) fn add(&mut self, path: &str, method: &Method, description: &Description) {
        self.put(path, method, description);
        if let Some((method, beside)) = description.beside() {
            self.put(path, &method, &beside);
        }
    }

    fn put(&mut self, path: &str, method: &Method, description: &Description) {
        let (operation, schemas) = description.operation(method);
        self.schemas.extend(schemas);
        self.ids.insert(description.id.clone());
        let item = self.item(path);
        let parameters = description.path_parameters();
        if !parameters.is_empty() && item["parameters"].is_null() {
            item["parameters"] = json!(parameters);
        }
        item[method.as_str().to_ascii_lowercase()] = operation;
    }

    /// Says that an endpoint takes a method for which the notation has no word.
    pub(super) fn mention(&mut self, path: &str, method: &str) {
        let says = format!("{method} is taken too, which this notation cannot describe.");
        let item = self.item(path);
        let before = item["description"].as_str().map(|before| format!("{before} "));
        item["description"] = json!(before.unwrap_or_default() + &says);
    }

    /// The path as it was written first, with the names of its parameters.
    pub(super) fn known(&self, path: &str) -> Option<&str> {
        let shape = shape(path);
        self.items.keys().map(String::as_str).find(|known| self::shape(known) == shape)
    }

    /// Whether the path has that method.
    pub(super) fn has(&self, path: &str, method: &Method) -> bool {
        let method = method.as_str().to_ascii_lowercase();
        self.known(path).is_some_and(|known| self.items[known].get(method).is_some())
    }

    /// The id, with a number behind it where it is taken.
    pub(super) fn free_id(&self, id: &str) -> String {
        let numbered = (2..).map(|number| format!("{id}{number}"));
        let mut all = std::iter::once(id.to_owned()).chain(numbered);
        all.find(|id| !self.ids.contains(id)).unwrap_or_default()
    }

    /// All of them, and the schemas.
    pub(super) fn into_parts(self) -> (Map<String, Value>, Schemas) {
        (self.items, self.schemas)
    }

    fn item(&mut self, path: &str) -> &mut Value {
        self.items.entry(path).or_insert_with(|| json!({}))
    }
}

/// The path without the names of its parameters: equal ones stand for the same requests.
fn shape(path: &str) -> String {
    let blank = |segment: &'_ str| {
        if segment.starts_with('{') { "{}".to_owned() } else { segment.to_owned() }
    };
    path.split('/').map(blank).collect::<Vec<_>>().join("/")
}
