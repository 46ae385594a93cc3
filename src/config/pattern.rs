//! The `match` setting of a route: `POST /orders/{id}`.
//!
//! Owns the shape of such a pattern. Its invariant: it can match some request, that is,
//! nothing in it is refused or rewritten before routing, and what matches requests takes it.

use super::{raw_value::RawValue, setting::Setting};
use cloakroom_domain::http::pattern::{self, PatternError};
use cloakroom_domain::http::route_table::RoutePattern;

/// A method and a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RouteMatch {
    /// In capitals, or `*` for any.
    pub(super) method: String,
    pub(super) path: String,
}

const EXAMPLE: &str = "write a method and a path, like \"POST /orders\", \"* /jobs/{id}\" or \
                       \"POST /files/{*rest}\"";

impl Setting for RouteMatch {
    fn read(given: &RawValue) -> Result<Self, String> {
        let text = given.text()?;
        let (method, path) = text.split_once(' ').ok_or_else(|| format!("`{text}`: {EXAMPLE}"))?;
        let path = path.trim_start();
        check_method(method)?;
        check_path(path).map_err(|says| format!("`{text}`: {says}; {EXAMPLE}"))?;
        // What matches requests has the last word.
        let pattern = format!("{method} {path}");
        RoutePattern::parse(&pattern).map_err(|why| format!("`{text}`: {why}; {EXAMPLE}"))?;
        Ok(Self { method: method.to_owned(), path: path.to_owned() })
    }

