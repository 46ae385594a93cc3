//! The principal: reading from a request whose operations it may see.
//!
//! Owns reading the principal from a request. The invariant: a credential is never kept,
//! only its keyed digest. It must not know what the principal may do.

use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::{ApiSettings, Problem};
use crate::config::PrincipalRule;
use cloakroom_domain::{Principal, TicketKey};

/// The other end of the connection that a request came on: an extension that listeners
/// put into every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The caller of a request, and the operations that it may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Its own, by ticket.
    Client(Principal),
    /// All operations, by id or ticket: every caller of the admin listener.
    Operator,
}

/// The principal that a request belongs to, or 401.
///
/// `peer` is the other end of the connection: a field that names the principal counts
/// only from a trusted one.
pub fn principal_of(
    settings: &ApiSettings,
    key: &TicketKey,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<Principal, Problem> {
    match &settings.principal {
        PrincipalRule::None => Ok(Principal::everyone()),
        PrincipalRule::Header(name) => {
            let peer = peer.to_canonical();
            let trusted = settings.trusted_proxies.iter().any(|net| net.contains(&peer));
            let value = if trusted { only(headers, name)? } else { None };
            let value = value.ok_or_else(|| unnamed(name))?;
            Ok(Principal::named(value.as_bytes()))
        }
        PrincipalRule::Authorization => {
            let value = only(headers, &AUTHORIZATION)?.ok_or_else(|| {
                Problem::unauthorized(
                    "Bearer realm=\"cloakroom\"",
                    "send the authorization field that the operation was or will be sent with",
                )
            })?;
            Ok(Principal::named(key.digest("principal", &[value.as_bytes()])))
        }
    }
}

fn unnamed(name: &HeaderName) -> Problem {
    Problem::unauthorized(
        &format!("Trusted-Proxy realm=\"cloakroom\", field=\"{name}\""),
        format!(
            "the proxy in front has to name the principal in {name}: send the request through it, or sign in there"
        ),
    )
}

/// The value of a field that may be there once; none where it is empty.
pub fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next().filter(|value| !value.is_empty());
    if lines.next().is_some() {
        let detail = format!("there is more than one {name} field: send one");
        return Err(Problem::malformed_field(name.as_str(), detail));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RetryEstimates;
    use cloakroom_domain::http::public_url::PublicOrigin;

    fn settings(principal: PrincipalRule) -> ApiSettings {
        ApiSettings {
            prefix: "/-".into(),
            public: PublicOrigin::PerRequest,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            principal,
            shared: false,
            foreign_location: std::collections::HashMap::new(),
            relative_location: std::collections::HashSet::new(),
            pace: RetryEstimates::default(),
        }
    }

    fn of(
        rule: PrincipalRule,
        name: &'static str,
        values: &[&str],
        peer: &str,
    ) -> Result<Principal, u16> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        let key = TicketKey::new([1; 32]);
        principal_of(&settings(rule), &key, &headers, peer.parse().unwrap())
            .map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn a_field_names_the_principal_only_from_a_trusted_peer() {
        let by_field = |values: &[&str], peer: &str| {
            of(PrincipalRule::Header(HeaderName::from_static("x-user")), "x-user", values, peer)
        };
        assert_eq!(by_field(&["ann"], "10.1.2.3"), Ok(Principal::named("ann")));
        assert_eq!(by_field(&["ann"], "::ffff:10.1.2.3"), Ok(Principal::named("ann")));
        assert_eq!(by_field(&["ann"], "192.0.2.1"), Err(401));
        assert_eq!(by_field(&[], "10.1.2.3"), Err(401));
        assert_eq!(by_field(&[""], "10.1.2.3"), Err(401));
        assert_eq!(by_field(&["ann", "bob"], "10.1.2.3"), Err(400));
    }

    #[test]
    fn a_credential_becomes_a_digest_that_differs_by_credential() {
        let by = |value: &str| {
            of(PrincipalRule::Authorization, "authorization", &[value], "192.0.2.1").unwrap()
        };
        assert_eq!(by("Bearer ann"), by("Bearer ann"));
        assert_ne!(by("Bearer ann"), by("Bearer bob"));
        assert_eq!(by("Bearer ann").as_bytes().len(), 32);
        assert_eq!(of(PrincipalRule::Authorization, "x-other", &["a"], "192.0.2.1"), Err(401));
    }

    #[test]
    fn without_a_rule_everybody_is_one() {
        assert_eq!(
            of(PrincipalRule::None, "x-user", &["ann"], "192.0.2.1"),
            Ok(Principal::everyone())
        );
    }
}
