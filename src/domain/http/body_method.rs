//! The method that a request's body names in place of its own.
//!
//! Owns the parameter `_method` in bodies as frameworks read them: forms in both codings, and
//! JSON. Its invariant: a body in which such a parameter could stand unseen is never said to have
//! none. It must not know what is routed.

use ::http::{HeaderMap, header};

use super::disguise::is_method_parameter;
use super::media_type::essence;
use crate::domain::pointer;

/// How a body may be read by a framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Form,
    Multipart,
    Json,
    /// In a way that cannot be followed.
    Unknown,
}

/// What a body says of the method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// Nothing.
    None,
    /// These, as they are written.
    These(Vec<String>),
    /// Perhaps something: it cannot be told.
    Unknown,
}

/// Whether frameworks look into the body of a `POST` with these fields for another method.
pub fn is_looked_into(headers: &HeaderMap) -> bool {
    coding(headers).is_some()
}

/// Whether the body of a `POST` is one that clients send as a whole: its type says what it is.
pub fn has_type(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_TYPE)
}

/// The methods that a whole body names.
pub fn named(headers: &HeaderMap, body: &[u8]) -> Named {
    match coding(headers) {
        None => Named::None,
        Some(Coding::Unknown) => Named::Unknown,
        Some(Coding::Form) => in_form(body),
        Some(Coding::Multipart) => in_multipart(body),
        Some(Coding::Json) => in_json(body),
    }
}

/// Servers read a body as a form where no type is named, too.
fn coding(headers: &HeaderMap) -> Option<Coding> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, more) = (types.next(), types.next());
    let text = first.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let coding = text.as_deref().map_or(Some(Coding::Form), coding_of)?;
    let is_encoded = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"));
    Some(if more.is_some() || is_encoded { Coding::Unknown } else { coding })
}

fn coding_of(text: &str) -> Option<Coding> {
    const PLAIN: [&str; 4] = ["utf-8", "utf8", "us-ascii", "iso-8859-1"];
    let essence = essence(text);
    let coding = match essence.as_str() {
        "application/x-www-form-urlencoded" => Coding::Form,
        multipart if multipart.starts_with("multipart/") => Coding::Multipart,
        json if json.ends_with("/json") || json.ends_with("+json") => Coding::Json,
        // A type that is none counts as none with some servers.
        other if !other.contains('/') => Coding::Unknown,
        _ => return None,
    };
    let lower = text.to_ascii_lowercase();
    let charset = lower.split_once("charset").map(|(_, rest)| {
        let value = rest.split(';').next().unwrap_or_default();
        value.trim_matches(|c: char| c.is_whitespace() || "='\"".contains(c)).to_owned()
    });
    let is_plain = charset.is_none_or(|charset| PLAIN.contains(&charset.as_str()));
    Some(if is_plain { coding } else { Coding::Unknown })
}

fn in_form(body: &[u8]) -> Named {
    // Some servers take a semicolon for a separator, too.
    let pairs = body.split(|octet| matches!(octet, b'&' | b';')).flat_map(form_urlencoded::parse);
    let named = pairs.filter(|(name, _)| is_method_parameter(name));
    these(named.map(|(_, value)| value.into_owned()).collect())
}

fn in_json(body: &[u8]) -> Named {
    match pointer::scalar(body, "/_method") {
        Ok(Some(method)) => these(vec![method]),
        // An array or an object is no method.
        Ok(None) | Err(pointer::Unreadable::NotScalar | pointer::Unreadable::TooLong) => {
            Named::None
        }
        Err(pointer::Unreadable::NotJson) if mentions(body) => Named::Unknown,
        Err(pointer::Unreadable::NotJson) => Named::None,
    }
}

fn in_multipart(body: &[u8]) -> Named {
    if !mentions(body) && !holds(body, b"name*") {
        return Named::None;
    }
    let text = String::from_utf8_lossy(body);
    let value = |part: &str| {
        let (_, content) = part.split_once("\r\n\r\n").or_else(|| part.split_once("\n\n"))?;
        Some(content.lines().next().unwrap_or_default().to_owned())
    };
    let plainest = text.split("name=\"_method\"").skip(1).filter_map(value).collect::<Vec<_>>();
    // One that is written in another way could be the one that counts.
    if plainest.len() == text.to_ascii_lowercase().matches("method").count() {
        these(plainest)
    } else {
        Named::Unknown
    }
}

