//! The rewriting of an upstream's location fields to their public form.
//!
//! Owns which fields are rewritten and how: at once for an answer that is proxied, in two steps for one
//! that is recorded, because each reader has its own public origin. The invariant: a recorded field
//! never names the upstream. It must not know who reads the answer.

use ::http::header::{
    CONTENT_LOCATION, HeaderMap, HeaderName, HeaderValue, LINK, LOCATION, REFRESH,
};

use super::location::{LocationTarget, OwnOrigins, public, requested};

/// So many octets may be written and read over to move the references of one answer. Each costs
/// what it is resolved against, which a client chooses, and an upstream chooses how many there
/// are: without a limit, both together would cost the product.
const MOST_WORK: usize = 1024 * 1024;

/// Fields that hold one URL.
const SINGLE: [HeaderName; 4] = [
    LOCATION,
    CONTENT_LOCATION,
    HeaderName::from_static("operation-location"),
    HeaderName::from_static("azure-asyncoperation"),
];

/// Puts what names the gateway's own places onto the public origin, in an answer to a
/// request for `target` that passes. All other places stay as they came.
pub fn pass(headers: &mut HeaderMap, home: OwnOrigins<'_>, target: &str, base: &str) {
    let requested = requested(home.upstream, target);
    for name in &SINGLE {
        first_line(headers, name, |value| match home.resolve_from(&requested, value) {
            LocationTarget::Own(path) => Some(public(&path, base)),
            LocationTarget::Foreign(_) | LocationTarget::Unusable => None,
        });
    }
    let moved = |value: &[u8]| match home.resolve_from(&requested, value) {
        LocationTarget::Own(path) => Some(public(&path, base)),
        LocationTarget::Foreign(_) | LocationTarget::Unusable => None,
    };
    // A relative reference means the same place there as here.
    move_references(headers, requested.as_str().len() + base.len(), is_absolute, moved);
}

/// Prepares the fields of an answer to a request for `target` for being recorded: what is
/// the gateway's own becomes a path, what leads nowhere goes.
pub fn record(headers: &mut HeaderMap, home: OwnOrigins<'_>, target: &str) {
    let requested = requested(home.upstream, target);
    let resolve = |value: &[u8]| home.resolve_from(&requested, value);
    for name in &SINGLE {
        first_line(headers, name, |value| resolve(value).url(""));
        if headers.get(name).is_some_and(|value| resolve(value.as_bytes()).is_unusable()) {
            headers.remove(name);
        }
    }
    let moved = |value: &[u8]| match resolve(value) {
        LocationTarget::Own(path) => Some(path),
        LocationTarget::Foreign(_) | LocationTarget::Unusable => None,
    };
    move_references(headers, requested.as_str().len(), |_| true, moved);
}

/// Puts recorded paths onto the public origin.
pub fn show(headers: &mut HeaderMap, base: &str) {
    let is_path = |value: &[u8]| value.starts_with(b"/");
    let moved = |value: &[u8]| {
        let path = std::str::from_utf8(value).ok().filter(|_| is_path(value))?;
        Some(public(path, base))
    };
    for name in &SINGLE {
        first_line(headers, name, moved);
    }
    move_references(headers, base.len(), is_path, moved);
}

/// Moves those references in `Link` and `Refresh` that may move. Each of them costs `each` octets
/// and its own length; a line with more than [`MOST_WORK`] is left out.
fn move_references(
    headers: &mut HeaderMap,
    each: usize,
    may_move: impl Fn(&[u8]) -> bool,
    moved: impl Fn(&[u8]) -> Option<String>,
) {
    let mut left = MOST_WORK;
    let mut bounded = |value: &[u8]| {
        if !may_move(value) {
            return Ok(None);
        }
        left = left.checked_sub(each + value.len()).ok_or(TooMuch)?;
        Ok(moved(value))
    };
    each_line(headers, &LINK, |value| links(value, &mut bounded));
    each_line(headers, &REFRESH, |value| refresh(value, &mut bounded));
}

/// The references of an answer cost more than they may.
#[derive(Debug)]
struct TooMuch;

/// Keeps one line of a field that is to have one: the first that `moved` has an answer
/// for, else the first.
fn first_line(headers: &mut HeaderMap, name: &HeaderName, moved: impl Fn(&[u8]) -> Option<String>) {
    let Some(first) = headers.get(name) else { return };
    let mut lines = headers.get_all(name).iter();
    let found = lines.find_map(|line| HeaderValue::try_from(moved(line.as_bytes())?).ok());
    let kept = found.unwrap_or_else(|| first.clone());
    headers.insert(name, kept);
}

fn each_line(
    headers: &mut HeaderMap,
    name: &HeaderName,
    mut rewritten: impl FnMut(&[u8]) -> Result<Vec<u8>, TooMuch>,
) {
    if !headers.contains_key(name) {
        return;
    }
    let lines: Vec<HeaderValue> = headers.get_all(name).iter().cloned().collect();
    headers.remove(name);
    for line in lines {
        let Ok(written) = rewritten(line.as_bytes()) else { continue };
        headers.append(name, HeaderValue::from_bytes(&written).unwrap_or(line));
    }
}

