//! Content negotiation: the form of an answer that a request prefers.
//!
//! Owns the reading of `Accept` as far as the resources need it.

use http::HeaderMap;
use http::header::ACCEPT;

use super::response::DOCUMENT_TYPE;

/// The type of a live event stream.
pub(super) const STREAM_TYPE: &str = "text/event-stream";

/// The form that the request names; ranges such as `*/*` name none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseForm {
    /// Whatever the resource gives by itself.
    Usual,
    /// Live events.
    Stream,
    /// The document itself, no redirect.
    Document,
}

impl ResponseForm {
    /// The form that the request likes best; of equals the first that it names. Whatever
    /// else it likes better than those stands for the usual one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let (mut best, mut else_liked) = ((Self::Usual, 0.0), 0.0);
        for range in members(headers) {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().map(str::to_ascii_lowercase);
            let quality = parts.find_map(quality).unwrap_or(1.0);
            let form = match name.as_deref() {
                Some(STREAM_TYPE) => Self::Stream,
                Some(DOCUMENT_TYPE) => Self::Document,
                _ => {
                    else_liked = quality.max(else_liked);
                    continue;
                }
            };
            if quality > best.1 {
                best = (form, quality);
            }
        }
        if else_liked > best.1 { Self::Usual } else { best.0 }
    }
}

fn quality(parameter: &str) -> Option<f32> {
    let (name, value) = parameter.split_once('=')?;
    name.eq_ignore_ascii_case("q").then(|| value.parse().unwrap_or(0.0))
}

fn members(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(ACCEPT).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, value.parse().unwrap());
        headers
    }

    #[test]
    fn a_form_is_asked_for_by_its_name_only() {
        for (accept, form) in [
            ("*/*", ResponseForm::Usual),
            ("text/*, application/json", ResponseForm::Usual),
            ("text/event-stream", ResponseForm::Stream),
            ("Text/Event-Stream, */*", ResponseForm::Stream),
            ("Text/Event-Stream; q=0.5, */*; q=0.1", ResponseForm::Stream),
            ("text/event-stream; q=0.5, */*", ResponseForm::Usual),
            ("application/json, text/event-stream; q=0.9", ResponseForm::Usual),
            ("text/event-stream;q=0", ResponseForm::Usual),
            ("application/vnd.cloakroom.operation+json", ResponseForm::Document),
            (
                "text/event-stream;q=0.1, application/vnd.cloakroom.operation+json;q=0.2",
                ResponseForm::Document,
            ),
            ("text/event-stream, application/vnd.cloakroom.operation+json", ResponseForm::Stream),
            ("text/event-stream;q=x", ResponseForm::Usual),
        ] {
            assert_eq!(ResponseForm::of(&with(accept)), form, "{accept}");
        }
        assert_eq!(ResponseForm::of(&HeaderMap::new()), ResponseForm::Usual);
    }
}