fn these(methods: Vec<String>) -> Named {
    if methods.is_empty() { Named::None } else { Named::These(methods) }
}

/// Whether the parameter could stand somewhere in it, written as it is.
fn mentions(body: &[u8]) -> bool {
    [&b"_method"[..], b".method", b"[method", b" method"].iter().any(|name| holds(body, name))
}

fn holds(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(content_type: &str, more: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.append(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        for (name, value) in more {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn says(content_type: &str, body: &str) -> Named {
        named(&fields(content_type, &[]), body.as_bytes())
    }

    fn this(method: &str) -> Named {
        Named::These(vec![method.to_owned()])
    }

    const FORM: &str = "application/x-www-form-urlencoded";

    #[test]
    fn a_method_in_a_form_is_found_in_every_spelling() {
        for body in [
            "_method=DELETE",
            "a=b&_method=DELETE",
            "%5Fmethod=DELETE",
            "_METHOD=DELETE",
            "a=b;_method=DELETE",
            ".method=DELETE",
            "%5Bmethod=DELETE",
            "+_method=DELETE",
            "_method%00x=DELETE",
        ] {
            for form in [FORM, "Application/X-WWW-Form-Urlencoded; charset=UTF-8", ""] {
                assert_eq!(says(form, body), this("DELETE"), "{form} {body}");
            }
        }
        let both = Named::These(vec!["PUT".into(), "delete".into()]);
        assert_eq!(says(FORM, "_method=PUT&_method=delete"), both);
    }

    #[test]
    fn a_login_names_no_method() {
        for (content_type, body) in [
            (FORM, "user=ann&password=x_method=DELETE"),
            (FORM, "method=DELETE&payment_method=card"),
            (FORM, ""),
            ("application/json", r#"{"user":"ann","payment_method":"card"}"#),
            ("application/json", r#"{"a":{"_method":"DELETE"}}"#),
            ("application/json", r#"{"_method":["DELETE"]}"#),
            ("application/json", "no json"),
            ("text/plain", "_method=DELETE"),
            ("application/octet-stream", "_method=DELETE"),
            ("multipart/form-data; boundary=x", &part("name=\"user\"", "ann")),
        ] {
            assert_eq!(says(content_type, body), Named::None, "{content_type} {body}");
        }
    }

    fn part(parameters: &str, value: &str) -> String {
        format!("--x\r\nContent-Disposition: form-data; {parameters}\r\n\r\n{value}\r\n--x--\r\n")
    }

    #[test]
    fn a_method_in_json_and_in_parts_is_found() {
        for json in ["application/json", "application/vnd.api+json; charset=utf-8", "text/json"] {
            assert_eq!(says(json, r#"{"_method":"delete"}"#), this("delete"));
            assert_eq!(says(json, r#"{"\u005fmethod":"delete"}"#), this("delete"));
        }
        let multipart = "multipart/form-data; boundary=x";
        assert_eq!(says(multipart, &part("name=\"_method\"", "DELETE")), this("DELETE"));
        for odd in ["name=_method", "name='_method'", "name*=utf-8''%5Fmethod", "name=\".method\""]
        {
            assert_eq!(says(multipart, &part(odd, "DELETE")), Named::Unknown, "{odd}");
        }
    }

    #[test]
    fn a_body_that_cannot_be_followed_may_name_one() {
        for headers in [
            fields(FORM, &[("content-encoding", "gzip")]),
            fields("application/x-www-form-urlencoded; charset=ibm037", &[]),
            fields("application/x-www-form-urlencoded; charset=\"utf-16\"", &[]),
            fields("text/plain", &[("content-type", FORM)]),
            fields("form", &[]),
        ] {
            let is_unknown = named(&headers, b"a=b") == Named::Unknown;
            assert!(is_unknown || !is_looked_into(&headers), "{headers:?}");
        }
        assert_eq!(named(&fields(FORM, &[("content-encoding", "gzip")]), b""), Named::Unknown);
        assert_eq!(says("application/json", "{\"_method\":\"DELETE\",}"), Named::Unknown);
    }
}
