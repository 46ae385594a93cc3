//! The recheck: a request that asks the upstream whether an attempt took effect.
//!
//! Owns the template: its placeholders and how they are filled. Its invariant: a filled template is a
//! path with an optional query, and a filled value can neither add to them nor take from them: a
//! template whose values are empty or form a dot segment is not filled. It must not know how the
//! request is sent.

use std::fmt::{self, Write};
use std::sync::Arc;

use http::Method;
use percent_encoding::percent_decode_str;

/// A template as `/orders?ref={idempotency_key}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recheck(Arc<str>);

/// Why a template is refused, for the person who writes the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecheckProblem {
    /// Another method than GET, or none.
    #[error("write a GET and a path, like \"GET /orders?ref={{idempotency_key}}\"")]
    NotAGet,
    /// It does not begin with a slash, or not with exactly one.
    #[error("the path begins with one /")]
    NotAPath,
    /// A character that no request target has.
    #[error("`{0}` cannot stand in a path; write it percent-encoded")]
    BadCharacter(char),
    /// A percent sign without two hexadecimal digits.
    #[error("`{0}` is no percent-encoding; a percent sign itself is %25")]
    MalformedEncoding(String),
    /// A segment `.` or `..`.
    #[error(
        "a segment of the path is `.` or `..`, which servers take out, so that another path would be \
         asked; write the path that is meant"
    )]
    DotSegment,
    /// A placeholder that does not exist.
    #[error(
        "there is no placeholder {{{0}}}; there are {{idempotency_key}}, {{idempotency_key_value}}, \
         {{operation_id}} and {{client_reference}}"
    )]
    UnknownPlaceholder(String),
    /// A brace without its partner.
    #[error("a {{ or }} has no partner; a literal one is %7B or %7D")]
    LooseBrace,
    /// Nothing tells one operation from another.
    #[error(
        "without {{idempotency_key}}, {{idempotency_key_value}}, {{operation_id}} or \
         {{client_reference}} every operation would be asked about alike"
    )]
    NoPlaceholder,
}

/// What an upstream's answer to a recheck says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecheckFinding {
    /// The request took effect.
    TookEffect,
    /// It took none.
    NoEffect,
    /// Neither.
    Nothing,
}

impl RecheckFinding {
    /// Reads the status of the answer to a recheck of a request with that method. What a DELETE
    /// was to remove is not found once it took effect.
    pub fn of(method: &Method, status: u16) -> Self {
        match (*method == Method::DELETE, status) {
            (false, 200..=299) | (true, 404 | 410) => Self::TookEffect,
            (false, 404) | (true, 200..=299) => Self::NoEffect,
            _ => Self::Nothing,
        }
    }
}

/// What a template is filled with.
#[derive(Clone, Copy, Debug)]
pub struct RecheckSubjects<'a> {
    /// The octets of the key that the upstream was sent.
    pub idempotency_key: &'a str,
    /// What they stand for: the same without quotes.
    pub idempotency_key_value: &'a str,
    /// The operation's id.
    pub operation_id: &'a str,
    /// What the client calls it; empty where it does not.
    pub client_reference: &'a str,
}

impl RecheckSubjects<'_> {
    fn named(&self, name: &str) -> Option<&str> {
        match name {
            "idempotency_key" => Some(self.idempotency_key),
            "idempotency_key_value" => Some(self.idempotency_key_value),
            "operation_id" => Some(self.operation_id),
            "client_reference" => Some(self.client_reference),
            _ => None,
        }
    }
}

impl Recheck {
    /// Reads `GET /path?query`.
    pub fn parse(text: &str) -> Result<Self, RecheckProblem> {
        let target = text.strip_prefix("GET ").ok_or(RecheckProblem::NotAGet)?;
        let recheck = Self::of_target(target.trim_start())?;
        let (usual, reference) = ("00000000-0000-0000-0000-000000000000", "reference");
        let subjects = RecheckSubjects {
            idempotency_key: usual,
            idempotency_key_value: usual,
            operation_id: usual,
            client_reference: reference,
        };
        // It would ask nothing, whatever the operation.
        recheck.filled(subjects).map(|_| recheck).ok_or(RecheckProblem::DotSegment)
    }

