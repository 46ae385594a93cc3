//! The basic grammar of field values (RFC 9110 section 5.6).
//!
//! Owns tokens, quoted strings, lists and whole numbers. It must not know the meaning of any field.

use std::borrow::Cow;

use ::http::{HeaderMap, HeaderValue};

/// Whether an octet may stand in a token.
pub(super) fn is_tchar(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// Whether the text is a token: one or more token characters.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// Whether every character is visible ASCII (0x21 to 0x7E).
pub(super) fn is_visible(text: &str) -> bool {
    text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// The text without optional whitespace around it.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// The parts of a text between separators, trimmed. A separator inside a quoted string
/// separates nothing; a quoted string that never ends takes the rest of the text.
pub(super) fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quotes = Quotes::default();
    text.split(move |character| !quotes.holds(character) && character == separator).map(trim)
}

/// Whether a reader stands inside a quoted string.
#[derive(Clone, Copy, Debug, Default)]
struct Quotes {
    open: bool,
    escaped: bool,
}

impl Quotes {
    /// Whether the next character belongs to a quoted string, its quotes included.
    fn holds(&mut self, next: char) -> bool {
        let was_open = self.open;
        match next {
            _ if self.escaped => self.escaped = false,
            '\\' if was_open => self.escaped = true,
            '"' => self.open = !was_open,
            _ => {}
        }
        was_open || next == '"'
    }
}

/// The members of a comma-separated list; empty ones do not count (section 5.6.1.2).
pub(super) fn members(text: &str) -> impl Iterator<Item = &str> {
    split(text, ',').filter(|member| !member.is_empty())
}

/// The members of a list to which several senders added, one after another. Where a quoted
/// string never ends, quotes separate nothing: what one sender left open would take in what
/// the next one, who may be believed, has added.
pub(super) fn elements(text: &str) -> Vec<&str> {
    let mut quotes = Quotes::default();
    for character in text.chars() {
        quotes.holds(character);
    }
    if quotes.open { plain_members(text).collect() } else { members(text).collect() }
}

/// The members of a list, whatever is quoted in it.
pub(super) fn plain_members(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(trim).filter(|member| !member.is_empty())
}

/// The text inside a quoted string (section 5.6.4), if the whole of `text` is one.
pub(super) fn unquote(text: &str) -> Option<String> {
    let inside = text.strip_prefix('"')?;
    let mut plain = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    loop {
        match characters.next()? {
            '"' => return characters.as_str().is_empty().then_some(plain),
            '\\' => plain.push(characters.next()?),
            other => plain.push(other),
        }
    }
}

/// The text as a quoted string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

/// The text of a token or a quoted string.
pub(super) fn word(text: &str) -> Option<String> {
    if is_token(text) { Some(text.to_owned()) } else { unquote(text) }
}

/// A name and what follows its `=`, as in a parameter: `name`, `name=token`,
/// `name="quoted"`, with whitespace allowed around the `=`. The name comes in lower case.
pub(super) fn pair(text: &str) -> Option<(String, Option<String>)> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (trim(name), Some(word(trim(value))?)),
        None => (text, None),
    };
    is_token(name).then(|| (name.to_ascii_lowercase(), value))
}

/// A whole number written in digits only. One that is too large counts as the largest.
pub(super) fn whole_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The lines of a field. An octet that is no text spoils its own member of a list and no
/// other: a line that vanished would be as if it had not been sent.
pub(super) fn lines<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
    headers.get_all(name).into_iter().map(text)
}

/// A value as text, with a sign that no token has in the place of octets that are none.
pub(super) fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// What a message may repeat of what a client sent: printable, and short.
pub(super) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 64;
    text.chars()
        .take(LONGEST)
        .map(|character| if character.is_control() { '?' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_comma_inside_quotes_separates_nothing() {
        let text = r#"a, "b,\",c" ,, d;e="f,g""#;
        let found: Vec<_> = members(text).collect();
        assert_eq!(found, ["a", r#""b,\",c""#, r#"d;e="f,g""#]);
    }

    #[test]
    fn what_one_sender_left_open_takes_in_nothing_that_the_next_one_added() {
        for (text, found) in [
            (r#"a="x, b="y, c="#, vec![r#"a="x, b="y"#, "c="]),
            (r#"host=evil;for=", for=192.0.2.7"#, vec![r#"host=evil;for=""#, "for=192.0.2.7"]),
            (r#"a=", for="[::1]""#, vec![r#"a=""#, r#"for="[::1]""#]),
            (r#"a="\, b"#, vec![r#"a="\"#, "b"]),
            (r#"a="x, y", b"#, vec![r#"a="x, y""#, "b"]),
        ] {
            assert_eq!(elements(text), found, "{text}");
        }
    }

    #[test]
    fn an_octet_that_is_no_text_spoils_its_own_member_only() {
        let value = HeaderValue::from_bytes(b"a\xe9, b").unwrap();
        let line = text(&value);
        let found: Vec<_> = members(&line).map(is_token).collect();
        assert_eq!(found, [false, true]);
    }

    #[test]
    fn an_unended_quote_is_no_quoted_string() {
        assert_eq!(unquote(r#""ab"#), None);
        assert_eq!(unquote(r#""ab\""#), None);
        assert_eq!(unquote(r#""ab"c"#), None);
        assert_eq!(unquote(r#""a\"b""#).as_deref(), Some("a\"b"));
    }

    #[test]
    fn a_number_is_digits_only_and_saturates() {
        assert_eq!(whole_number("007"), Some(7));
        assert_eq!(whole_number("99999999999999999999999"), Some(u64::MAX));
        for bad in ["", "-1", "+1", "1.5", " 1", "1s", "١"] {
            assert_eq!(whole_number(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pair_needs_a_name_and_a_whole_word() {
        assert_eq!(pair("Wait = 10"), Some(("wait".into(), Some("10".into()))));
        assert_eq!(pair("a=\"b c\""), Some(("a".into(), Some("b c".into()))));
        assert_eq!(pair("a"), Some(("a".into(), None)));
        for bad in ["", "=1", "a b", "a=", "a=b c", "a=\"b"] {
            assert_eq!(pair(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(text in ".{0,40}") {
            let back = unquote(&quote(&text));
            prop_assert_eq!(back.as_deref(), Some(text.as_str()));
        }

        #[test]
        fn no_text_makes_the_grammar_panic(text in ".{0,60}") {
            members(&text).for_each(|member| drop((word(member), pair(member))));
            let _ = (whole_number(&text), excerpt(&text));
        }
    }
}
