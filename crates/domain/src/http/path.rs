//! Path screening and normalization.
//!
//! Owns which paths are refused, and which spellings are equal. The invariant: a path that passes
//! [`screen`] has one reading, and [`normalize`] gives all its spellings the same text (RFC 3986
//! section 6.2.2). It must not change the path that is sent on.

use std::borrow::Cow;

use percent_encoding::percent_encode_byte;

use super::grammar::excerpt;

/// Why a path is refused (400), naming what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// A segment that is `.` or `..`, in any spelling, also before a `;`.
    #[error("the path has a dot segment ({0}): send the path that it leads to")]
    DotSegment(String),
    /// Two slashes in a row.
    #[error("the path has an empty segment (//): send it with single slashes")]
    EmptySegment,
    /// A backslash.
    #[error("the path has a backslash (\\): separate segments with /")]
    Backslash,
    /// `%2F`, in either case.
    #[error("the path has an encoded slash (%2F): servers disagree on what it means")]
    EncodedSlash,
    /// `%5C`, in either case.
    #[error("the path has an encoded backslash (%5C): servers disagree on what it means")]
    EncodedBackslash,
    /// `%00`.
    #[error("the path has an encoded null octet (%00): leave it out")]
    EncodedNull,
    /// A `%` without two hexadecimal digits behind it.
    #[error("the path has a malformed percent-encoding ({0}): write a literal % as %25")]
    MalformedEncoding(String),
}

/// Refuses paths that the gateway and an upstream could read differently.
///
/// `raw_path` is the path as received, without the query. A doubly encoded `%252F` is a
/// `%2F` in no server's single decoding and passes.
pub fn screen(raw_path: &str) -> Result<(), PathProblem> {
    screen_encodings(raw_path)?;
    if raw_path.contains('\\') {
        return Err(PathProblem::Backslash);
    }
    if raw_path.contains("//") {
        return Err(PathProblem::EmptySegment);
    }
    match raw_path.split('/').find(|segment| is_dot_segment(segment)) {
        Some(segment) => Err(PathProblem::DotSegment(excerpt(segment))),
        None => Ok(()),
    }
}

fn screen_encodings(raw_path: &str) -> Result<(), PathProblem> {
    let octets = raw_path.as_bytes();
    for (at, _) in octets.iter().enumerate().filter(|(_, octet)| **octet == b'%') {
        match encoded(&octets[at..]) {
            Some(b'/') => return Err(PathProblem::EncodedSlash),
            Some(b'\\') => return Err(PathProblem::EncodedBackslash),
            Some(0) => return Err(PathProblem::EncodedNull),
            Some(_) => {}
            None => {
                let found = String::from_utf8_lossy(&octets[at..octets.len().min(at + 3)]);
                return Err(PathProblem::MalformedEncoding(excerpt(&found)));
            }
        }
    }
    Ok(())
}

// Servlet containers cut `;parameters` off before they resolve dots.
fn is_dot_segment(segment: &str) -> bool {
    let plain = normalize(segment);
    let name = plain.split(';').next().unwrap_or_default();
    matches!(name, "." | "..")
}

/// The octet that a percent-encoding at the start of `octets` stands for.
fn encoded(octets: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*octets.get(at)?).to_digit(16);
    Some((digit(1)? * 16 + digit(2)?) as u8)
}

/// The one spelling that equivalent paths share: encoded unreserved octets decoded,
/// other encodings with upper-case digits, and octets that may not stand in a path
/// (also a `%` that encodes nothing) encoded. Idempotent.
pub fn normalize(raw_path: &str) -> Cow<'_, str> {
    if raw_path.bytes().all(stands_for_itself) {
        return Cow::Borrowed(raw_path);
    }
    let mut plain = String::with_capacity(raw_path.len());
    let mut rest = raw_path.as_bytes();
    while let Some(&first) = rest.first() {
        let (octet, length, was_encoded) = match (first, encoded(rest)) {
            (b'%', Some(octet)) => (octet, 3, true),
            _ => (first, 1, false),
        };
        if is_unreserved(octet) || (!was_encoded && stands_for_itself(octet)) {
            plain.push(char::from(octet));
        } else {
            plain.push_str(percent_encode_byte(octet));
        }
        rest = &rest[length..];
    }
    Cow::Owned(plain)
}

fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~".contains(&octet)
}

fn stands_for_itself(octet: u8) -> bool {
    is_unreserved(octet) || b"!$&'()*+,;=:@/".contains(&octet)
}

/// A path as the most lenient servers read it: encodings decoded however often they were
/// encoded, without empty and dot segments, without the case of letters, and of each segment no
/// parameters, no extension and no blanks around it. Behind it the path that a script on the way
/// would be told, as in `/index.php/orders`.
pub(super) fn loose(raw_path: &str) -> (String, Option<String>) {
    let path = decoded_through(raw_path);
    let end = path.find(['?', '#', '\0']).unwrap_or(path.len());
    let (mut names, mut told) = (Vec::new(), None);
    for segment in path[..end].split(['/', '\\']) {
        // Blanks count as in `trim`: `$` of a regular expression matches before a line feed.
        let name = segment.split(';').next().unwrap_or_default().trim();
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            _ => {
                names.push(without_extension(name).to_lowercase());
                if told.is_none() && is_script(name) {
                    told = Some(names.len());
                }
            }
        }
    }
    let joined = |names: &[String]| format!("/{}", names.join("/"));
    let behind = told.and_then(|script| names.get(script..)).map(joined);
    (joined(&names), behind)
}