    /// Reads a template without its method, as the ledger keeps it.
    pub fn of_target(target: &str) -> Result<Self, RecheckProblem> {
        if !target.starts_with('/') || target.starts_with("//") {
            return Err(RecheckProblem::NotAPath);
        }
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '#' | '"' | '<' | '>' | '\\');
        if let Some(bad) = malformed_encoding(target) {
            return Err(RecheckProblem::MalformedEncoding(bad.to_owned()));
        }
        if let Some(bad) = target.chars().find(|c| !fits(*c)) {
            return Err(RecheckProblem::BadCharacter(bad));
        }
        let nothing = RecheckSubjects {
            idempotency_key: "",
            idempotency_key_value: "",
            operation_id: "",
            client_reference: "",
        };
        let mut placeholders = 0;
        let mut count = |part: TemplatePart<'_>| {
            placeholders += usize::from(matches!(part, TemplatePart::Placeholder(_)));
            match part {
                TemplatePart::Placeholder(name) if nothing.named(name).is_none() => {
                    Err(RecheckProblem::UnknownPlaceholder(name.to_owned()))
                }
                _ => Ok(()),
            }
        };
        each_part(target, &mut count)?;
        if placeholders == 0 {
            return Err(RecheckProblem::NoPlaceholder);
        }
        Ok(Self(target.into()))
    }

    /// The template without its method.
    pub fn target(&self) -> &str {
        &self.0
    }

    /// Path and query about one operation; none where a value is empty or slashes only, or is or
    /// makes a dot segment: such a question would be about something else, and its answer mean
    /// nothing.
    pub fn filled(&self, subjects: RecheckSubjects<'_>) -> Option<String> {
        let mut filled = String::with_capacity(self.0.len() + 32);
        let mut speaks_of_it = true;
        // It was read before: its placeholders exist.
        let _ = each_part(&self.0, &mut |part| {
            match part {
                TemplatePart::Text(text) => filled.push_str(text),
                TemplatePart::Placeholder(name) => {
                    let value = subjects.named(name).unwrap_or_default();
                    let core = value.trim().trim_matches(['/', '\\']);
                    speaks_of_it &= !matches!(core, "" | "." | "..");
                    encode(value, &mut filled);
                }
            }
            Ok(())
        });
        (speaks_of_it && !has_dot_segment(&filled)).then_some(filled)
    }
}

impl fmt::Display for Recheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GET {}", self.0)
    }
}

/// A percent sign that two hexadecimal digits do not follow, with what does.
fn malformed_encoding(target: &str) -> Option<&str> {
    let is_digit = |octet: &u8| octet.is_ascii_hexdigit();
    let mut signs = target.match_indices('%').map(|(at, _)| &target[at..]);
    signs.find(|rest| !rest.as_bytes().get(1..3).is_some_and(|two| two.iter().all(is_digit))).map(
        |rest| {
            let end = rest.char_indices().nth(3).map_or(rest.len(), |(end, _)| end);
            &rest[..end]
        },
    )
}

/// Whether a segment of the path is one that clients and servers take out of it; some servers
/// decode a path first, slashes too, or leave out what follows a `;`.
fn has_dot_segment(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let path = percent_decode_str(path).decode_utf8_lossy();
    let is_dot = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    path.split(['/', '\\']).any(is_dot)
}

