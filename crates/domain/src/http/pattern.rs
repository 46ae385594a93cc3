//! The path patterns of routes.
//!
//! Owns the patterns and their captures. The invariant: a pattern matches the normalized path, so every
//! spelling of a path finds the same route. It must not know how a match is used.

use std::fmt;

use super::path::{PathProblem, loose, normalize, screen};

/// Why a pattern is refused, for the person who writes the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not start with a slash.
    #[error("a path pattern starts with /")]
    NoLeadingSlash,
    /// A query or fragment.
    #[error("a path pattern has no ? or #: routes match on the path alone")]
    NotAPath,
    /// `{}` or `{*}`.
    #[error("a capture needs a name, as in {{id}} or {{*rest}}")]
    EmptyName,
    /// A capture's name has characters other than letters, digits and `_`.
    #[error("the capture name `{0}` has more than letters, digits and _")]
    BadName(String),
    /// Two captures with one name.
    #[error("the capture `{0}` is there twice: give each its own name")]
    DuplicateName(String),
    /// `{*rest}` before the last segment.
    #[error("`{{*{0}}}` takes the remainder, so it can only be the last segment")]
    MisplacedRest(String),
    /// A segment that mixes text and a capture, or has a brace without its partner.
    #[error("the segment `{0}` must be all text or one capture; a literal brace is {{{{ or }}}}")]
    BadSegment(String),
    /// `:id`, `x-*` or `(.*)`, as other routers write captures.
    #[error(
        "the segment `{0}` looks like a pattern and would only match itself: a whole segment is \
         {{name}}, all the rest of the path {{*rest}}"
    )]
    OtherSyntax(String),
    /// A literal that no accepted request could have.
    #[error("the pattern can never match: {0}")]
    NeverMatches(PathProblem),
}

/// What a path must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
}

/// One segment of a pattern. The order is that of preference: the more specific first.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Name(String),
    Rest(String),
    Anything,
}

/// What the captures of a pattern took, in the pattern's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures(Vec<(String, String)>);

impl Captures {
    /// What one capture took: never empty, with unreserved octets decoded.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// All captures with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl PathPattern {
    /// Reads a pattern in axum's manner: `{name}` takes one segment, `{*rest}` the
    /// remainder, each at least one character; `{{` and `}}` are literal braces.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let path = text.strip_prefix('/').ok_or(PatternError::NoLeadingSlash)?;
        if text.contains(['?', '#']) {
            return Err(PatternError::NotAPath);
        }
        screen(text).map_err(PatternError::NeverMatches)?;
        let segments: Vec<_> = path.split('/').map(parse_segment).collect::<Result<_, _>>()?;
        check_captures(&segments)?;
        Ok(Self { text: text.to_owned(), segments })
    }

    /// The pattern that matches every path, and is less specific than any other.
    pub fn any() -> Self {
        Self { text: "/**".to_owned(), segments: vec![Segment::Anything] }
    }

    /// Matches a path as received (see [`screen`], which comes first).
    pub fn matches(&self, raw_path: &str) -> Option<Captures> {
        self.matches_normalized(&normalize(raw_path))
    }

    /// Matches a path that went through [`normalize`].
    pub(super) fn matches_normalized(&self, path: &str) -> Option<Captures> {
        let mut captures = Vec::new();
        let mut rest = Some(path.strip_prefix('/')?);
        for segment in &self.segments {
            let here = rest?;
            let (first, others) = match here.split_once('/') {
                Some((first, others)) => (first, Some(others)),
                None => (here, None),
            };
            match segment {
                Segment::Literal(literal) if literal == first => rest = others,
                Segment::Name(name) if !first.is_empty() => {
                    captures.push((name.clone(), first.to_owned()));
                    rest = others;
                }
                Segment::Rest(name) if !here.is_empty() => {
                    captures.push((name.clone(), here.to_owned()));
                    rest = None;
                }
                Segment::Anything => rest = None,
                _ => return None,
            }
        }
        rest.is_none().then_some(Captures(captures))
    }

    /// The pattern for paths that went through [`loose`].
    pub(super) fn loosened(&self) -> Self {
        let mut segments = self.segments.clone();
        if segments.len() > 1 && segments.last() == Some(&Segment::Literal(String::new())) {
            segments.pop();
        }
        for segment in &mut segments {
            if let Segment::Literal(literal) = segment {
                // Loosened as one segment of a path.
                *literal = loose(&format!("/{literal}")).0.split_off(1);
            }
        }
        Self { text: self.text.clone(), segments }
    }

    /// Whether there is a path that both match.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.segments.iter(), other.segments.iter());
        loop {
            let (ours, theirs) = match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                (Some(ours), Some(theirs)) => (ours, theirs),
            };
            match (ours, theirs) {
                (Segment::Anything, _) | (_, Segment::Anything) => return true,
                // What remains has at least one character.
                (Segment::Rest(_), other) | (other, Segment::Rest(_)) => {
                    // An empty segment is always the last.
                    return !matches!(other, Segment::Literal(text) if text.is_empty());
                }
                (Segment::Literal(ours), Segment::Literal(theirs)) if ours != theirs => {
                    return false;
                }
                (Segment::Literal(text), Segment::Name(_))
                | (Segment::Name(_), Segment::Literal(text))
                    if text.is_empty() =>
                {
                    return false;
                }
                _ => {}
            }
        }
    }

    /// How specific the pattern is, segment by segment; the lesser is the more specific.
    pub(super) fn rank(&self) -> Vec<u8> {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 0,
            Segment::Name(_) => 1,
            Segment::Rest(_) => 2,
            Segment::Anything => 3,
        };
        self.segments.iter().map(rank).collect()
    }
}

