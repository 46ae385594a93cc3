//! `Idempotency-Key`, and the comparison of two requests that use one key.
//!
//! Owns the reading of the key, and which parts of a request count. It must not know where keys are
//! stored.

use std::borrow::Cow;

use ::http::{HeaderMap, Method};

use super::grammar::{is_visible, quote, trim, unquote};
use super::media_type;
use crate::OperationId;
use crate::operation::Fingerprint;

/// The field that carries the key.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The longest key, in characters.
pub const LONGEST_KEY: usize = 255;

/// Why a key is refused (400).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// More than one line.
    #[error("the idempotency-key field is there {0} times: send one key on one line")]
    SeveralLines(usize),
    /// No character.
    #[error("the idempotency-key is empty: send 1 to 255 visible ascii characters")]
    Empty,
    /// Over [`LONGEST_KEY`] characters.
    #[error("the idempotency-key has {0} characters: send at most 255")]
    TooLong(usize),
    /// A space, a control character or something that is not ASCII.
    #[error("the idempotency-key has characters other than visible ascii: send 1 to 255 of those")]
    NotVisible,
    /// Neither a token nor a quoted string.
    #[error("the idempotency-key is neither a bare token nor one quoted string: put it in quotes")]
    Malformed,
}

/// A client's key: what counts, and the octets that it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentKey {
    /// The text inside a quoted string, or a bare token, so that `"k"` and `k` are one key.
    pub key: String,
    /// The field's value as it came, without blanks around it: what the upstream is sent.
    pub octets: String,
}

/// The key of a request, if it has one.
///
/// A bare key may have any visible ASCII except the characters that mean something in
/// field values (`"`, `\`, `,`, `;`): a comma there is what several keys look like after
/// a proxy has joined their lines.
pub fn key(headers: &HeaderMap) -> Result<Option<SentKey>, KeyProblem> {
    let mut lines = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    match lines.count() {
        0 => {}
        more => return Err(KeyProblem::SeveralLines(more + 1)),
    }
    let text = line.to_str().map_err(|_| KeyProblem::NotVisible)?;
    let octets = trim(text);
    Ok(Some(SentKey { key: parse_key(octets)?, octets: octets.to_owned() }))
}

/// Reads a key from the text of one field value; see [`key`].
pub fn parse_key(text: &str) -> Result<String, KeyProblem> {
    let key = if text.starts_with('"') {
        unquote(text).ok_or(KeyProblem::Malformed)?
    } else {
        text.to_owned()
    };
    if key.is_empty() {
        return Err(KeyProblem::Empty);
    }
    if !is_visible(&key) {
        return Err(KeyProblem::NotVisible);
    }
    if !text.starts_with('"') && key.contains(['"', '\\', ',', ';']) {
        return Err(KeyProblem::Malformed);
    }
    match key.len() {
        1..=LONGEST_KEY => Ok(key),
        length => Err(KeyProblem::TooLong(length)),
    }
}

/// The octets that the upstream is sent as the key of a request: the client's as they came,
/// else the operation's id as a quoted string.
pub fn sent_octets(octets: Option<&str>, id: OperationId) -> Cow<'_, str> {
    match octets {
        Some(octets) => Cow::Borrowed(octets),
        None => Cow::Owned(quote(&id.to_string())),
    }
}

/// What the octets of a key stand for: the text inside a quoted string, else the octets.
pub fn value_of(octets: &str) -> Cow<'_, str> {
    unquote(octets).map_or(Cow::Borrowed(octets), Cow::Owned)
}

