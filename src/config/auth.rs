//! `[auth]`: the principal that a request belongs to.
//!
//! Owns the choice, not the check. Its invariant: a field that names the principal is
//! only believed where trusted proxies are named.

use http::{HeaderName, header};
use ipnet::IpNet;

use cloakroom_domain::http::{anonymous_fields, hygiene};

use super::{
    raw_value::RawValue,
    reader::Section,
    setting::{Setting, header_name, is_of_the_connection},
};

/// The principal of a request, and access to the operations of all principals.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthConfig {
    /// The rule that tells callers apart.
    pub principal: PrincipalRule,
    /// Whether lists of everybody's operations are on the public listener; only where
    /// nothing tells callers apart.
    pub shared: bool,
}

/// The rule that tells callers apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrincipalRule {
    /// Nothing: all callers are one principal.
    None,
    /// This field, as a trusted proxy sets it.
    Header(HeaderName),
    /// A keyed digest of the `Authorization` field.
    Authorization,
}

impl AuthConfig {
    pub(super) fn read(section: &mut Section<'_>, proxies: &[IpNet]) -> Self {
        let principal = section.checked("principal", PrincipalRule::None, |rule| match rule {
            PrincipalRule::Header(name) if proxies.is_empty() => Err(format!(
                "header:{name} can be set by anybody unless a proxy in front sets it; list that \
                 proxy in server.trusted_proxies, like [\"10.0.0.0/8\"]"
            )),
            _ => Ok(()),
        });
        let shared = section.checked("shared", false, |shared| {
            if *shared && principal != PrincipalRule::None {
                return Err(
                    "has no meaning where auth.principal tells callers apart; leave it out"
                        .to_owned(),
                );
            }
            Ok(())
        });
        Self { principal, shared }
    }
}

impl Setting for PrincipalRule {
    fn read(given: &RawValue) -> Result<Self, String> {
        let text = given.text()?;
        let possible = "possible: none, header:NAME, authorization";
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "authorization" => Ok(Self::Authorization),
            Some(("header", name)) => principal_field(name).map(Self::Header),
            Some(("jwt", _)) => Err(format!("jwt is not available in this version; {possible}")),
            None if matches!(text, "api-keys" | "jwt") => {
                Err(format!("{text} is not available in this version; {possible}"))
            }
            _ => Err(format!("`{text}` tells no callers apart; {possible}")),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Header(name) => format!("header:{name}"),
            Self::Authorization => "authorization".to_owned(),
        }
    }
}

fn principal_field(name: &str) -> Result<HeaderName, String> {
    let name = header_name(name)?;
    if name == header::AUTHORIZATION {
        return Err("write principal = \"authorization\" to go by that field".to_owned());
    }
    if is_of_the_connection(&name) {
        return Err(format!("{name} belongs to the connection; name a field that a proxy sets"));
    }
    if is_clients(&name) {
        return Err(format!(
            "what a client writes into {name} stays in it; name a field that the proxy sets alone, \
             like X-User"
        ));
    }
    Ok(name)
}

/// Whether a field holds what a client says, whatever proxies add to it.
fn is_clients(name: &HeaderName) -> bool {
    anonymous_fields::is_anonymous(name.as_str()) || hygiene::is_gateways(name.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, load, read};
    use super::*;

    fn faults_of(text: &str) -> String {
        load(text).err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn principal(rule: &str) -> String {
        format!("[auth]\nprincipal = \"{rule}\"\n")
    }

    #[test]
    fn nothing_tells_callers_apart_unless_told() {
        let auth = read("").auth;
        assert_eq!(auth, AuthConfig { principal: PrincipalRule::None, shared: false });
        let rule = read(&principal("authorization")).auth.principal;
        assert_eq!(rule, PrincipalRule::Authorization);
    }

    #[test]
    fn a_field_needs_a_trusted_proxy() {
        let says = faults(&principal("header:X-User"));
        assert!(says.contains("auth.principal") && says.contains("server.trusted_proxies"));
        let eighths: Vec<_> = (0..=255).map(|first| format!("{first}.0.0.0/8")).collect();
        for (listed, everybody) in [
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("128.0.0.0/1", "128.0.0.0/1"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
            (&eighths.join("\", \""), "0.0.0.0/0"),
        ] {
            let text = format!("[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"{listed}\"]");
            let says = faults(&(principal("header:X-User") + &text));
            assert!(says.contains("server.trusted_proxies") && says.contains(everybody), "{says}");
            assert!(!faults_of(&text).contains("trusted_proxies"), "{everybody}");
        }
        let trusted = "[server]\ntrusted_proxies = [\"10.0.0.0/8\"]";
        let rule = read(&(principal("header:X-User") + trusted)).auth.principal;
        assert_eq!(rule, PrincipalRule::Header(HeaderName::from_static("x-user")));
    }

    #[test]
    fn a_field_that_holds_what_a_client_says_names_nobody() {
        let trusted = "[server]\ntrusted_proxies = [\"10.0.0.0/8\"]";
        for name in [
            "X-Forwarded-For",
            "Forwarded",
            "Cookie",
            "Via",
            "Operation-Id",
            "Idempotency-Key",
            "Client-Reference",
            "Callback-Url",
        ] {
            let says = faults(&(principal(&format!("header:{name}")) + trusted));
            assert!(says.contains("auth.principal") && says.contains("X-User"), "{name}: {says}");
        }
        for name in ["User-Agent", "Prefer", "Referer", "Origin", "Accept-Language", "Content-Type"]
        {
            let says = faults(&(principal(&format!("header:{name}")) + trusted));
            assert!(says.contains("auth.principal") && says.contains("X-User"), "{name}: {says}");
        }
        for name in ["User_Agent", "X_Forwarded_For", "Idempotency_Key", "Sec_Fetch_Site"] {
            let says = faults(&(principal(&format!("header:{name}")) + trusted));
            assert!(says.contains("auth.principal") && says.contains("X-User"), "{name}: {says}");
        }
        let says = faults(&(principal("header:Transfer_Encoding") + trusted));
        assert!(says.contains("belongs to the connection"), "{says}");
        for name in [
            "X_Forwarded_User",
            "X-Forwarded-User",
            "X-Auth-Request-Email",
            "X-Real-IP",
            "Remote-User",
        ] {
            assert!(
                faults_of(&(principal(&format!("header:{name}")) + trusted)).is_empty(),
                "{name}"
            );
        }
    }

    #[test]
    fn what_comes_later_is_said_to_come_later() {
        for rule in ["jwt:sub", "jwt", "api-keys"] {
            let says = faults(&principal(rule));
            assert!(says.contains("not available in this version"), "{rule}: {says}");
        }
    }

    #[test]
    fn other_rules_are_refused_with_the_possible_ones() {
        for rule in ["", "header", "header:", "header:a b", "cookie:x", "header:Host"] {
            assert!(faults(&principal(rule)).contains("auth.principal"), "{rule}");
        }
        assert!(faults(&principal("nobody")).contains("none, header:NAME, authorization"));
        assert!(
            faults(&principal("header:Authorization")).contains("principal = \"authorization\"")
        );
    }

    #[test]
    fn sharing_has_no_meaning_between_principals() {
        assert!(read("[auth]\nshared = true").auth.shared);
        let says = faults(&(principal("authorization") + "shared = true"));
        assert!(says.contains("auth.shared"), "{says}");
    }
}