/// The pattern as it was written.
impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a segment is written in the patterns of another router, or as a regular expression.
/// Its characters could stand in a path, and as good as never do.
fn is_other_syntax(text: &str) -> bool {
    const EXPRESSIONS: [&str; 4] = [".+", ")+", "]+", "(."];
    let is_wrapped = |(open, close)| text.starts_with(open) && text.ends_with(close);
    let is_capture = !text.starts_with('{') && text.contains('*');
    let is_anchored = text.len() > 1 && (text.starts_with('^') || text.ends_with('$'));
    is_capture
        || is_anchored
        || text.starts_with(':')
        || [('<', '>'), ('[', ']'), ('(', ')')].into_iter().any(is_wrapped)
        || EXPRESSIONS.iter().any(|expression| text.contains(expression))
}

fn parse_segment(text: &str) -> Result<Segment, PatternError> {
    if is_other_syntax(text) {
        return Err(PatternError::OtherSyntax(text.to_owned()));
    }
    let inside = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    match inside {
        Some(inside) if !inside.starts_with('{') => match inside.strip_prefix('*') {
            Some(name) => Ok(Segment::Rest(capture_name(name)?)),
            None => Ok(Segment::Name(capture_name(inside)?)),
        },
        _ => parse_literal(text),
    }
}

fn capture_name(name: &str) -> Result<String, PatternError> {
    if name.is_empty() {
        return Err(PatternError::EmptyName);
    }
    if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        Ok(name.to_owned())
    } else {
        Err(PatternError::BadName(name.to_owned()))
    }
}

fn parse_literal(text: &str) -> Result<Segment, PatternError> {
    let mut literal = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if matches!(character, '{' | '}') && characters.next() != Some(character) {
            return Err(PatternError::BadSegment(text.to_owned()));
        }
        literal.push(character);
    }
    Ok(Segment::Literal(normalize(&literal).into_owned()))
}