/// The fingerprint of a request: it differs when any part does, absent and empty parts
/// included. Media types that mean the same are the same part.
///
/// `target` is the path and query as received; `credentials` is a keyed digest of those,
/// where callers are not told apart otherwise.
pub fn fingerprint(
    method: &Method,
    target: &str,
    content_type: Option<&[u8]>,
    body: &[u8],
    callback: Option<&str>,
    credentials: Option<[u8; 32]>,
) -> Fingerprint {
    let media_type = content_type.map(media_type::canonical);
    Fingerprint::of([
        Some(method.as_str().as_bytes()),
        Some(target.as_bytes()),
        media_type.as_deref(),
        Some(body),
        callback.map(str::as_bytes),
        credentials.as_ref().map(<[u8; 32]>::as_slice),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;
    use proptest::prelude::*;

    fn keys(values: &[&[u8]]) -> Result<Option<String>, KeyProblem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
        }
        Ok(key(&headers)?.map(|sent| sent.key))
    }

    #[test]
    fn the_upstream_gets_the_octets_that_came_and_a_quoted_id_where_none_did() {
        let id = OperationId::new(crate::Timestamp::EPOCH, 0, [1; 10]);
        for came in ["zz1", "\"zz1\"", r#""a\"b""#, "order:7/a=="] {
            let line = HeaderValue::from_str(&format!(" {came}\t")).unwrap();
            let headers =
                HeaderMap::from_iter([(::http::HeaderName::from_static(IDEMPOTENCY_KEY), line)]);
            let sent = key(&headers).unwrap().unwrap();
            assert_eq!(sent.octets, came);
            assert_eq!(sent_octets(Some(&sent.octets), id), came);
            assert_eq!(value_of(&sent.octets), sent.key);
        }
        assert_eq!(sent_octets(None, id), format!("\"{id}\""));
        assert_eq!(value_of(&sent_octets(None, id)), id.to_string());
    }

    #[test]
    fn quoted_and_bare_are_the_same_key() {
        let bare = keys(&[b"8e03978e-40d5-43dd"]).unwrap();
        assert_eq!(bare.as_deref(), Some("8e03978e-40d5-43dd"));
        assert_eq!(keys(&[b" \"8e03978e-40d5-43dd\" "]).unwrap(), bare);
        assert_eq!(keys(&[br#""a\"b\\c,;""#]).unwrap().as_deref(), Some(r#"a"b\c,;"#));
        assert_eq!(keys(&[b"order:7/a=="]).unwrap().as_deref(), Some("order:7/a=="));
        assert_eq!(keys(&[]), Ok(None));
    }

    #[test]
    fn a_key_has_1_to_255_characters() {
        assert!(keys(&[&[b'k'; 255]]).is_ok());
        assert_eq!(keys(&[&[b'k'; 256]]), Err(KeyProblem::TooLong(256)));
        assert_eq!(keys(&[b""]), Err(KeyProblem::Empty));
        assert_eq!(keys(&[b"\"\""]), Err(KeyProblem::Empty));
        let quoted = format!("\"{}\"", "k".repeat(255));
        assert!(keys(&[quoted.as_bytes()]).is_ok());
    }

    #[test]
    fn a_key_is_visible_ascii_on_one_line() {
        assert_eq!(keys(&[b"a b"]), Err(KeyProblem::NotVisible));
        assert_eq!(keys(&[b"\"a b\""]), Err(KeyProblem::NotVisible));
        assert_eq!(keys(&["é".as_bytes()]), Err(KeyProblem::NotVisible));
        assert_eq!(keys(&[b"a", b"a"]), Err(KeyProblem::SeveralLines(2)));
        for bad in [&b"a,b"[..], b"\"a", b"\"a\";p=1", b"\"a\",\"b\"", b"a\"", b"a;b"] {
            assert_eq!(keys(&[bad]), Err(KeyProblem::Malformed), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn the_fingerprint_changes_with_every_part() {
        let base = fingerprint(&Method::POST, "/a", None, b"b", None, None);
        let others = [
            fingerprint(&Method::PUT, "/a", None, b"b", None, None),
            fingerprint(&Method::POST, "/a?", None, b"b", None, None),
            fingerprint(&Method::POST, "/a", Some(b""), b"b", None, None),
            fingerprint(&Method::POST, "/a", None, b"bc", None, None),
            fingerprint(&Method::POST, "/ab", None, b"", None, None),
            fingerprint(&Method::POST, "/a", None, b"b", Some(""), None),
            fingerprint(&Method::POST, "/a", None, b"b", None, Some([0; 32])),
        ];
        assert!(others.iter().all(|other| *other != base));
        assert_eq!(fingerprint(&Method::POST, "/a", None, b"b", None, None), base);
        let typed = |kind: &[u8]| fingerprint(&Method::POST, "/a", Some(kind), b"b", None, None);
        assert_eq!(typed(b"text/html; charset=\"UTF-8\""), typed(b"Text/HTML;Charset=utf-8"));
        assert_ne!(typed(b"text/html"), typed(b"text/plain"));
    }

    proptest! {
        #[test]
        fn octets_never_move_from_one_part_into_the_next(all in "[a-z]{2,12}", one in 0usize..12, other in 0usize..12) {
            let (one, other) = (one % all.len(), other % all.len());
            let split = |at: usize| fingerprint(&Method::POST, &all[..at], Some(&all.as_bytes()[at..]), b"", None, None);
            prop_assert_eq!(split(one) == split(other), one == other);
        }

        #[test]
        fn whatever_is_a_key_is_one_when_quoted(text in "[ -~é]{0,300}") {
            if let Ok(key) = parse_key(&text) {
                prop_assert_eq!(parse_key(&quote(&key)), Ok(key));
            }
        }

        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&octets) {
                let _ = key(&HeaderMap::from_iter([(::http::HeaderName::from_static(IDEMPOTENCY_KEY), value)]));
            }
        }
    }
}
