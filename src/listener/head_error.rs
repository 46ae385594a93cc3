//! Problem responses to a request head that cannot be read.
//!
//! Owns the octets of these responses: nothing above the listener ever sees such a request, so they
//! replace hyper's own. It must not know when they are due.

use http::StatusCode;

use crate::api::Problem;

/// The limits that a head may have exceeded.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    pub(super) headers: usize,
    pub(super) body: usize,
}

/// What stands for the head that hyper made by itself; none where that is no refusal.
/// `is_long` says that the request announces a body too long to be counted.
pub(super) fn instead_of(head: &[u8], most: HeadLimits, is_long: bool) -> Option<Vec<u8>> {
    const FIELDS: StatusCode = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let status = head.strip_prefix(b"HTTP/1.1 ").or_else(|| head.strip_prefix(b"HTTP/1.0 "))?;
    let problem = match StatusCode::from_bytes(status.get(..3)?).ok()? {
        StatusCode::BAD_REQUEST | FIELDS if is_long => Problem::body_too_large(most.body as u64),
        StatusCode::BAD_REQUEST => Problem::malformed_request(),
        StatusCode::URI_TOO_LONG => Problem::target_too_long(),
        FIELDS => Problem::headers_too_large(most.headers as u64),
        _ => return None,
    };
    let lines = head.split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii_end);
    let mut dates =
        lines.filter(|line| line.get(..5).is_some_and(|n| n.eq_ignore_ascii_case(b"date:")));
    Some(octets(problem, dates.next()))
}

/// For a head that was begun and never became whole.
pub(super) fn too_slow() -> Vec<u8> {
    octets(Problem::too_slow(), None)
}

fn octets(problem: Problem, date: Option<&[u8]>) -> Vec<u8> {
    let (status, fields, body) = problem.into_parts();
    let mut octets = format!("HTTP/1.1 {status}\r\nconnection: close\r\n").into_bytes();
    if let Some(date) = date {
        octets.extend_from_slice(date);
        octets.extend_from_slice(b"\r\n");
    }
    for (name, value) in &fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            octets.extend_from_slice(part);
        }
    }
    octets.extend_from_slice(b"\r\n");
    octets.extend_from_slice(&body);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: HeadLimits = HeadLimits { headers: 9, body: 7 };

    #[test]
    fn a_length_beyond_counting_is_a_body_over_the_limit() {
        for status in [400, 431] {
            let head = format!("HTTP/1.1 {status} x\r\n\r\n");
            let text = String::from_utf8(instead_of(head.as_bytes(), MOST, true).unwrap()).unwrap();
            assert!(text.starts_with("HTTP/1.1 413 ") && text.contains("\"limit\":7"), "{text}");
        }
    }

    #[test]
    fn refusals_become_problems_that_keep_the_date_and_all_else_is_left_alone() {
        for (status, name) in
            [(400, "malformed-request"), (414, "target-too-long"), (431, "header-too-large")]
        {
            let head = format!("HTTP/1.1 {status} x\r\ndate: today\r\n\r\n");
            let text =
                String::from_utf8(instead_of(head.as_bytes(), MOST, false).unwrap()).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            let fields = ["date: today", "connection: close", "gateway-origin: cloakroom"];
            assert!(fields.iter().all(|field| text.contains(field)), "{text}");
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}", body.len())), "{text}");
            assert!(body.contains(name), "{text}");
        }
        for other in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 4", "hello", ""] {
            assert_eq!(instead_of(other.as_bytes(), MOST, false), None, "{other}");
        }
    }
}
