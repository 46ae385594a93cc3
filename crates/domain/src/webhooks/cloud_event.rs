//! CloudEvents 1.0: the alternative body of a delivery (structured mode), and the handshake that asks a
//! receiver for permission (HTTP webhook 1.0).
//!
//! Owns both forms. Its invariant: the same event gives the same octets.

use http::HeaderMap;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::Timestamp;

/// The content type of [`structured`].
pub const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// Says who asks.
pub const REQUEST_ORIGIN: &str = "webhook-request-origin";
const ALLOWED_ORIGIN: &str = "webhook-allowed-origin";
const ALLOWED_RATE: &str = "webhook-allowed-rate";

/// What an event is, in either form.
#[derive(Clone, Copy, Debug)]
pub struct CloudEvent<'a> {
    /// The same as `webhook-id`.
    pub id: &'a str,
    /// Like `operation.succeeded`.
    pub kind: &'a str,
    /// When it happened.
    pub time: Timestamp,
    /// The ledger that it comes from.
    pub ledger: crate::ticket::LedgerNumber,
    /// What it tells, as JSON.
    pub data: &'a [u8],
}

/// The event as one JSON text. Data that is not JSON is carried as base64.
pub fn structured(event: &CloudEvent<'_>) -> Vec<u8> {
    let mut head = json!({
        "specversion": "1.0",
        "id": event.id,
        "source": format!("urn:cloakroom:ledger:{}", event.ledger),
        "type": event.kind,
        "time": event.time.rfc3339(),
    });
    if serde_json::from_slice::<IgnoredAny>(event.data).is_err() {
        head["data_base64"] = super::key::encode(event.data).into();
        return head.to_string().into_bytes();
    }
    head["datacontenttype"] = "application/json".into();
    let mut text = head.to_string().into_bytes();
    // Data goes in as it is, not read and written anew: numbers keep their digits.
    text.pop();
    text.extend_from_slice(b",\"data\":");
    text.extend_from_slice(event.data);
    text.push(b'}');
    text
}

/// What a receiver allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// How many deliveries in a minute; as many as come where it named none.
    pub per_minute: Option<u32>,
}

/// What the fields of a 2xx allow who asked as `origin`; nothing unless they name it.
pub fn permission(fields: &HeaderMap, origin: &str) -> Option<Permission> {
    let text = |name| fields.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let allowed = text(ALLOWED_ORIGIN)?;
    if allowed != "*" && !allowed.eq_ignore_ascii_case(origin) {
        return None;
    }
    match text(ALLOWED_RATE) {
        None | Some("*") => Some(Permission { per_minute: None }),
        // A rate that cannot be read is none that could be kept.
        Some(rate) => {
            let per_minute = rate.parse().ok().filter(|rate| *rate > 0)?;
            Some(Permission { per_minute: Some(per_minute) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const EVENT: CloudEvent<'static> = CloudEvent {
        id: "msg_1",
        kind: "operation.succeeded",
        time: Timestamp::from_micros(1_614_265_330_000_000),
        ledger: 7,
        data: br#"{"big":12345678901234567890123,"sequence":1}"#,
    };

    #[test]
    fn an_event_is_one_json_text_with_its_data_untouched() {
        let text = String::from_utf8(structured(&EVENT)).unwrap();
        assert_eq!(
            text,
            r#"{"specversion":"1.0","id":"msg_1","source":"urn:cloakroom:ledger:7","type":"operation.succeeded","time":"2021-02-25T15:02:10.000000Z","datacontenttype":"application/json","data":{"big":12345678901234567890123,"sequence":1}}"#
        );
        assert_eq!(structured(&EVENT), text.into_bytes());
    }

    #[test]
    fn data_that_is_no_json_is_carried_as_base64() {
        for data in [&b"not json"[..], b"", b"1 2", b"{}}"] {
            let text = structured(&CloudEvent { data, ..EVENT });
            let event: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(event["data_base64"], super::super::key::encode(data));
            assert!(event.get("data").is_none() && event.get("datacontenttype").is_none());
        }
    }

    #[test]
    fn only_who_is_named_is_allowed_and_only_at_a_rate_that_can_be_read() {
        let asked = |fields: &[(&'static str, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| {
                (name.parse().unwrap(), http::HeaderValue::from_static(value))
            });
            permission(&fields.collect(), "api.example.com")
        };
        let unbounded = Some(Permission { per_minute: None });
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[(ALLOWED_ORIGIN, "other.example")]), None);
        assert_eq!(asked(&[(ALLOWED_ORIGIN, "*")]), unbounded);
        assert_eq!(asked(&[(ALLOWED_ORIGIN, "API.example.com"), (ALLOWED_RATE, "*")]), unbounded);
        let slow = asked(&[(ALLOWED_ORIGIN, "*"), (ALLOWED_RATE, "120")]);
        assert_eq!(slow, Some(Permission { per_minute: Some(120) }));
        assert_eq!(asked(&[(ALLOWED_ORIGIN, "*"), (ALLOWED_RATE, "0")]), None);
        assert_eq!(asked(&[(ALLOWED_ORIGIN, "*"), (ALLOWED_RATE, "soon")]), None);
    }
}
