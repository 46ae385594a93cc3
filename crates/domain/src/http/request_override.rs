//! Request overrides: fields and parameters by which an upstream may read another method or path.
//!
//! Owns the override fields and parameters of known frameworks, and the methods that some servers
//! uppercase. The invariant: no known server has an override that is not listed here. It must not know
//! which requests are routed.

use std::borrow::Cow;

use ::http::Method;
use ::http::header::{HeaderMap, HeaderName, HeaderValue};

use super::grammar::{text, trim};
use super::hygiene::reads_as;

/// Fields that replace the method of a request.
const METHOD_FIELDS: [&str; 3] = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"];

/// Fields that replace its path.
const PATH_FIELDS: [&str; 2] = ["X-Original-URL", "X-Rewrite-URL"];

/// Parameters of a query or a body that replace the method, in any case. Most frameworks read
/// `_method` on a POST; `WordPress` reads it on every method. ASP.NET MVC reads its field as a
/// parameter too, Plack and Catalyst have a name of their own, and so has Salesforce.
const METHOD_PARAMETERS: [&str; 6] = [
    "_method",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Tunneled-Method",
    "_HttpMethod",
];

/// The part of a head that holds an override.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverridePart {
    /// The request line, with a method that is not in capitals.
    Line,
    /// A field.
    Field(&'static str),
    /// A parameter of the query.
    Parameter(&'static str),
    /// A parameter of the body.
    Body(&'static str),
}

/// An override: another request that a server may read in this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestOverride<T> {
    /// What says so.
    pub by: OverridePart,
    /// The method or the path that is said.
    pub says: T,
}

/// The methods that a request could be read with beside its own, of those that `is_routed`
/// names; each once, so that there are no more than routes have.
pub fn methods(
    own: &Method,
    query: Option<&str>,
    headers: &HeaderMap,
    is_routed: impl Fn(&Method) -> bool,
) -> Vec<RequestOverride<Method>> {
    let mut found: Vec<RequestOverride<Method>> = Vec::new();
    let mut note_one = |by, name: &str| {
        let Ok(says) = Method::from_bytes(name.to_ascii_uppercase().as_bytes()) else { return };
        let is_new =
            |found: &Vec<RequestOverride<Method>>| found.iter().all(|one| one.says != says);
        if says != *own && is_routed(&says) && is_new(&found) {
            found.push(RequestOverride { by, says });
        }
    };
    // Of a list some servers take the first member, others the last.
    let mut note = |by, names: &str| members(names).for_each(|name| note_one(by, name));
    note(OverridePart::Line, own.as_str());
    for (by, value) in lines(headers, &METHOD_FIELDS) {
        note(by, &text(value));
    }
    for (name, value) in pairs(query.unwrap_or_default().as_bytes()) {
        if let Some(known) = method_parameter(&name) {
            note(OverridePart::Parameter(known), &value);
        }
    }
    found
}

/// The methods that one value names.
pub fn members(names: &str) -> impl Iterator<Item = &str> {
    names.split(',').map(trim)
}

/// The parameters of a query or a form. Some servers take a semicolon for a separator, too.
pub fn pairs(form: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form.split(|octet| matches!(octet, b'&' | b';')).flat_map(form_urlencoded::parse)
}

/// The parameter that replaces the method for which some framework takes one of this name.
///
/// PHP takes no blanks before a name, ends it at a null octet, and puts `_` for a dot, a bracket
/// or a blank. Rack 2 takes no brackets before a name. For both, brackets behind a name say that
/// the value is a member of a list.
pub fn method_parameter(name: &str) -> Option<&'static str> {
    let name = name.split('\0').next().unwrap_or_default().trim_start();
    let of_php = name.replacen(['.', '['], "_", 1);
    let of_rack = name.trim_start_matches(['[', ']']);
    let readings =
        [&*of_php, of_rack].map(|name| name.split(['[', ']']).next().unwrap_or_default());
    let is_read_as = |known: &str| readings.iter().any(|name| name.eq_ignore_ascii_case(known));
    METHOD_PARAMETERS.into_iter().find(|known| is_read_as(known))
}

/// The paths that a request could be read with beside its own, without their queries.
pub fn paths(headers: &HeaderMap) -> impl Iterator<Item = String> {
    lines(headers, &PATH_FIELDS).map(|(_, value)| path(&text(value)))
}

