//! The method override in a request's body.
//!
//! Owns the parameter `_method` and its like in bodies as frameworks read them: forms in both codings,
//! and JSON of any declared type. Its invariant: a body that could hide such a parameter is never
//! reported as free of one. It must not know which methods are routed.

mod json;

use ::http::{HeaderMap, header};

use super::grammar::is_token;
use super::media_type::essence;
use super::request_override::{OverridePart, RequestOverride, method_parameter, pairs};

/// How a body may be read by a framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Form,
    Multipart,
    Json,
    /// As JSON by frameworks that look at no type, else not at all.
    Other,
    /// In a way that cannot be followed.
    Unknown,
}

/// What a body says of the method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyMethod {
    /// Nothing.
    None,
    /// These, as they are written.
    These(Vec<RequestOverride<String>>),
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

/// Whether the beginning of a body tells as much as all of it.
pub fn is_told_early(headers: &HeaderMap) -> bool {
    coding(headers) == Some(Coding::Other)
}

/// Whether no more of a body has to be read to tell what it names: its beginning says that it is
/// no JSON, or that it is some that comes in pieces and may be a conversation.
pub fn is_told(headers: &HeaderMap, beginning: &[u8]) -> bool {
    let is_whole = headers.contains_key(header::CONTENT_LENGTH);
    is_told_early(headers) && json::first(beginning).is_some_and(|first| first != b'{' || !is_whole)
}

/// The methods that a body names, of which all or the beginning is there.
pub fn named(headers: &HeaderMap, body: &[u8], is_whole: bool) -> BodyMethod {
    let is_json = json::first(body) == Some(b'{');
    let by_type = match coding(headers) {
        None => return BodyMethod::None,
        Some(Coding::Other) if json::first(body).is_some() && !is_json => return BodyMethod::None,
        Some(Coding::Unknown) => return BodyMethod::Unknown,
        Some(_) if !is_whole => return BodyMethod::Unknown,
        Some(Coding::Form) => in_form(body),
        Some(Coding::Multipart) => in_multipart(body),
        Some(Coding::Json | Coding::Other) => BodyMethod::None,
    };
    // Some frameworks read every body as JSON: Parse Server does, whose clients send it as
    // text/plain.
    if is_json { by_type.and(json::named(body)) } else { by_type }
}