/// Whether a reference names a host.
fn is_absolute(reference: &[u8]) -> bool {
    let trimmed = reference.trim_ascii();
    let scheme = trimmed.split(|octet| b"/?#".contains(octet)).next().unwrap_or_default();
    trimmed.starts_with(b"//") || scheme.contains(&b':')
}

/// The value of a `Link` (RFC 8288) with its targets and anchors moved.
fn links(
    value: &[u8],
    mut moved: impl FnMut(&[u8]) -> Result<Option<String>, TooMuch>,
) -> Result<Vec<u8>, TooMuch> {
    let mut written = Vec::with_capacity(value.len());
    let mut rest = value;
    // What has no end seen from here has none seen from further on: it is looked for once. Of a
    // quoted string that holds because all quotation marks behind it are then escaped.
    let (mut targets_end, mut strings_end) = (true, true);
    while let Some((&octet, behind)) = rest.split_first() {
        rest = behind;
        let end = match octet {
            b'<' if targets_end => {
                let end = behind.iter().position(|octet| *octet == b'>');
                targets_end = end.is_some();
                end
            }
            b'"' if strings_end => {
                let end = end_of_quoted(behind);
                strings_end = end.is_some();
                end
            }
            _ => None,
        };
        let is_reference = octet == b'<' || ends_with_anchor(&written);
        written.push(octet);
        let Some(end) = end else { continue };
        let inner = &behind[..end];
        match if is_reference { moved(inner)? } else { None } {
            Some(url) => written.extend_from_slice(url.as_bytes()),
            None => written.extend_from_slice(inner),
        }
        written.push(behind[end]);
        rest = &behind[end + 1..];
    }
    Ok(written)
}

/// Where a quoted string ends whose first octet was a quotation mark.
fn end_of_quoted(octets: &[u8]) -> Option<usize> {
    let mut escaped = false;
    octets.iter().position(|octet| {
        let ends = *octet == b'"' && !escaped;
        escaped = *octet == b'\\' && !escaped;
        ends
    })
}

fn ends_with_anchor(written: &[u8]) -> bool {
    let Some(name) = written.trim_ascii_end().strip_suffix(b"=") else { return false };
    let name = name.trim_ascii_end();
    name.len() >= 6 && name[name.len() - 6..].eq_ignore_ascii_case(b"anchor")
}