/// Removes the fields that name another path.
pub fn remove_paths(headers: &mut HeaderMap) {
    let is_path = |name: &HeaderName| {
        PATH_FIELDS.iter().any(|known| reads_as(name.as_str().as_bytes(), known))
    };
    let found: Vec<HeaderName> = headers.keys().filter(|name| is_path(name)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// The path of a target or a URL.
fn path(target: &str) -> String {
    let end = target.find(['?', '#']).unwrap_or(target.len());
    let start = match target[..end].find("://") {
        Some(scheme) => target[scheme + 3..end].find('/').map_or(end, |at| scheme + 3 + at),
        None => 0,
    };
    let path = trim(&target[start..end]);
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{slash}{path}")
}

/// The lines of fields in any spelling that some server takes for one of `names`.
fn lines<'h>(
    headers: &'h HeaderMap,
    names: &'static [&'static str],
) -> impl Iterator<Item = (OverridePart, &'h HeaderValue)> {
    headers.iter().filter_map(|(name, value)| {
        let octets = name.as_str().as_bytes();
        let known = names.iter().find(|known| reads_as(octets, known))?;
        Some((OverridePart::Field(known), value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        fields.iter().map(pair).collect()
    }

    fn read_as(own: &str, query: &str, fields: &[(&'static str, &str)]) -> Vec<String> {
        let own = Method::from_bytes(own.as_bytes()).unwrap();
        let is_routed = |method: &Method| [Method::POST, Method::DELETE].contains(method);
        let found = methods(&own, Some(query), &map(fields), is_routed);
        found.into_iter().map(|one| one.says.to_string()).collect()
    }

    #[test]
    fn every_way_to_name_another_method_is_seen_in_every_spelling() {
        let override_field = "x-http-method-override";
        for (own, query, fields) in [
            ("delete", "", vec![]),
            ("POST", "", vec![(override_field, "DELETE")]),
            ("POST", "", vec![(override_field, " delete ")]),
            ("GET", "", vec![("x_http_method", "Delete")]),
            ("PATCH", "", vec![("x-method-override", "DELETE")]),
            ("POST", "a=b&_method=delete", vec![]),
            ("GET", "_METHOD=delete", vec![]),
            ("POST", ".method=delete", vec![]),
            ("POST", "+%5Bmethod=delete", vec![]),
            ("POST", "%5Fmethod=delete&_method=delete", vec![(override_field, "DELETE")]),
            ("POST", "_method[]=DELETE", vec![]),
            ("POST", "%5Fmethod%5B0%5D=DELETE", vec![]),
            ("POST", "_method[=DELETE", vec![]),
            ("POST", "[_method]=DELETE", vec![]),
            ("POST", ".method[a][]=DELETE", vec![]),
            ("POST", "a=1;_method=%44ELETE", vec![]),
            ("POST", "a=1&+_method=+delete+", vec![]),
            ("POST", "_method=PUT,DELETE", vec![]),
            ("POST", "x-http-method-override=DELETE", vec![]),
            ("POST", "X-Tunneled-Method=DELETE", vec![]),
            ("POST", "_HttpMethod=DELETE", vec![]),
            ("PATCH", "", vec![("x-http-method", "GET, DELETE")]),
            ("PATCH", "", vec![("x-http-method", "delete ,PUT")]),
            ("PATCH", "", vec![("x_method_override", "PUT"), ("x-method-override", ",DELETE")]),
        ] {
            assert_eq!(read_as(own, query, &fields), ["DELETE"], "{own} {query} {fields:?}");
        }
    }

    #[test]
    fn what_no_route_takes_and_what_is_no_method_is_no_disguise() {
        for (own, query, field) in
            [("POST", "", "POST"), ("POST", "_method=put", "PUT"), ("GET", "method=post", "P(ST")]
                .into_iter()
                .chain([
                    ("POST", "payment_method[]=DELETE", ""),
                    ("POST", "a[_method]=DELETE", "PUT, PATCH"),
                    ("POST", "http_method=DELETE;methods=DELETE", "DELETED"),
                ])
        {
            let fields = [("x-http-method-override", field)];
            assert!(read_as(own, query, &fields).is_empty(), "{own} {query} {field}");
        }
    }

    #[test]
    fn many_lines_come_to_no_more_than_there_are_routed_methods() {
        let query = (0..5000).map(|n| format!("_method=M{n}&_method=POST&")).collect::<Vec<_>>();
        assert_eq!(read_as("POST", &query.concat().replace("=POST", "=DELETE"), &[]), ["DELETE"]);
    }

    #[test]
    fn the_path_of_a_target_or_a_url_is_read() {
        for (says, path) in [
            ("/orders", "/orders"),
            ("/orders?a=/b", "/orders"),
            ("orders", "/orders"),
            ("http://a.example/orders?x", "/orders"),
            ("https://a.example", "/"),
            (" /orders#x", "/orders"),
        ] {
            let headers = map(&[("x-original-url", says)]);
            assert_eq!(paths(&headers).next().unwrap(), path, "{says}");
            let mut headers = map(&[("x_rewrite_url", says), ("x-original-url", says), ("a", "b")]);
            assert_eq!(paths(&headers).count(), 2);
            remove_paths(&mut headers);
            assert_eq!(headers, map(&[("a", "b")]));
        }
    }
}