impl BodyMethod {
    /// What two readings of one body name.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::These(mut some), Self::These(others)) => {
                some.extend(others);
                Self::These(some)
            }
            (Self::These(some), _) | (_, Self::These(some)) => Self::These(some),
            (Self::None, Self::None) => Self::None,
            _ => Self::Unknown,
        }
    }

    fn these(found: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let found = found
            .into_iter()
            .map(|(name, says)| RequestOverride { by: OverridePart::Body(name), says });
        let found: Vec<_> = found.collect();
        if found.is_empty() { Self::None } else { Self::These(found) }
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
    // Each has ASCII in it as it is.
    const PLAIN: [&str; 7] =
        ["utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "windows-1252"];
    let essence = essence(text);
    let coding = match essence.as_str() {
        "application/x-www-form-urlencoded" => Coding::Form,
        odd if !is_media_type(odd) => coding_of_odd(odd),
        multipart if multipart.starts_with("multipart/") => Coding::Multipart,
        json if json.ends_with("/json") || json.ends_with("+json") => Coding::Json,
        // A call of gRPC is a conversation, and its messages begin with their lengths.
        grpc if grpc.starts_with("application/grpc") => return None,
        _ => Coding::Other,
    };
    let lower = text.to_ascii_lowercase();
    let charset = lower.split_once("charset").map(|(_, rest)| {
        let value = rest.split(';').next().unwrap_or_default();
        value.trim_matches(|c: char| c.is_whitespace() || "='\"".contains(c)).to_owned()
    });
    let is_plain = charset.is_none_or(|charset| PLAIN.contains(&charset.as_str()));
    Some(if is_plain { coding } else { Coding::Unknown })
}

/// Type and subtype are tokens (RFC 9110 section 8.3.1).
fn is_media_type(essence: &str) -> bool {
    let parts = essence.split_once('/');
    parts.is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

/// A type that is none: PHP and Rack end it at a blank or a comma, and some servers take it for a
/// missing one.
fn coding_of_odd(essence: &str) -> Coding {
    match (essence.contains("x-www-form-urlencoded"), essence.contains("multipart")) {
        (true, false) => Coding::Form,
        (false, true) => Coding::Multipart,
        (false, false) if essence.contains('/') => Coding::Other,
        _ => Coding::Unknown,
    }
}

fn in_form(body: &[u8]) -> BodyMethod {
    BodyMethod::these(pairs(body).filter_map(|(name, value)| {
        method_parameter(&name).map(|known| (known, value.into_owned()))
    }))
}

fn in_multipart(body: &[u8]) -> BodyMethod {
    let text = String::from_utf8_lossy(body);
    if text.lines().any(is_odd_name) {
        return BodyMethod::Unknown;
    }
    // Some readers drop the backslash before any octet, others take it as it is.
    let text = text.replace('\\', "");
    if !mentions(text.as_bytes()) {
        return BodyMethod::None;
    }
    let lower = text.to_ascii_lowercase();
    let found: Vec<_> = lower
        .match_indices("name")
        .filter_map(|(at, name)| named_part(&text[at + name.len()..]))
        .collect();
    // One that is written in another way could be the one that counts, and a value in another.
    let is_all = found.len() == lower.matches("method").count();
    if is_all && !holds(body, b"transfer-encoding") {
        BodyMethod::these(found)
    } else {
        BodyMethod::Unknown
    }
}

/// The known parameter that a part carries, and its value. The text begins behind `name`.
fn named_part(text: &str) -> Option<(&'static str, String)> {
    let value = text.trim_start_matches([' ', '\t']).strip_prefix('=')?;
    let value = value.trim_start_matches([' ', '\t']);
    let name = match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        // A quote of the other kind is one to PHP, and a part of the name to others.
        None => value.split([';', ',', ' ', '\t', '\r', '\n']).next()?.trim_matches('\''),
    };
    let known = method_parameter(name)?;
    let (_, content) = value.split_once("\r\n\r\n").or_else(|| value.split_once("\n\n"))?;
    Some((known, content.lines().next().unwrap_or_default().to_owned()))
}

/// Whether a line gives a name to a part in a way that servers read differently: in pieces, in a
/// charset, with octets that are encoded.
fn is_odd_name(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    lower.contains("name*")
        || (lower.contains("name") && lower.contains("content-disposition"))
            && ["%5f", "%6d", "=?"].iter().any(|odd| lower.contains(odd))
}

/// Whether such a parameter could stand somewhere in it, written as it is.
fn mentions(body: &[u8]) -> bool {
    const NAMES: [&[u8]; 8] = [
        b"_method",
        b".method",
        b"[method",
        b" method",
        b"x-http-method",
        b"x-method-override",
        b"x-tunneled-method",
        b"_httpmethod",
    ];
    NAMES.iter().any(|name| holds(body, name))
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

    fn says(content_type: &str, body: &str) -> BodyMethod {
        named(&fields(content_type, &[]), body.as_bytes(), true)
    }

    fn these(methods: &[&str]) -> BodyMethod {
        BodyMethod::these(methods.iter().map(|method| ("_method", (*method).to_owned())))
    }

    fn this(method: &str) -> BodyMethod {
        these(&[method])
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
            "_method[]=DELETE",
            "%5f%4dethod%5B%5D=DELETE",
            "[_method]=DELETE",
            "a=1;_method=%44ELETE",
            "a=1; _method=DELETE",
        ] {
            for form in [FORM, "Application/X-WWW-Form-Urlencoded; charset=UTF-8", ""] {
                assert_eq!(says(form, body), this("DELETE"), "{form} {body}");
            }
        }
        assert_eq!(says(FORM, "_method=PUT&_method=delete"), these(&["PUT", "delete"]));
    }

    #[test]
    fn a_login_names_no_method() {
        for (content_type, body) in [
            (FORM, "user=ann&password=x_method=DELETE"),
            (FORM, "method=DELETE&payment_method=card"),
            (FORM, ""),
            ("application/json", r#"{"user":"ann","payment_method":"card"}"#),
            ("application/json", r#"{"a":{"_method":"DELETE"}}"#),
            ("application/json", r#"{"_method":{"a":"DELETE"},"_METHOD":7}"#),
            ("application/json", r#"[{"_method":"DELETE"}]"#),
            ("text/plain", r#"{"user":"ann"}"#),
            ("application/grpc", r#"{"_method":"DELETE"}"#),
            (FORM, r#"{"user":"ann"}"#),
            ("multipart/form-data; boundary=x", &part("name=\"method\"", "card")),
            ("application/json", "no json"),
            ("text/plain", "_method=DELETE"),
            ("application/octet-stream", "_method=DELETE"),
            ("multipart/form-data; boundary=x", &part("name=\"user\"", "ann")),
        ] {
            assert_eq!(says(content_type, body), BodyMethod::None, "{content_type} {body}");
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
        for of_any_type in ["application/json", "text/plain", "application/octet-stream", FORM, ""]
        {
            for (body, methods) in [
                (r#"{"_method":"DELETE","_method":"PATCH"}"#, &["DELETE", "PATCH"][..]),
                (
                    r#"{"_method":"PATCH","a":{"_method":"PUT"},"_METHOD":"DELETE"}"#,
                    &["PATCH", "DELETE"],
                ),
                (r#" {"_method":["DELETE"]}"#, &["DELETE"]),
                ("\u{feff}{\"_method\":\"DELETE\"}", &["DELETE"]),
            ] {
                assert_eq!(says(of_any_type, body), these(methods), "{of_any_type} {body}");
            }
        }
        let field = BodyMethod::these([("X-HTTP-Method-Override", "DELETE".to_owned())]);
        assert_eq!(says(FORM, "x-http-method-override=DELETE"), field);
        let multipart = "multipart/form-data; boundary=x";
        assert_eq!(says(multipart, &part("name=\"_method\"", "DELETE")), this("DELETE"));
        for plain in ["_method[]", ".method", "[_method]", "_METHOD"] {
            let named = says(multipart, &part(&format!("name=\"{plain}\""), "DELETE"));
            assert_eq!(named, this("DELETE"), "{plain}");
        }
        for plain in [
            "name=_method",
            "name='_method'",
            "Name=\"_method\"",
            "NAME = _method; x=y",
            "name=\"_m\\ethod\"",
            "name=\"_\\method\"",
            "filename=a; name=_method",
        ] {
            assert_eq!(says(multipart, &part(plain, "DELETE")), this("DELETE"), "{plain}");
        }
        for odd in [
            "name*=utf-8''%5Fmethod",
            "name*0=\"_me\"; name*1=\"thod\"",
            "name=\"%5Fm\"",
            "name=\"=?utf-8?B?X21ldGhvZA==?=\"",
            "name=\"_method\"\r\nContent-Transfer-Encoding: base64",
        ] {
            assert_eq!(says(multipart, &part(odd, "DELETE")), BodyMethod::Unknown, "{odd}");
        }
    }

    #[test]
    fn a_type_that_is_none_is_read_as_the_ones_in_it() {
        for odd in [
            "application/x-www-form-urlencoded, text/plain",
            "application/x-www-form-urlencoded x",
            "application/x-www-form-urlencoded,",
            "text/plain, application/x-www-form-urlencoded",
            "\"application/x-www-form-urlencoded\"",
            "application/x-www-form-urlencoded/x; charset=utf-8",
        ] {
            assert_eq!(says(odd, "_method=DELETE"), this("DELETE"), "{odd}");
            assert_eq!(says(odd, "user=ann"), BodyMethod::None, "{odd}");
        }
        let named = says("multipart/form-data, x; boundary=x", &part("name=_method", "DELETE"));
        assert_eq!(named, this("DELETE"));
        let both = "multipart/form-data, application/x-www-form-urlencoded";
        assert_eq!(says(both, "a=b"), BodyMethod::Unknown);
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
            let is_unknown = named(&headers, b"a=b", true) == BodyMethod::Unknown;
            assert!(is_unknown || !is_looked_into(&headers), "{headers:?}");
        }
        assert_eq!(
            named(&fields(FORM, &[("content-encoding", "gzip")]), b"", true),
            BodyMethod::Unknown
        );
        for body in ["{\"_method\":\"DELETE\",}", "{\"\\u005fmethod\":\"DELETE\",}"] {
            assert_eq!(says("text/plain", body), BodyMethod::Unknown, "{body}");
        }
        assert_eq!(says("application/json", "{\"_method\":\"DELETE\",}"), BodyMethod::Unknown);
    }

    #[test]
    fn of_a_body_of_another_type_the_first_octet_tells_whether_it_is_read_on() {
        let sized = fields("application/octet-stream", &[("content-length", "9")]);
        let (pieces, form) = (fields("application/octet-stream", &[]), fields(FORM, &[]));
        for (headers, beginning, told, says) in [
            (&sized, "", false, BodyMethod::Unknown),
            (&sized, " \r\n", false, BodyMethod::Unknown),
            (&sized, "PK", true, BodyMethod::None),
            (&sized, " {", false, BodyMethod::Unknown),
            // A conversation is not held up, and is no body that can be told.
            (&pieces, "{", true, BodyMethod::Unknown),
            (&pieces, "x", true, BodyMethod::None),
            (&form, "a", false, BodyMethod::Unknown),
        ] {
            assert_eq!(is_told(headers, beginning.as_bytes()), told, "{beginning}");
            assert_eq!(named(headers, beginning.as_bytes(), false), says, "{beginning}");
        }
    }
}