/// The path with its encodings decoded, and again where that uncovers some.
fn decoded_through(raw_path: &str) -> String {
    const OFTEN: usize = 3;
    let mut path = raw_path.as_bytes().to_vec();
    for _ in 0..OFTEN {
        if !path.contains(&b'%') {
            break;
        }
        path = percent_encoding::percent_decode(&path).collect();
    }
    String::from_utf8_lossy(&path).into_owned()
}

fn without_extension(name: &str) -> &str {
    let dot = name.char_indices().find(|(at, next)| *at > 0 && *next == '.');
    name[..dot.map_or(name.len(), |(at, _)| at)].trim_end()
}

/// Whether servers run a file of this name, and tell it what stands behind in the path.
fn is_script(name: &str) -> bool {
    const KINDS: [&str; 9] = ["phtml", "cgi", "fcgi", "pl", "py", "rb", "asp", "aspx", "cfm"];
    let Some((_, extension)) = name.rsplit_once('.') else { return false };
    let extension = extension.to_ascii_lowercase();
    extension.starts_with("php") || KINDS.contains(&extension.as_str())
}

/// The path with its encoded slashes decoded, as some servers read it.
pub fn with_slashes(raw_path: &str) -> String {
    raw_path.replace("%2F", "/").replace("%2f", "/")
}

/// What follows `prefix` in the path, if the path lies under it: empty for the prefix
/// itself, else it starts with `/`. Unreserved octets are decoded, so `/%2D/operations`
/// lies under `/-` too.
pub fn beneath(prefix: &str, raw_path: &str) -> Option<String> {
    let path = normalize(raw_path);
    let rest = path.strip_prefix(normalize(prefix).trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_an_upstream_could_read_differently_is_refused_by_name() {
        let refused = |path: &str| screen(path).unwrap_err();
        for dots in ["/a/..", "/./a", "/a/%2e%2E/b", "/.%2e", "/..;x=1/a", "/%2e"] {
            assert!(matches!(refused(dots), PathProblem::DotSegment(_)), "{dots}");
        }
        assert_eq!(refused("//a"), PathProblem::EmptySegment);
        assert_eq!(refused("/a//"), PathProblem::EmptySegment);
        assert_eq!(refused("/a\\b"), PathProblem::Backslash);
        assert_eq!(refused("/a%2fb"), PathProblem::EncodedSlash);
        assert_eq!(refused("/a%5Cb"), PathProblem::EncodedBackslash);
        assert_eq!(refused("/a%00"), PathProblem::EncodedNull);
        assert_eq!(refused("/a%zz"), PathProblem::MalformedEncoding("%zz".into()));
        assert_eq!(refused("/a%4"), PathProblem::MalformedEncoding("%4".into()));
        assert_eq!(refused("/%é"), PathProblem::MalformedEncoding("%é".into()));
    }

    #[test]
    fn ordinary_paths_pass() {
        for path in ["/", "*", "", "/a/", "/a.b/..c", "/%252F", "/caf%C3%A9", "/a;v=1", "/..."] {
            assert_eq!(screen(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_problem_says_what_was_found() {
        assert!(screen("/%2e%2e/x").unwrap_err().to_string().contains("(%2e%2e)"));
        assert!(screen("/%g1").unwrap_err().to_string().contains("(%g1)"));
    }

    #[test]
    fn the_prefix_is_recognised_in_every_spelling_and_only_whole() {
        assert_eq!(beneath("/-", "/-/operations").as_deref(), Some("/operations"));
        assert_eq!(beneath("/-", "/%2D/operations").as_deref(), Some("/operations"));
        assert_eq!(beneath("/-", "/-").as_deref(), Some(""));
        assert_eq!(beneath("/-", "/-//x").as_deref(), Some("//x"));
        assert_eq!(beneath("/-", "/-a"), None);
        assert_eq!(beneath("/-", "/"), None);
        assert_eq!(beneath("/gate/", "/gate/x").as_deref(), Some("/x"));
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "\\PC{0,40}") {
            let _ = (screen(&path), normalize(&path), beneath("/-", &path));
        }
        #[test]
        fn normalizing_twice_is_normalizing_once(path in "[%a-fA-F0-9/.~é{\\\\ -]{0,40}") {
            let once = normalize(&path).into_owned();
            prop_assert_eq!(normalize(&once).into_owned(), once);
        }

        #[test]
        fn a_screened_path_has_no_dot_segment_left(path in "/[./%2eEa;]{0,16}") {
            if screen(&path).is_ok() {
                let plain = normalize(&path).into_owned();
                prop_assert!(plain.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert!(!plain.contains("//"));
            }
        }
    }
}
