//! The configured routes, each as a path of its own.
//!
//! A `{*rest}` stands for several segments, and a parameter of this notation for one: so there is
//! a path for each number of segments up to [`DEEPEST`].

use http::Method;
use serde_json::{Value, json};

use super::messages::capitalized;
use super::paths::Paths;
use super::submission::of_route;
use crate::api::router::is_resource;
use crate::config::{Config, RouteConfig};

/// How many segments of a `{*rest}` are described.
const DEEPEST: usize = 4;

/// The methods that the notation has words for, without TRACE, which is never passed on.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::PUT,
    Method::POST,
    Method::DELETE,
    Method::OPTIONS,
    Method::HEAD,
    Method::PATCH,
];

/// Adds the routes of a configuration. Where two take the same requests, the more specific one
/// is described.
pub(super) fn add(config: &Config, paths: &mut Paths) {
    let mut routes: Vec<&RouteConfig> = config.routes.iter().collect();
    routes.sort_by_key(|route| (route.path.contains("{*"), route.method == "*"));
    for route in routes {
        for variant in variants(route) {
            if !is_own(config, &variant.path) {
                describe(route, &variant, paths);
            }
        }
    }
}

/// One form of a route's path.
struct PathVariant {
    path: String,
    /// The number of segments that stand for the `{*rest}`, where there are several.
    depth: Option<usize>,
}

fn variants(route: &RouteConfig) -> Vec<PathVariant> {
    let Some((before, rest)) = route.path.split_once("{*") else {
        return vec![PathVariant { path: route.path.clone(), depth: None }];
    };
    let name = rest.trim_end_matches('}');
    let least = usize::from(!route.implicit);
    let names = |depth: usize| (1..=depth).map(|segment| named(before, name, segment));
    let path = |depth| before.to_owned() + &names(depth).collect::<Vec<_>>().join("/");
    let variant =
        |depth| PathVariant { path: path(depth), depth: Some(depth).filter(|depth| *depth != 1) };
    (least..=DEEPEST).map(variant).collect()
}

/// The parameter for one segment of a `{*rest}`.
fn named(before: &str, name: &str, segment: usize) -> String {
    let mut parameter =
        if segment == 1 { format!("{{{name}}}") } else { format!("{{{name}{segment}}}") };
    while before.contains(&parameter) {
        parameter.insert(parameter.len() - 1, '_');
    }
    parameter
}

/// Whether the gateway answers itself there, though it shares its prefix.
fn is_own(config: &Config, path: &str) -> bool {
    let beneath = path.strip_prefix(&config.server.prefix);
    beneath.is_some_and(|rest| rest.starts_with('/') && is_resource(rest))
}

fn describe(route: &RouteConfig, variant: &PathVariant, paths: &mut Paths) {
    let path = paths.known(&variant.path).unwrap_or(&variant.path).to_owned();
    let taken: Vec<Method> = match &*route.method {
        "*" => METHODS.to_vec(),
        method => METHODS.into_iter().filter(|known| known.as_str() == method).collect(),
    };
    if taken.is_empty() {
        paths.mention(&path, &route.method);
    }
    for method in
        taken.iter().filter(|method| !paths.has(&path, method)).cloned().collect::<Vec<_>>()
    {
        let id = paths.free_id(&id(route, &method, variant.depth));
        let description = of_route(route, &id).at(parameters(&path, variant.depth.is_some()));
        paths.add(&path, &method, &description);
    }
}

/// The method and the words of the route's name, like `postOrders`.
fn id(route: &RouteConfig, method: &Method, depth: Option<usize>) -> String {
    let verb = method.as_str().to_ascii_lowercase();
    let name = route.name.strip_prefix(&format!("{verb}-"));
    let name = name.or_else(|| route.name.strip_prefix("any-")).unwrap_or(&route.name);
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words = words.map(capitalized).collect::<String>();
    let words = if words.is_empty() { "Root".to_owned() } else { words };
    let depth = depth.map(|depth| format!("AtDepth{depth}")).unwrap_or_default();
    format!("{verb}{words}{depth}")
}

/// The parameters of a path: a segment each.
fn parameters(path: &str, of_several: bool) -> Vec<Value> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let says = if of_several {
        "One segment of the path; other paths here have more or fewer of them."
    } else {
        "One segment of the path."
    };
    // What servers disagree on, and dots that lead elsewhere, are refused.
    let schema = json!({ "type": "string", "pattern": r"^(?!\.{1,2}$)[^/\\\u0000]+$" });
    let parameter = |name: &str| json!({ "name": name, "in": "path", "required": true, "description": says, "schema": schema });
    names.map(parameter).collect()
}

#[cfg(test)]
mod tests;
