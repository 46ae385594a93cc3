//! The comparison of media types (RFC 9110 section 8.3.1).
//!
//! Owns the normal form. Case, blanks, quotes and the order of parameters do not count; the value of a
//! parameter does, but for the case of `charset`.

use super::grammar::{is_token, pair, split};

/// Type and subtype in lower case, without parameters: `application/json`.
pub fn essence(text: &str) -> String {
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a type is JSON: `application/json`, or one that is written in it.
pub fn is_json(text: &str) -> bool {
    let essence = essence(text);
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// The octets that media types which mean the same have in common. What is no media type
/// stands for itself.
pub fn canonical(value: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(read).map_or_else(|| value.trim_ascii().to_vec(), String::into_bytes)
}

fn read(text: &str) -> Option<String> {
    let mut parts = split(text, ';');
    let (kind, subtype) = parts.next()?.split_once('/')?;
    if !is_token(kind) || !is_token(subtype) {
        return None;
    }
    let parameters = parts.filter(|part| !part.is_empty()).map(parameter);
    let mut parameters = parameters.collect::<Option<Vec<_>>>()?;
    parameters.sort();
    let mut canonical = format!("{kind}/{subtype}").to_ascii_lowercase();
    for (name, value) in parameters {
        // Neither a name nor a value holds this octet, so none runs into its neighbour.
        for part in [";", &*name, "=", &*value, "\0"] {
            canonical.push_str(part);
        }
    }
    Some(canonical)
}

fn parameter(text: &str) -> Option<(String, String)> {
    let (name, value) = pair(text)?;
    let value = value.filter(|value| !value.contains('\0'))?;
    let value = if name == "charset" { value.to_ascii_lowercase() } else { value };
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_mean_the_same_have_one_form() {
        for (one, other) in [
            ("text/html;charset=utf-8", "Text/HTML;Charset=\"utf-8\""),
            ("text/html; charset=\"utf-8\"", "text/html ;charset=UTF-8"),
            ("application/json", " APPLICATION/Json "),
            ("application/json;", "application/json"),
            ("a/b; x=1; y=\"2\"", "a/b;y=2;x=1"),
            ("a/b; x=\"a\\\"b\"", "a/b;x=\"a\\\"b\""),
        ] {
            assert_eq!(canonical(one.as_bytes()), canonical(other.as_bytes()), "{one} {other}");
        }
    }

    #[test]
    fn types_that_differ_have_different_forms() {
        for (one, other) in [
            ("text/html", "text/plain"),
            ("text/html", "text/html;charset=utf-8"),
            ("a/b;boundary=A", "a/b;boundary=a"),
            ("a/b;x=1;y=2", "a/b;x=2;y=1"),
            ("a/b;x=\"1;y=2\"", "a/b;x=1;y=2"),
            ("nonsense", "Nonsense"),
            ("a/b;x", "a/b;X"),
            ("", "a/b"),
        ] {
            assert_ne!(canonical(one.as_bytes()), canonical(other.as_bytes()), "{one} {other}");
        }
        assert_eq!(canonical(&[0xff, b' ']), [0xff]);
    }

    #[test]
    fn json_is_known_by_its_suffix_too() {
        for (text, is) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/merge-patch+json", true),
            ("text/json", false),
            ("application/jsonp", false),
            ("", false),
        ] {
            assert_eq!(is_json(text), is, "{text}");
        }
    }
}
