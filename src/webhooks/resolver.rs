//! The DNS resolver.

use std::io;
use std::net::IpAddr;

use async_trait::async_trait;

/// Looks names up.
#[async_trait]
pub trait Resolver: std::fmt::Debug + Send + Sync {
    /// All addresses of a name, the one to be tried first in front.
    async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Asks this machine: its hosts file and its name servers, as it is set up to.
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}