enum TemplatePart<'t> {
    Text(&'t str),
    Placeholder(&'t str),
}

fn each_part<'t>(
    template: &'t str,
    see: &mut impl FnMut(TemplatePart<'t>) -> Result<(), RecheckProblem>,
) -> Result<(), RecheckProblem> {
    let mut rest = template;
    while let Some((text, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}').ok_or(RecheckProblem::LooseBrace)?;
        if text.contains('}') || name.contains('{') {
            return Err(RecheckProblem::LooseBrace);
        }
        see(TemplatePart::Text(text))?;
        see(TemplatePart::Placeholder(name))?;
        rest = behind;
    }
    if rest.contains('}') {
        return Err(RecheckProblem::LooseBrace);
    }
    see(TemplatePart::Text(rest))
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode(text: &str, into: &mut String) {
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            into.push(char::from(octet));
        } else {
            // A String takes everything.
            let _ = write!(into, "%{octet:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECTS: RecheckSubjects<'_> = RecheckSubjects {
        idempotency_key: "\"k\"",
        idempotency_key_value: "k",
        operation_id: "0192",
        client_reference: "a/b c?ü",
    };

    #[test]
    fn placeholders_are_filled_and_cannot_add_to_the_path() {
        for (template, filled) in [
            ("GET /orders?ref={client_reference}", "/orders?ref=a%2Fb%20c%3F%C3%BC"),
            ("GET /orders/{operation_id}/state", "/orders/0192/state"),
            ("GET /{idempotency_key}?x={idempotency_key_value}", "/%22k%22?x=k"),
        ] {
            let recheck = Recheck::parse(template).unwrap();
            assert_eq!(recheck.filled(SUBJECTS).as_deref(), Some(filled), "{template}");
            assert_eq!(recheck.to_string(), template);
            assert_eq!(Recheck::of_target(recheck.target()), Ok(recheck));
        }
    }

    #[test]
    fn a_delete_took_effect_where_nothing_is_found() {
        use RecheckFinding::{NoEffect, Nothing, TookEffect};
        for (status, of_a_post, of_a_delete) in [
            (200, TookEffect, NoEffect),
            (204, TookEffect, NoEffect),
            (404, NoEffect, TookEffect),
            (410, Nothing, TookEffect),
            (302, Nothing, Nothing),
            (401, Nothing, Nothing),
            (500, Nothing, Nothing),
        ] {
            assert_eq!(RecheckFinding::of(&Method::POST, status), of_a_post, "{status}");
            assert_eq!(RecheckFinding::of(&Method::DELETE, status), of_a_delete, "{status}");
        }
    }

    #[test]
    fn a_template_with_a_dot_segment_of_its_own_is_refused() {
        for template in [
            "GET /../orders?ref={operation_id}",
            "GET /a/./orders?ref={operation_id}",
            "GET /a/../{operation_id}",
            "GET /a/%2e%2E/{operation_id}",
            "GET /a/..%2F{operation_id}",
            "GET /a/..;x/{operation_id}",
            "GET /{operation_id}/..",
        ] {
            assert_eq!(Recheck::parse(template), Err(RecheckProblem::DotSegment), "{template}");
        }
        for (template, bad) in [
            ("GET /a/%zz/{operation_id}", "%zz"),
            ("GET /{operation_id}?x=%", "%"),
            ("GET /{operation_id}?x=%2", "%2"),
            ("GET /%{operation_id}", "%{o"),
        ] {
            let refused = RecheckProblem::MalformedEncoding(bad.to_owned());
            assert_eq!(Recheck::parse(template), Err(refused), "{template}");
        }
        for template in ["GET /a..b/{operation_id}", "GET /.well-known/x?at=../{operation_id}"] {
            assert!(Recheck::parse(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn a_question_that_would_be_about_something_else_is_none() {
        for (template, value) in [
            ("GET /orders?ref={client_reference}", ""),
            ("GET /orders/{client_reference}", ""),
            ("GET /orders/{client_reference}", "   "),
            ("GET /orders/{client_reference}", "."),
            ("GET /orders/{client_reference}", ".."),
            ("GET /orders?ref={client_reference}", ".."),
            ("GET /orders/.{client_reference}/x", "."),
            ("GET /orders/%2e{client_reference}?a", "."),
            ("GET /{operation_id}/{client_reference}{client_reference}", "."),
            ("GET /orders/{client_reference}", "../7"),
            ("GET /orders/{client_reference}/x", "a/.."),
            ("GET /orders/{client_reference}", "a/./b"),
            ("GET /orders/{client_reference}", r"..\7"),
            ("GET /orders/{client_reference}", "..;a"),
            ("GET /orders/{client_reference}", "/"),
            ("GET /orders?ref={client_reference}", "//"),
            ("GET /orders?ref={client_reference}", "../"),
        ] {
            let recheck = Recheck::parse(template).unwrap();
            let subjects = RecheckSubjects { client_reference: value, ..SUBJECTS };
            assert_eq!(recheck.filled(subjects), None, "{template} {value:?}");
        }
        for (template, value, filled) in [
            ("GET /orders/{client_reference}", "..a/%2e%2e", "/orders/..a%2F%252e%252e"),
            ("GET /orders/{client_reference}", "/a/7", "/orders/%2Fa%2F7"),
            ("GET /orders?ref={client_reference}", "a/../7", "/orders?ref=a%2F..%2F7"),
        ] {
            let recheck = Recheck::parse(template).unwrap();
            let harmless = RecheckSubjects { client_reference: value, ..SUBJECTS };
            assert_eq!(recheck.filled(harmless).as_deref(), Some(filled));
        }
    }

    #[test]
    fn a_wrong_template_is_told_what_is_wrong() {
        for (template, says) in [
            ("/orders?ref={operation_id}", "write a GET"),
            ("POST /orders?ref={operation_id}", "write a GET"),
            ("GET orders/{operation_id}", "one /"),
            ("GET //host/{operation_id}", "one /"),
            ("GET /orders?ref={key}", "no placeholder {key}"),
            ("GET /orders?ref={}", "no placeholder {}"),
            ("GET /orders?ref={operation_id", "partner"),
            ("GET /orders?ref=}{operation_id}", "partner"),
            ("GET /or ders/{operation_id}", "cannot stand"),
            ("GET /orders#{operation_id}", "cannot stand"),
            ("GET /orders", "alike"),
        ] {
            let problem = Recheck::parse(template).unwrap_err().to_string();
            assert!(problem.contains(says), "{template}: {problem}");
        }
    }
}
