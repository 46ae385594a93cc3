//! The bind of a listening socket, and the advice if it fails.
//!
//! Owns the messages for an address that cannot be listened on: each kind of error has its own
//! advice.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {why}; {}", advice(.address, .why, .setting))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What sets it, as `--listen (server.listen)`.
    pub setting: &'static str,
    /// What the system says.
    #[source]
    pub why: io::Error,
}

/// What to do where the system refuses an address.
pub fn advice(address: &SocketAddr, why: &io::Error, setting: &str) -> String {
    match why.kind() {
        ErrorKind::AddrInUse => {
            format!("stop what uses it (a running gateway?), or choose another with {setting}")
        }
        ErrorKind::PermissionDenied => format!(
            "ports below 1024 need a right of their own: choose one from 1024 on with {setting}, \
             or give the program that right (AmbientCapabilities=CAP_NET_BIND_SERVICE in its \
             systemd unit, or setcap cap_net_bind_service=+ep on its file)"
        ),
        ErrorKind::AddrNotAvailable => format!(
            "this machine has no address {}; name one of its own, or 0.0.0.0 for all of them, \
             with {setting}",
            address.ip()
        ),
        _ if address.is_ipv6() && is_unsupported(why) => {
            format!("this machine has no IPv6; name an IPv4 address with {setting}")
        }
        _ => format!("choose another with {setting}"),
    }
}

/// Binds; where every address is meant and the machine has no IPv6, every one of IPv4.
pub(super) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(why) if address.is_ipv6() && address.ip().is_unspecified() && lacks_ipv6(&why) => {
            TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()))).await
        }
        bound => bound,
    }
}

fn lacks_ipv6(why: &io::Error) -> bool {
    why.kind() == ErrorKind::AddrNotAvailable || is_unsupported(why)
}

fn is_unsupported(why: &io::Error) -> bool {
    why.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn each_refusal_of_the_system_has_its_own_advice() {
        let says = |address: &str, why: Errno| {
            let address = address.parse().unwrap();
            BindError { address, setting: "--listen", why: why.into() }.to_string()
        };
        let denied = says("127.0.0.1:80", Errno::ACCESS);
        assert!(denied.contains("CAP_NET_BIND_SERVICE") && denied.contains("1024"), "{denied}");
        assert!(!denied.contains("stop what uses it"), "{denied}");
        assert!(says("127.0.0.1:80", Errno::ADDRINUSE).contains("stop what uses it"));
        let elsewhere = says("192.0.2.1:80", Errno::ADDRNOTAVAIL);
        assert!(elsewhere.contains("no address 192.0.2.1"), "{elsewhere}");
        assert!(says("[::1]:80", Errno::AFNOSUPPORT).contains("no IPv6"));
        for why in [Errno::ACCESS, Errno::ADDRINUSE, Errno::ADDRNOTAVAIL, Errno::NOMEM] {
            assert!(says("127.0.0.1:80", why).contains("--listen"), "{why}");
        }
    }
}
