//! Ranges of addresses that are wider than they look.
//!
//! Owns what counts as everybody, and what as link-local, in every form that such addresses
//! have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The shortest prefix that can be an operator's own network: 10.0.0.0/8, and the same idea.
const OWN_IPV4: u8 = 8;
const OWN_IPV6: u8 = 16;
/// How many bits of an IPv4 address written as an IPv6 one are not its own.
const MAPPED: u8 = 96;

/// Whether a range is wider than any network of an operator's own.
pub fn is_everybody(range: &IpNet) -> bool {
    match canonical(range) {
        IpNet::V4(range) => range.prefix_len() < OWN_IPV4,
        IpNet::V6(range) => range.prefix_len() < OWN_IPV6,
    }
}

/// Whether a range covers link-local addresses, or is within them.
pub fn covers_link_local(range: &IpNet) -> bool {
    link_local().iter().any(|link_local| meet(range, link_local))
}

/// A range of IPv4 addresses as such, however it was written.
fn canonical(range: &IpNet) -> IpNet {
    let IpNet::V6(six) = range else { return *range };
    let Some(length) = six.prefix_len().checked_sub(MAPPED) else { return *range };
    match six.network().to_ipv4_mapped().map(|address| Ipv4Net::new(address, length)) {
        Some(Ok(four)) => IpNet::V4(four),
        _ => *range,
    }
}

fn meet(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

fn link_local() -> Vec<IpNet> {
    let (four, length) = (Ipv4Addr::new(169, 254, 0, 0), 16);
    let carried = [four.to_ipv6_mapped(), nat64(four)];
    let six = [(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)];
    let six = six.into_iter().chain(carried.map(|address| (address, MAPPED + length)));
    let nets = six.filter_map(|(address, length)| Ipv6Net::new(address, length).ok());
    let own = IpNet::new(IpAddr::V4(four), length).ok();
    own.into_iter().chain(nets.map(IpNet::V6)).collect()
}

/// RFC 6052: the well-known prefix before an IPv4 address.
fn nat64(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets();
    Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_whatever_is_wider_than_a_network_of_ones_own() {
        for (range, everybody) in [
            ("0.0.0.0/0", true),
            ("128.0.0.0/1", true),
            ("10.0.0.0/7", true),
            ("10.0.0.0/8", false),
            ("::/0", true),
            ("2000::/3", true),
            ("fc00::/7", true),
            ("fd00::/16", false),
            ("::ffff:0:0/96", true),
            ("::ffff:10.0.0.0/103", true),
            ("::ffff:10.0.0.0/104", false),
        ] {
            assert_eq!(is_everybody(&range.parse().unwrap()), everybody, "{range}");
        }
    }

    #[test]
    fn link_local_is_found_in_every_form() {
        for (range, covers) in [
            ("169.254.0.0/16", true),
            ("169.254.169.254/32", true),
            ("160.0.0.0/4", true),
            ("fe80::/10", true),
            ("fe80::1/128", true),
            ("::ffff:169.254.1.1/128", true),
            ("64:ff9b::169.254.0.0/112", true),
            ("64:ff9b::/96", true),
            ("::/0", true),
            ("10.0.0.0/8", false),
            ("fec0::/10", false),
            ("::ffff:10.0.0.0/104", false),
        ] {
            assert_eq!(covers_link_local(&range.parse().unwrap()), covers, "{range}");
        }
    }
}
