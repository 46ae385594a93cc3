//! The origin that the links of an answer are built on.

use std::net::IpAddr;

use http::HeaderMap;

use super::{ApiSettings, Problem};
use cloakroom_domain::http::forwarded::{RequestSender, Scheme};
use cloakroom_domain::http::links::Links;
use cloakroom_domain::http::public_url;

/// The public origin for links in the answer to this request, without a slash at its
/// end; 400 where it follows the `Host` and that is none.
pub fn base(settings: &ApiSettings, headers: &HeaderMap, peer: IpAddr) -> Result<String, Problem> {
    let sender = RequestSender::of(peer, &settings.trusted_proxies, headers);
    // The listeners speak plain HTTP; TLS ends at a proxy in front, which says so.
    Ok(settings.public.for_request(headers, &sender, Scheme::Http)?)
}

/// The origin of the listener itself, by the `Host` that was asked for.
pub fn of_host(headers: &HeaderMap) -> Result<String, Problem> {
    let host = public_url::host(headers)?.ok_or(public_url::HostProblem::Missing)?;
    Ok(format!("{}://{host}", Scheme::Http))
}

/// The links of the operation that `ticket` names.
pub fn links(settings: &ApiSettings, base: &str, ticket: impl std::fmt::Display) -> Links {
    Links::new(base, &settings.prefix, ticket)
}