fn check_captures(segments: &[Segment]) -> Result<(), PatternError> {
    let mut names: Vec<&str> = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        let name = match segment {
            Segment::Rest(name) if at + 1 < segments.len() => {
                return Err(PatternError::MisplacedRest(name.clone()));
            }
            Segment::Rest(name) | Segment::Name(name) => name,
            Segment::Literal(_) | Segment::Anything => continue,
        };
        if names.contains(&name.as_str()) {
            return Err(PatternError::DuplicateName(name.clone()));
        }
        names.push(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn captures(pattern: &str, path: &str) -> Option<Vec<(String, String)>> {
        PathPattern::parse(pattern).unwrap().matches(path).map(|captures| captures.0)
    }

    #[test]
    fn equivalent_spellings_match_alike() {
        assert_eq!(captures("/orders", "/%6Frders"), Some(vec![]));
        assert_eq!(captures("/~me", "/%7eme"), Some(vec![]));
        assert_eq!(captures("/café", "/caf%c3%a9"), Some(vec![]));
        assert_eq!(captures("/a%3ab", "/a%3Ab"), Some(vec![]));
        assert_eq!(captures("/a:b", "/a%3Ab"), None, "a reserved octet is not its encoding");
        assert_eq!(captures("/{{x}}", "/%7Bx%7d"), Some(vec![]));
    }

    #[test]
    fn a_name_takes_one_segment_and_a_rest_what_remains() {
        let took = captures("/orders/{id}/{*rest}", "/orders/7/a/b%2Dc").unwrap();
        assert_eq!(took, [("id".into(), "7".into()), ("rest".into(), "a/b-c".into())]);
        assert_eq!(captures("/f/{*rest}", "/f/a/").unwrap()[0].1, "a/");
        for (pattern, path) in [
            ("/orders/{id}", "/orders"),
            ("/orders/{id}", "/orders/"),
            ("/orders/{id}", "/orders/7/8"),
            ("/orders", "/orders/"),
            ("/orders/", "/orders"),
            ("/f/{*rest}", "/f/"),
            ("/f/{*rest}", "/f"),
            ("/{*rest}", "/"),
            ("/{*rest}", "*"),
            ("/", "/a"),
        ] {
            assert_eq!(captures(pattern, path), None, "{pattern} on {path}");
        }
        assert_eq!(captures("/{id}/", "/7/").unwrap()[0].1, "7");
        assert_eq!(captures("/", "/"), Some(vec![]));
    }

    #[test]
    fn patterns_overlap_where_a_path_matches_both() {
        for (one, other, overlap) in [
            ("/orders", "/orders", true),
            ("/orders", "/orders/", false),
            ("/orders/{id}", "/orders/new", true),
            ("/orders/{id}", "/orders/", false),
            ("/orders/{id}", "/orders/{id}/items", false),
            ("/{a}/new", "/orders/{id}", true),
            ("/{a}/new", "/orders/{id}/new", false),
            ("/orders/{*rest}", "/orders/7/items", true),
            ("/orders/{*rest}", "/orders", false),
            ("/orders/{*rest}", "/orders/", false),
            ("/{*rest}", "/orders/{*rest}", true),
            ("/a/{*rest}", "/b/{*rest}", false),
        ] {
            let (one, other) =
                (PathPattern::parse(one).unwrap(), PathPattern::parse(other).unwrap());
            assert_eq!(one.overlaps(&other), overlap, "{one} and {other}");
            assert_eq!(other.overlaps(&one), overlap, "{other} and {one}");
            assert!(PathPattern::any().overlaps(&one) && one.overlaps(&PathPattern::any()));
        }
    }

    #[test]
    fn the_pattern_for_everything_takes_every_path() {
        for path in ["/", "/a", "/a/b/", "/%C3"] {
            assert!(PathPattern::any().matches(path).is_some(), "{path}");
        }
        assert!(PathPattern::any().matches("*").is_none());
    }

    #[test]
    fn a_pattern_that_cannot_work_is_refused_with_its_reason() {
        use PatternError as E;
        for (text, error) in [
            ("orders", E::NoLeadingSlash),
            ("", E::NoLeadingSlash),
            ("/a?b", E::NotAPath),
            ("/{}", E::EmptyName),
            ("/{*}", E::EmptyName),
            ("/{a-b}", E::BadName("a-b".into())),
            ("/{a}/{a}", E::DuplicateName("a".into())),
            ("/{a}/{*a}", E::DuplicateName("a".into())),
            ("/{*rest}/a", E::MisplacedRest("rest".into())),
            ("/x{id}", E::BadSegment("x{id}".into())),
            ("/{id", E::BadSegment("{id".into())),
            ("/id}", E::BadSegment("id}".into())),
            ("/a\\d+", E::NeverMatches(PathProblem::Backslash)),
            ("/a//b", E::NeverMatches(PathProblem::EmptySegment)),
            ("/a/%2F", E::NeverMatches(PathProblem::EncodedSlash)),
        ] {
            assert_eq!(PathPattern::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn patterns_of_other_routers_are_refused_and_what_paths_really_have_is_not() {
        for segment in [
            ":id", "*", "x-*", "*.json", "**", "<id>", "<int:id>", "[id]", "[^x]+", "(.*)", "(a)+",
            "v.+", "(id)", "orders$", "^orders",
        ] {
            let other = Err(PatternError::OtherSyntax(segment.into()));
            assert_eq!(PathPattern::parse(&format!("/a/{segment}/b")), other, "{segment}");
        }
        for segment in [
            "$validate",
            "Orders(7)",
            "Orders(id=7,n='x')",
            "v1:run",
            "@scope",
            "c++",
            "a.b",
            "~me",
            "!x",
            "{{x}}",
            "%2A",
        ] {
            assert!(PathPattern::parse(&format!("/a/{segment}/b")).is_ok(), "{segment}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_screening_or_matching_panic(path in "\\PC{0,40}", pattern in "/[a-z{}*:/%]{0,20}") {
            let _ = screen(&path);
            if let Ok(pattern) = PathPattern::parse(&pattern) {
                let _ = pattern.matches(&path);
            }
        }

        #[test]
        fn a_path_that_two_patterns_match_makes_them_overlap(path in "(/[ab]{0,1}){1,3}") {
            let patterns = ["/{*r}", "/a/{x}", "/{x}/b", "/a/{*y}", "/a", "/a/", "/{x}", "/{x}/"];
            let patterns = patterns.map(|text| PathPattern::parse(text).unwrap());
            let matching: Vec<_> = patterns.iter().filter(|it| it.matches(&path).is_some()).collect();
            for one in &matching {
                for other in &matching {
                    prop_assert!(one.overlaps(other), "{} and {}", one, other);
                }
            }
        }

        #[test]
        fn encoding_any_unreserved_octet_changes_no_match(segment in "[a-zA-Z0-9_~-]{1,12}") {
            let encoded: String = segment.bytes().map(percent_encoding::percent_encode_byte).collect();
            let encoded = encoded.to_lowercase();
            let pattern = PathPattern::parse(&format!("/x/{segment}")).unwrap();
            let path = format!("/x/{encoded}");
            prop_assert!(pattern.matches(&path).is_some());
        }
    }
}
