//! The destination URL of deliveries, and the rules that it must meet.
//!
//! Owns what such a URL may contain. Its invariant: a URL is checked as it will be used, with every
//! spelling of a host already normalized to the one that is dialled. The addresses of a name are looked
//! up later, and checked by [`DestinationRules::judge_address`] right before dialling. Errors do not
//! repeat the URL: it may hold a secret.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Position, Url};

use super::address::{self, NotPublic};

/// The longest URL, in bytes.
pub const LONGEST: usize = 2048;

/// What is wrong with an address that may not be dialled, without the address.
pub const NOT_PUBLIC: &str = "the URL leads to an address that is not public";

/// What an operator allows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DestinationRules {
    /// Ranges that may be dialled though they are not public.
    pub allow: Vec<IpNet>,
    /// Whether plain http may be used.
    pub allow_http: bool,
    /// The ports that may be dialled.
    pub ports: Vec<u16>,
    /// What the gateway itself is reached under: never a destination.
    pub public_url: Option<Url>,
}

impl DestinationRules {
    /// Whether an address may be dialled.
    pub fn judge_address(&self, address: IpAddr) -> Result<(), NotPublic> {
        address::judge(address, &self.allow)
    }

    /// On loopback many things share one host: there only the ports of the gateway's own
    /// listeners are refused, and the dialer knows those.
    fn is_public_host(&self, host: Option<&Host<&str>>) -> bool {
        let own = self.public_url.as_ref().and_then(Url::host);
        match (own.as_ref().map(plain), host.map(plain)) {
            (Some(own), Some(host)) => own == host && !is_loopback(&own),
            _ => false,
        }
    }
}

/// A host without the dot that may end it.
fn plain(host: &Host<&str>) -> Host<String> {
    match host {
        Host::Domain(name) => Host::Domain(name.trim_end_matches('.').to_owned()),
        Host::Ipv4(v4) => Host::Ipv4(*v4),
        Host::Ipv6(v6) => Host::Ipv6(*v6),
    }
}

/// A name below `localhost` is loopback, whatever a resolver says of it (RFC 6761 section 6.3).
fn is_loopback(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(v4) => v4.is_loopback(),
        Host::Ipv6(v6) => v6.is_loopback(),
    }
}

/// Why a delivery can never go there, as things are configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDestination {
    /// Not a URL with a host.
    #[error("this is not a URL: write one like https://example.com/hooks")]
    NoUrl,
    /// Longer than [`LONGEST`].
    #[error("the URL is longer than {LONGEST} bytes")]
    TooLong,
    /// Characters that one reader takes for this and another for that.
    #[error("the URL has spaces, control characters or a backslash: write them percent-encoded")]
    Spelling,
    /// Another scheme.
    #[error("the URL has to begin with https://")]
    Scheme,
    /// Plain http.
    #[error("the URL has to begin with https://; plain http is off (webhooks.allow_http)")]
    PlainHttp,
    /// A user name or a password.
    #[error("leave out what stands before the @: put credentials into the subscription's headers")]
    UserInfo,
    /// What is never sent.
    #[error("leave out what begins with #: it is never sent")]
    Fragment,
    /// A port that is not allowed.
    #[error("port {0} may not be used; those of webhooks.ports may")]
    Port(u16),
    /// The gateway itself, by its public name.
    #[error("this is the gateway's own host")]
    Own,
    /// An address that is not public.
    #[error("{0}; webhooks.allow opens a range")]
    Address(#[from] NotPublic),
}

impl BadDestination {
    /// The same for those who are not to learn how things are set here.
    pub fn kind(&self) -> String {
        match self {
            Self::PlainHttp => Self::Scheme.to_string(),
            Self::Port(port) => format!("port {port} may not be used"),
            Self::Address(_) => NOT_PUBLIC.to_owned(),
            Self::NoUrl
            | Self::TooLong
            | Self::Spelling
            | Self::Scheme
            | Self::UserInfo
            | Self::Fragment
            | Self::Own => self.to_string(),
        }
    }
}

/// A URL that deliveries may go to, if what its host stands for may be dialled too.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination(Url);

/// Its path may hold a secret.
impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Destination").field(&self.origin()).finish()
    }
}

impl Destination {
    /// Reads a URL and judges it, with its host if that is an address.
    pub fn parse(text: &str, rules: &DestinationRules) -> Result<Self, BadDestination> {
        check_spelling(text)?;
        let url = Url::parse(text).map_err(|_| BadDestination::NoUrl)?;
        match url.scheme() {
            "https" => {}
            "http" if rules.allow_http => {}
            "http" => return Err(BadDestination::PlainHttp),
            _ => return Err(BadDestination::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() || has_userinfo(text) {
            return Err(BadDestination::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(BadDestination::Fragment);
        }
        if !has_authority(text) {
            return Err(BadDestination::NoUrl);
        }
        let destination = Self(url);
        let port = destination.port();
        if !rules.ports.contains(&port) {
            return Err(BadDestination::Port(port));
        }
        if rules.is_public_host(destination.0.host().as_ref()) {
            return Err(BadDestination::Own);
        }
        if let Some(address) = destination.address() {
            rules.judge_address(address)?;
        }
        if destination.0.host().is_some_and(|host| is_loopback(&plain(&host))) {
            let [v4, v6] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            rules.judge_address(v4).or_else(|not_public| {
                rules.judge_address(v6).map_err(|_| BadDestination::Address(not_public))
            })?;
        }
        Ok(destination)
    }

    /// Whether it is reached over TLS.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The port that is dialled.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// The address, where the URL names one and no name has to be looked up.
    pub fn address(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Domain(_) => None,
            Host::Ipv4(v4) => Some(v4.into()),
            Host::Ipv6(v6) => Some(v6.into()),
        }
    }

    /// The name that has to be looked up; of an address, its text without brackets.
    pub fn name(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Scheme, host and port: what connections are shared by.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// What stands in `Host`: host, and the port if it is not the scheme's own.
    pub fn authority(&self) -> &str {
        &self.0[Position::BeforeHost..Position::AfterPort]
    }

    /// Path and query, as they are requested.
    pub fn target(&self) -> &str {
        &self.0[Position::BeforePath..Position::AfterQuery]
    }

    /// The whole, as it was normalised.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The parser would drop some of these in silence and turn others into something else.
fn check_spelling(text: &str) -> Result<(), BadDestination> {
    if text.len() > LONGEST {
        return Err(BadDestination::TooLong);
    }
    match text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        true => Err(BadDestination::Spelling),
        false => Ok(()),
    }
}

/// Whether a host stands right behind two slashes. Browsers take other numbers of them for two.
fn has_authority(text: &str) -> bool {
    let behind = text.split_once("://").map(|(_, rest)| rest);
    behind.is_some_and(|rest| !rest.starts_with('/'))
}

/// An `@` in the authority, also where nothing stands before it.
fn has_userinfo(text: &str) -> bool {
    let after_scheme = text.split_once(':').map_or("", |(_, rest)| rest.trim_start_matches('/'));
    after_scheme.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

#[cfg(test)]
#[path = "destination_tests.rs"]
mod tests;
