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

/// How many of the widest networks that may be an operator's own a list may come to in all.
const OWN_NETWORKS: u128 = 4;

/// Whether a range is wider than any network of an operator's own.
fn is_everybody(range: &IpNet) -> bool {
    match canonical(range) {
        IpNet::V4(range) => range.prefix_len() < OWN_IPV4,
        IpNet::V6(range) => range.prefix_len() < OWN_IPV6,
    }
}

/// A range that a list comes to and that is wider than any network of an operator's own: one of
/// the list, or what parts of it that lie side by side make together, or everything, where the
/// parts add up to too much.
pub fn widest(ranges: &[IpNet]) -> Option<IpNet> {
    let whole = IpNet::aggregate(&ranges.iter().map(canonical).collect());
    let one = ranges.iter().chain(&whole).find(|range| is_everybody(range)).copied();
    let four = IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0).ok();
    let six = IpNet::new(Ipv6Addr::UNSPECIFIED.into(), 0).ok();
    one.or_else(|| [four, six].into_iter().flatten().find(|all| is_too_much(&whole, all)))
}

/// Whether ranges that do not overlap add up to too much of `all`.
fn is_too_much(ranges: &[IpNet], all: &IpNet) -> bool {
    let own = if matches!(all, IpNet::V4(_)) { OWN_IPV4 } else { OWN_IPV6 };
    let size = |length: u8| 1u128 << (all.max_prefix_len() - length);
    let within = ranges.iter().filter(|range| all.contains(*range));
    within.map(|range| size(range.prefix_len())).sum::<u128>() > OWN_NETWORKS * size(own)
}

/// Whether a range covers link-local addresses, or is within them.
pub fn covers_link_local(range: &IpNet) -> bool {
    link_local().iter().any(|link_local| meet(range, link_local))
}

/// A range of IPv4 addresses as such, however it was written: peers are compared like that.
pub(super) fn canonical(range: &IpNet) -> IpNet {
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
    fn a_list_is_judged_by_what_it_comes_to() {
        let slices = |length: u8, step: usize| -> Vec<IpNet> {
            let all = IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0).unwrap();
            all.subnets(length).unwrap().step_by(step).collect()
        };
        for (list, everybody) in [
            (slices(8, 1), true),
            (slices(8, 2), true),
            (slices(9, 1), true),
            (slices(12, 16), true),
            (slices(24, 1 << 8), false),
            (parsed("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 127.0.0.0/8"), false),
            (parsed("10.0.0.0/9 10.128.0.0/9"), false),
            (parsed("10.0.0.0/8 11.0.0.0/8"), true),
            (parsed("::ffff:10.0.0.0/104 11.0.0.0/8"), true),
            (parsed("2000::/16 2001::/16"), true),
            (parsed("2000::/16 2002::/16 2004::/16 2006::/16 2008::/16"), true),
            (parsed("fd00::/16 fe80::/16 ::1/128 10.0.0.0/8 127.0.0.1/32"), false),
            (Vec::new(), false),
        ] {
            assert_eq!(widest(&list).is_some(), everybody, "{:?}", list.first());
            assert!(widest(&list).is_none_or(|range| is_everybody(&range)), "{list:?}");
        }
    }

    fn parsed(list: &str) -> Vec<IpNet> {
        list.split(' ').map(|range| range.parse().unwrap()).collect()
    }

    #[test]
    fn a_range_of_ipv4_is_one_in_either_form() {
        for (written, canonical_form) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("fd00::/16", "fd00::/16"),
        ] {
            assert_eq!(canonical(&written.parse().unwrap()).to_string(), canonical_form);
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
