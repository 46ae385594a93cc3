//! The trace of an operation (W3C Trace Context).
//!
//! Owns `traceparent`: a client's own is passed on, and an operation without one gets a trace that is
//! derived from its id. It must not know who reads traces.

use ::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::OperationId;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Drops a `traceparent` that is none, and the `tracestate` that belonged to it.
pub fn screen(fields: &mut HeaderMap) {
    if !fields.get(&TRACEPARENT).is_some_and(|value| is_trace(value.as_bytes())) {
        fields.remove(TRACEPARENT);
        fields.remove("tracestate");
    }
}

/// Gives an operation's request the trace that its id names, unless it has one.
pub fn complete(fields: &mut HeaderMap, id: OperationId) {
    if !fields.contains_key(&TRACEPARENT)
        && let Ok(value) = HeaderValue::from_str(&trace_of(id))
    {
        fields.insert(TRACEPARENT, value);
    }
}

/// Whether a value is a `traceparent` of version 00 (W3C Trace Context section 3.2) or
/// of a later one, which may be longer.
fn is_trace(value: &[u8]) -> bool {
    let hex = |octets: &[u8]| octets.iter().all(|o| matches!(o, b'0'..=b'9' | b'a'..=b'f'));
    let set = |octets: &[u8]| hex(octets) && octets.iter().any(|octet| *octet != b'0');
    let whole = value.len() == 55 || (value.len() > 55 && value[55] == b'-');
    whole
        && [2, 35, 52].into_iter().all(|dash| value[dash] == b'-')
        && hex(&value[..2])
        && set(&value[3..35])
        && set(&value[36..52])
        && hex(&value[53..55])
}

/// The trace of an operation that came without one: named by its id.
fn trace_of(id: OperationId) -> String {
    let trace = u128::from_be_bytes(*id.as_bytes());
    // The variant's bit keeps the lower half from being zero.
    format!("00-{trace:032x}-{:016x}-01", trace as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    fn id() -> OperationId {
        OperationId::new(Timestamp::from_micros(1_700_000_000_000_000), 7, [0; 10])
    }

    #[test]
    fn a_trace_is_told_from_what_is_none() {
        let made = trace_of(id());
        assert!(is_trace(made.as_bytes()), "{made}");
        assert_eq!(made[3..35], id().to_string().replace('-', ""));
        for wrong in ["", "00-0-0-01", &made.to_uppercase().replace("00-", "zz-"), &made[..54]] {
            assert!(!is_trace(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_clients_trace_is_kept_and_one_is_made_where_there_is_none() {
        let theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (given, kept) in [(theirs, true), ("nonsense", false)] {
            let mut fields = HeaderMap::new();
            fields.insert(TRACEPARENT, HeaderValue::from_static(given));
            fields.insert("tracestate", HeaderValue::from_static("a=1"));
            screen(&mut fields);
            assert_eq!(fields.contains_key("tracestate"), kept);
            complete(&mut fields, id());
            assert_eq!(fields[TRACEPARENT] == given, kept);
            assert!(is_trace(fields[TRACEPARENT].as_bytes()));
        }
    }
}
