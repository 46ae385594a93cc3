//! The header fields that a subscriber may add to its deliveries.
//!
//! Owns the reserved names. Its invariant: no field that passes speaks for the gateway, frames the
//! message or steers the connection, in any spelling that some server takes for one of those.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::http::hygiene;

/// The most fields.
pub const MOST: usize = 10;

/// The longest value, in bytes.
pub const LONGEST: usize = 4096;

/// Why fields are refused; each names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadExtraField {
    /// More than [`MOST`].
    #[error("there are more than {MOST} headers")]
    TooMany,
    /// No name of a field.
    #[error("`{0}` is not the name of a header")]
    Name(String),
    /// The gateway's, the message's or the connection's.
    #[error("`{0}` cannot be set: the gateway sets it, or it belongs to the connection")]
    Reserved(String),
    /// The same twice.
    #[error("`{0}` stands there twice")]
    Twice(String),
    /// Control characters, or too long.
    #[error("the value of `{0}` has to be one line of at most {LONGEST} bytes in printable ASCII")]
    Value(String),
}

/// Families of names that belong to the message.
const FAMILIES: [&str; 3] = ["webhook-", "content-", "ce-"];

/// Names that the gateway sets.
const OWN: [&str; 3] = ["host", "idempotency-key", "user-agent"];

/// Whether a name, in any spelling, is not for subscribers to set.
pub fn is_reserved(name: &str) -> bool {
    let octets = name.as_bytes();
    let is_own = |own: &&str| octets.len() == own.len() && hygiene::is_of_family(octets, own);
    FAMILIES.iter().any(|family| hygiene::is_of_family(octets, family))
        || OWN.iter().any(is_own)
        || hygiene::is_about_the_way(octets)
}

/// Checks what a subscriber asks for. Values are marked sensitive.
pub fn check<'a>(
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<HeaderMap, BadExtraField> {
    let mut checked = HeaderMap::new();
    for (name, value) in fields {
        let named = || name.chars().take(64).collect::<String>();
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let header = parsed.map_err(|_| BadExtraField::Name(named()))?;
        if is_reserved(header.as_str()) {
            return Err(BadExtraField::Reserved(named()));
        }
        let printable = |octet: u8| matches!(octet, b' '..=b'~');
        if value.len() > LONGEST || !value.bytes().all(printable) {
            return Err(BadExtraField::Value(named()));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| BadExtraField::Value(named()))?;
        value.set_sensitive(true);
        if checked.insert(header, value).is_some() {
            return Err(BadExtraField::Twice(named()));
        }
        if checked.len() > MOST {
            return Err(BadExtraField::TooMany);
        }
    }
    Ok(checked)
}

/// Removes what [`check`] would have refused by its name: the second lock, for fields that
/// were kept for long.
pub fn remove_reserved(fields: &mut HeaderMap) {
    let reserved: Vec<HeaderName> =
        fields.keys().filter(|name| is_reserved(name.as_str())).cloned().collect();
    for name in reserved {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_the_gateways_or_the_connections_is_refused_by_name() {
        for name in [
            "webhook-id",
            "Webhook-Signature",
            "WEBHOOK_ID",
            "webhook_timestamp",
            "webhook-anything",
            "host",
            "Host",
            "content-type",
            "Content_Length",
            "content-encoding",
            "content-digest",
            "idempotency-key",
            "Idempotency_Key",
            "user-agent",
            "user_agent",
            "ce-id",
            "connection",
            "keep-alive",
            "Proxy_Connection",
            "te",
            "trailer",
            "transfer-encoding",
            "transfer_encoding",
            "upgrade",
            "proxy-authorization",
            "expect",
            "http2-settings",
            "cdn-loop",
            "CDN_Loop",
            "via",
            "forwarded",
            "x-forwarded-for",
            "x_forwarded_host",
            "x-real-ip",
        ] {
            let refused = check([(name, "x")]);
            assert_eq!(refused, Err(BadExtraField::Reserved(name.to_owned())));
        }
    }

    #[test]
    fn credentials_and_names_of_ones_own_pass_and_are_not_shown() {
        let fields = [("Authorization", "Bearer hunter2"), ("x-webhook-id", "a"), ("hosts", "b")];
        let checked = check(fields).unwrap();
        assert_eq!(checked["authorization"], "Bearer hunter2");
        assert!(checked.len() == 3 && !format!("{checked:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_no_field_is_refused_by_name() {
        assert_eq!(check([("a b", "x")]), Err(BadExtraField::Name("a b".into())));
        assert_eq!(check([("", "x")]), Err(BadExtraField::Name(String::new())));
        for value in ["a\r\nwebhook-id: x", "a\0", "\u{e4}", &"x".repeat(LONGEST + 1)] {
            assert_eq!(check([("x-a", value)]), Err(BadExtraField::Value("x-a".into())));
        }
        assert_eq!(check([("x-a", "1"), ("X-A", "2")]), Err(BadExtraField::Twice("X-A".into())));
        let names: Vec<String> = (0..=MOST).map(|n| format!("x-{n}")).collect();
        let eleven = names.iter().map(|name| (&**name, "x"));
        assert_eq!(check(eleven.clone()), Err(BadExtraField::TooMany));
        assert!(check(eleven.take(MOST)).is_ok());
    }

    proptest! {
        #[test]
        fn what_passes_needs_no_second_lock(
            fields in prop::collection::btree_map("[a-zA-Z_-]{1,18}", "[ -~]{0,20}", 0..6)
        ) {
            let pairs = fields.iter().map(|(name, value)| (&**name, &**value));
            if let Ok(checked) = check(pairs) {
                let mut again = checked.clone();
                remove_reserved(&mut again);
                prop_assert_eq!(again, checked);
            }
        }
    }
}
