//! The SSRF guard: keeps deliveries away from private addresses and from the gateway itself.
//!
//! Owns the way from a URL to addresses. Its invariant: addresses leave this module only
//! after all of them were checked, and the dialer takes addresses from here only. So a
//! name that is public when it is registered and private when it is dialled is not dialled,
//! and an address that needs no lookup is judged like one that was looked up.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use super::dns_lookups::{DnsLookups, PATIENCE};
use super::resolver::Resolver;
use cloakroom_domain::Principal;
use cloakroom_domain::webhooks::address::NotPublic;
use cloakroom_domain::webhooks::{
    BadDestination, DeliveryError, Destination, DestinationRules, NOT_PUBLIC,
};

/// Why a URL is not one that deliveries go to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardRefusal {
    /// It can never be, as things are configured.
    #[error(transparent)]
    Url(#[from] BadDestination),
    /// Its name stands for an address that may not be dialled, perhaps beside good ones.
    #[error("{0}; webhooks.allow opens a range")]
    Address(#[from] NotPublic),
    /// The gateway itself listens there.
    #[error("the gateway itself listens on {0}")]
    Own(SocketAddr),
    /// Its name cannot be looked up, or stands for nothing: perhaps only now.
    #[error("the host's name cannot be looked up: {0}")]
    Unresolvable(String),
    /// Its name was not looked up, because too many others are.
    #[error("the host's name is not looked up now: there are as many lookups as may be at once")]
    Busy,
    /// Its name was not looked up soon enough for who waits.
    #[error("the host's name was not looked up within {} s", PATIENCE.as_secs())]
    Slow,
}

impl GuardRefusal {
    /// The code that an attempt gets.
    pub const fn code(&self) -> DeliveryError {
        match self {
            Self::Url(BadDestination::Address(_)) | Self::Address(_) | Self::Own(_) => {
                DeliveryError::RefusedAddress
            }
            Self::Url(_) => DeliveryError::RefusedUrl,
            Self::Unresolvable(_) | Self::Busy | Self::Slow => DeliveryError::Unresolvable,
        }
    }

    /// Why, for those who are not to learn what a name stands for or how things are set here.
    pub fn kind(&self) -> String {
        match self {
            Self::Url(bad) => bad.kind(),
            Self::Address(_) => NOT_PUBLIC.to_owned(),
            Self::Own(_) => "the URL leads to the gateway itself".to_owned(),
            Self::Unresolvable(_) => "the host's name cannot be looked up".to_owned(),
            Self::Busy | Self::Slow => self.to_string(),
        }
    }
}

/// Judges URLs and the addresses they lead to.
#[derive(Clone, Debug)]
pub struct SsrfGuard {
    rules: DestinationRules,
    own_ports: Vec<u16>,
    resolver: Arc<dyn Resolver>,
}

impl SsrfGuard {
    /// `listeners` are the addresses that this gateway itself listens on.
    pub fn new(
        rules: DestinationRules,
        listeners: &[SocketAddr],
        resolver: Arc<dyn Resolver>,
    ) -> Self {
        let own_ports = listeners.iter().map(SocketAddr::port).collect();
        Self { rules, own_ports, resolver }
    }

    /// Judges a URL before it is kept for a principal, with what its name stands for now, or
    /// did a moment ago. [`GuardRefusal::Unresolvable`], [`GuardRefusal::Busy`] and [`GuardRefusal::Slow`] are
    /// the answers that may be others later.
    pub async fn check_url(
        &self,
        text: &str,
        whose: &Principal,
        lookups: &DnsLookups,
    ) -> Result<Destination, GuardRefusal> {
        let destination = self.parse(text)?;
        let found = match destination.address() {
            Some(address) => vec![address],
            None => lookups.look_up(destination.name(), whose).await?,
        };
        self.all_judged(found, destination.port())?;
        Ok(destination)
    }

    /// Judges a URL as far as its text tells.
    pub fn parse(&self, text: &str) -> Result<Destination, BadDestination> {
        Destination::parse(text, &self.rules)
    }

    /// The addresses of a destination that may be dialled now.
    pub(super) async fn addresses(
        &self,
        to: &Destination,
    ) -> Result<Vec<SocketAddr>, GuardRefusal> {
        let unresolvable = |error: io::Error| GuardRefusal::Unresolvable(error.to_string());
        let found = match to.address() {
            Some(address) => vec![address],
            None => self.resolver.look_up(to.name()).await.map_err(unresolvable)?,
        };
        self.all_judged(found, to.port())
    }

    fn all_judged(&self, found: Vec<IpAddr>, port: u16) -> Result<Vec<SocketAddr>, GuardRefusal> {
        if found.is_empty() {
            return Err(GuardRefusal::Unresolvable("it stands for no address".to_owned()));
        }
        found.into_iter().map(|address| self.judged(address, port)).collect()
    }

    fn judged(&self, address: IpAddr, port: u16) -> Result<SocketAddr, GuardRefusal> {
        self.rules.judge_address(address)?;
        let dialled = SocketAddr::new(address, port);
        match self.own_ports.contains(&port) && is_local(address) {
            true => Err(GuardRefusal::Own(dialled)),
            false => Ok(dialled),
        }
    }
}

/// Whether an address is one of this machine's: only then can it be bound to. What cannot
/// be found out counts as one.
fn is_local(address: IpAddr) -> bool {
    let bound = UdpSocket::bind((address, 0));
    !bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_knows_its_own_addresses() {
        for local in ["127.0.0.1", "127.9.9.9", "0.0.0.0"] {
            assert!(is_local(local.parse().unwrap()), "{local}");
        }
        assert!(!is_local("192.0.2.1".parse().unwrap()));
    }
}