/// The value of a `Refresh` (`5; url=/there`) with its URL moved.
fn refresh(
    value: &[u8],
    mut moved: impl FnMut(&[u8]) -> Result<Option<String>, TooMuch>,
) -> Result<Vec<u8>, TooMuch> {
    let at = value.windows(4).position(|part| part.eq_ignore_ascii_case(b"url="));
    let Some(at) = at else { return Ok(value.to_vec()) };
    let (before, url) = value.split_at(at + 4);
    let url = url.trim_ascii();
    let bare = match url.first() {
        Some(quote @ (b'"' | b'\'')) => {
            let inner = &url[1..];
            &inner[..inner.iter().position(|octet| octet == quote).unwrap_or(inner.len())]
        }
        _ => url,
    };
    Ok(match moved(bare)? {
        Some(url) => [before, url.as_bytes()].concat(),
        None => value.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::header::AsHeaderName;
    use proptest::prelude::*;
    use url::Url;

    const BASE: &str = "https://api.example.com/base";

    fn map(fields: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn all(headers: &HeaderMap, name: impl AsHeaderName) -> Vec<String> {
        let lines = headers.get_all(name).iter();
        lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect()
    }

    fn at_home<T>(work: impl FnOnce(OwnOrigins<'_>) -> T) -> T {
        let upstream = Url::parse("http://up:9000").unwrap();
        let public = [Url::parse(BASE).unwrap()];
        work(OwnOrigins { upstream: &upstream, public: &public })
    }

    fn passed(fields: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = map(fields);
        at_home(|home| pass(&mut headers, home, "/shop/orders", BASE));
        headers
    }

    fn recorded(fields: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = map(fields);
        at_home(|home| record(&mut headers, home, "/shop/orders"));
        headers
    }

    #[test]
    fn of_several_lines_one_is_kept_and_it_never_names_the_upstream() {
        for lines in [
            &[&b"http://up:9000/7"[..], b"http://up:9000/8"][..],
            &[b"http://elsewhere.example/", b"https://up:9000/7"],
            &[b"7", b"8"],
        ] {
            let fields: Vec<_> = lines.iter().map(|line| ("location", *line)).collect();
            let shown = all(&passed(&fields), "location");
            assert!(matches!(&shown[..], [one] if one.starts_with(BASE)), "{shown:?}");
        }
        let foreign = [("location", &b"http://a.example/"[..]), ("location", b"http://b.example/")];
        assert_eq!(all(&passed(&foreign), "location"), ["http://a.example/"]);
    }

    #[test]
    fn what_names_a_monitor_of_the_upstreams_moves_too() {
        for name in ["content-location", "operation-location", "azure-asyncoperation"] {
            let shown = all(&passed(&[(name, b"http://up:9000/jobs/1")]), name);
            assert_eq!(shown, [format!("{BASE}/jobs/1")]);
        }
    }

    #[test]
    fn links_move_with_their_anchors_and_keep_everything_else() {
        for (given, wanted) in [
            (r#"<http://up:9000/a?p=2>; rel="next""#, r#"<B/a?p=2>; rel="next""#),
            ("<https://up:9000/a>;rel=next,<//up:9000/b>", "<B/a>;rel=next,<B/b>"),
            ("</a>; rel=up, <b>", "</a>; rel=up, <b>"),
            (
                r#"<http://x.example/>; anchor="http://up:9000/c""#,
                r#"<http://x.example/>; anchor="B/c""#,
            ),
            (r#"</a>; title="<http://up:9000/>""#, r#"</a>; title="<http://up:9000/>""#),
            (r#"</a>; title="\"", <http://up:9000/d>"#, r#"</a>; title="\"", <B/d>"#),
            ("<http://up:9000/e", "<http://up:9000/e"),
            ("</a>; title=\"open", "</a>; title=\"open"),
        ] {
            let shown = all(&passed(&[("link", given.as_bytes())]), "link");
            assert_eq!(shown, [wanted.replace('B', BASE)]);
        }
    }

    #[test]
    fn a_link_with_more_references_than_may_be_moved_is_left_out() {
        let target = format!("/{}/x", "a".repeat(60_000));
        let many = ["</a>,".repeat(50_000), "<..>,".repeat(50_000), "<?>,".repeat(50_000)];
        for line in many {
            let fields = [("link", line.as_bytes()), ("etag", &b"\"1\""[..])];
            let mut headers = map(&fields);
            at_home(|home| record(&mut headers, home, &target));
            assert_eq!(headers.keys().collect::<Vec<_>>(), ["etag"], "{}", &line[..5]);
        }
        // References that stay as they came cost nothing.
        let mut headers = map(&[("link", "<a>,".repeat(50_000).as_bytes())]);
        let before = headers.clone();
        at_home(|home| pass(&mut headers, home, "/", BASE));
        assert!(headers == before);
    }

    #[test]
    fn a_refresh_moves() {
        for (given, wanted) in [
            ("5; url=http://up:9000/a", "5; url=B/a"),
            ("5;URL='http://up:9000/a'", "5;URL=B/a"),
            ("5; url=/a", "5; url=/a"),
            ("5", "5"),
        ] {
            let shown = all(&passed(&[("refresh", given.as_bytes())]), "refresh");
            assert_eq!(shown, [wanted.replace('B', BASE)]);
        }
    }

    #[test]
    fn what_is_recorded_is_shown_on_the_origin_of_its_reader() {
        let fields = [
            ("location", &b"http://up:9000/7"[..]),
            ("content-location", b"7?v=2"),
            ("link", b"<b>; rel=next, <http://up:9000//c>, <http://x.example/>"),
            ("link", b"</d>"),
        ];
        let mut headers = recorded(&fields);
        assert_eq!(all(&headers, "content-location"), ["/shop/7?v=2"]);
        show(&mut headers, "https://other.example");
        assert_eq!(all(&headers, "location"), ["https://other.example/7"]);
        assert_eq!(all(&headers, "content-location"), ["https://other.example/shop/7?v=2"]);
        let shop = "<https://other.example/shop/b>; rel=next";
        let links = [
            format!("{shop}, <https://other.example//c>, <http://x.example/>"),
            "<https://other.example/d>".to_owned(),
        ];
        assert_eq!(all(&headers, "link"), links);
    }

    #[test]
    fn what_leads_nowhere_is_not_recorded_and_a_foreign_place_stays() {
        let nowhere = recorded(&[("content-location", b"javascript:alert(1)"), ("location", b"")]);
        assert!(nowhere.is_empty());
        let foreign = recorded(&[("content-location", b"http://x.example/7")]);
        assert_eq!(all(&foreign, "content-location"), ["http://x.example/7"]);
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic_and_what_is_not_own_stays(octets in prop::collection::vec(any::<u8>(), 0..80), text in "[<>\"\\\\, ;=/:a-z]{0,60}") {
            for octets in [octets, text.into_bytes()] {
                prop_assert_eq!(links(&octets, |_| Ok(None)).unwrap(), octets.clone());
                prop_assert_eq!(refresh(&octets, |_| Ok(None)).unwrap(), octets.clone());
                if let Ok(value) = HeaderValue::from_bytes(&octets) {
                    let _ = (recorded(&[("link", value.as_bytes())]), passed(&[("refresh", value.as_bytes())]));
                }
            }
        }
    }
}