    fn show(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl RouteMatch {
    /// The names between braces, in their order, without a `*`.
    pub(super) fn parameters(&self) -> Vec<&str> {
        self.path.split('/').filter_map(parameter).collect()
    }

    /// A name made of the words of the pattern: `post-orders-id`.
    pub(super) fn name(&self) -> String {
        let method = if self.method == "*" { "any" } else { &self.method };
        let words = self.path.split(|c: char| !c.is_ascii_alphanumeric());
        let words = words.filter(|word| !word.is_empty());
        let mut name = std::iter::once(method).chain(words).collect::<Vec<_>>().join("-");
        name.make_ascii_lowercase();
        name.truncate(64);
        name
    }

    /// The pattern without the names of its parameters: equal ones match the same requests.
    pub(super) fn shape(&self) -> String {
        let blank = |segment| match parameter(segment) {
            Some(_) if segment.starts_with("{*") => "{*}",
            Some(_) => "{}",
            None => segment,
        };
        let path: Vec<_> = self.path.split('/').map(blank).collect();
        format!("{} {}", self.method, path.join("/"))
    }

    /// Whether everything it matches lies at or under this path.
    pub(super) fn is_under(&self, prefix: &str) -> bool {
        let rest = self.path.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The methods that routes take as a rule.
const USUAL: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Words of other routers for every method.
const EVERY: [&str; 3] = ["ANY", "ALL", "_"];

const fn is_of_a_method(c: char) -> bool {
    c.is_ascii_uppercase() || c == '-'
}

fn check_method(method: &str) -> Result<(), String> {
    if EVERY.iter().any(|every| method.eq_ignore_ascii_case(every)) {
        return Err(format!("`{method}` is no method; write `*` for every method; {EXAMPLE}"));
    }
    if method.contains([',', '|', '+']) {
        return Err(format!(
            "`{method}` is more than one method; write a route for each, or `*` for every method; \
             {EXAMPLE}"
        ));
    }
    let known = method == "*" || method.chars().all(is_of_a_method);
    if method.is_empty() || !known {
        let capitals = method.to_ascii_uppercase();
        let has_letters = !capitals.is_empty() && capitals.chars().all(is_of_a_method);
        return Err(if has_letters {
            format!("`{method}` is not a method in capitals, like {capitals}; {EXAMPLE}")
        } else {
            format!("`{method}` is no method: those have the letters A to Z and -; {EXAMPLE}")
        });
    }
    if ["CONNECT", "TRACE", "TRACK"].contains(&method) {
        return Err(format!("{method} is never passed on; name another method"));
    }
    // Services have methods of their own, so only what is a slip of one letter is refused.
    let slip = |usual: &&&str| method.len() > 3 && strsim::damerau_levenshtein(method, usual) == 1;
    match USUAL.iter().find(slip) {
        Some(usual) => Err(format!("`{method}` is no method of HTTP; did you mean {usual}?")),
        None => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), String> {
    let segments = path.strip_prefix('/').ok_or("the path begins with `/`")?;
    if let Err(why @ PatternError::OtherSyntax(_)) = pattern::PathPattern::parse(path) {
        return Err(why.to_string());
    }
    let last = segments.split('/').count() - 1;
    let mut names = Vec::new();
    for (index, segment) in segments.split('/').enumerate() {
        if let Some(name) = parameter(segment) {
            let rest = segment.starts_with("{*");
            check_parameter(name, rest && index != last)?;
            if names.contains(&name) {
                return Err(format!("{{{name}}} stands twice"));
            }
            names.push(name);
        } else if segment.is_empty() && index != last {
            return Err("`//` is refused before routing".to_owned());
        } else {
            check_literal(segment)?;
        }
    }
    Ok(())
}

/// The name inside a segment that is nothing but `{name}` or `{*name}`.
fn parameter(segment: &str) -> Option<&str> {
    let inner = segment.strip_prefix('{')?.strip_suffix('}')?;
    Some(inner.strip_prefix('*').unwrap_or(inner))
}

fn check_parameter(name: &str, rest_too_early: bool) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(fits) {
        return Err(format!("a name in braces has letters, digits and `_`, not `{name}`"));
    }
    if rest_too_early {
        return Err(format!("{{*{name}}} stands for all the rest, so it comes last"));
    }
    Ok(())
}

fn check_literal(segment: &str) -> Result<(), String> {
    if matches!(segment, "." | "..") {
        return Err("`.` and `..` are refused before routing".to_owned());
    }
    if segment.contains(['{', '}']) {
        return Err("a {name} stands for a whole segment".to_owned());
    }
    let mut rest = segment.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => check_escape(rest.as_str()).map(|()| rest.nth(1))?,
            _ if c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(c) => None,
            _ => return Err(format!("`{c}` cannot stand in a path; percent-encode it")),
        };
    }
    Ok(())
}

/// Checks what stands behind a `%`: paths are matched with unreserved octets decoded.
fn check_escape(rest: &str) -> Result<(), String> {
    let digits = rest.get(..2).filter(|two| two.chars().all(|c| c.is_ascii_hexdigit()));
    let octet = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
    match octet {
        None => Err("two hexadecimal digits follow a `%`".to_owned()),
        Some(0 | b'/' | b'\\') => Err("%00, %2F and %5C are refused before routing".to_owned()),
        Some(o) if o.is_ascii_alphanumeric() || b"-._~".contains(&o) => {
            Err(format!("write `{}` instead of its percent-encoding", char::from(o)))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RouteMatch, String> {
        RouteMatch::read(&RawValue::Text(text.into()))
    }

    #[test]
    fn a_pattern_is_a_method_and_a_path() {
        for good in ["POST /orders", "* /", "PUT /a/{id}/b/", "POST /{*rest}", "M-SEARCH /%C3%A9"] {
            assert_eq!(read(good).unwrap().show(), good);
        }
        assert_eq!(read("POST   /orders").unwrap().path, "/orders");
    }

    #[test]
    fn what_no_request_can_match_is_refused() {
        for bad in [
            "",
            "POST",
            "/orders",
            "POST orders",
            "post /orders",
            " /orders",
            "CONNECT /x",
            "POST /a//b",
            "POST /a/../b",
            "POST /a?b",
            "POST /a#b",
            "POST /a b",
            "POST /a\\b",
            "POST /a%2Fb",
            "POST /a%5cb",
            "POST /%00",
            "POST /%41",
            "POST /%4",
            "POST /%zz",
            "POST /é",
            "POST /{}",
            "POST /{a-b}",
            "POST /{a}.json",
            "POST /{a",
            "POST /{*rest}/x",
            "POST /{a}/{a}",
            "POST /orders/*",
            "POST /*rest",
            "POST /orders/:id",
            "POST /x-*",
            "POST /orders/(.*)",
            "POST /orders/{id:[0-9]+}",
            "TRACE /x",
            "TRACK /x",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        for (bad, advice) in [
            ("POST /x-*", "{*rest}"),
            ("POST /orders/<id>", "{name}"),
            ("POST /orders/[id]", "{name}"),
            ("ANY /orders", "`*`"),
            ("any /orders", "`*`"),
            ("ALL /orders", "`*`"),
            ("GET,POST /orders", "a route for each"),
            ("GET|POST /orders", "a route for each"),
            ("PSOT /orders", "POST"),
            ("POSTS /orders", "POST"),
            ("DELTE /orders", "DELETE"),
        ] {
            assert!(read(bad).unwrap_err().contains(advice), "{bad}: {:?}", read(bad));
        }
        for own in ["LIST /secrets", "PURGE /x", "QUERY /x", "PUSH /x", "SET /x", "COPY /x"] {
            assert!(read(own).is_ok(), "{own}: {:?}", read(own));
        }
        assert!(read("post /orders").unwrap_err().contains("like POST"));
        for bad in ["P@ST /orders", "GET: /orders", "PÖST /orders", "GET2 /orders"] {
            let says = read(bad).unwrap_err();
            assert!(says.contains("A to Z") && !says.contains("like P"), "{says}");
        }
        assert!(read("POST /orders/*").unwrap_err().contains("{*rest}"));
    }

    #[test]
    fn a_name_is_made_of_the_words_of_the_pattern() {
        for (text, name) in [
            ("POST /orders", "post-orders"),
            ("* /a/{id}/b_c", "any-a-id-b-c"),
            ("POST /", "post"),
            ("POST /Files/{*rest}", "post-files-rest"),
        ] {
            assert_eq!(read(text).unwrap().name(), name);
        }
    }

    #[test]
    fn names_of_parameters_make_no_difference_to_what_matches() {
        assert_eq!(read("POST /{a}/x").unwrap().shape(), read("POST /{b}/x").unwrap().shape());
        assert_ne!(read("POST /{a}").unwrap().shape(), read("POST /{*a}").unwrap().shape());
        assert_ne!(read("POST /a").unwrap().shape(), read("PUT /a").unwrap().shape());
    }

    #[test]
    fn parameters_are_named_without_their_star() {
        assert_eq!(read("POST /{a}/x/{*b}").unwrap().parameters(), ["a", "b"]);
    }
}
