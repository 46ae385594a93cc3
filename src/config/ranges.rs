//! The check for address ranges that are wider than they look.
//!
//! Owns what counts as everybody, and what as link-local, in every form that such addresses
//! have.

use std::fmt;
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

/// Addresses that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
    /// The same as a range, if it is one.
    range: Option<IpNet>,
}

impl AddressRange {
    fn of(range: IpNet) -> Self {
        Self { first: range.network(), last: range.broadcast(), range: Some(range) }
    }

    /// Whether it is one of these ranges.
    pub fn is_one_of(&self, ranges: &[IpNet]) -> bool {
        self.range.is_some_and(|range| ranges.contains(&range))
    }

    /// Whether it is wider than any network of an operator's own.
    fn is_everybody(&self) -> bool {
        let (bits, own) = match self.first {
            IpAddr::V4(_) => (32, OWN_IPV4),
            IpAddr::V6(_) => (128, OWN_IPV6),
        };
        number(self.last) - number(self.first) >= 1 << (bits - own)
    }

    /// Puts a range that follows it at once onto its end.
    fn extended(self, range: &IpNet) -> Option<Self> {
        let (end, begin) = (self.last, range.network());
        let follows =
            end.is_ipv4() == begin.is_ipv4() && number(end).checked_add(1) == Some(number(begin));
        follows.then(|| Self { first: self.first, last: range.broadcast(), range: None })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.range {
            Some(range) => range.fmt(f),
            None => write!(f, "{} to {}", self.first, self.last),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => four.to_bits().into(),
        IpAddr::V6(six) => six.to_bits(),
    }
}

/// What a list comes to that is wider than any network of an operator's own: one of its ranges,
/// or what parts of it that lie side by side make together, or everything, where the parts add up
/// to too much.
pub fn widest(ranges: &[IpNet]) -> Option<AddressRange> {
    let mut whole = IpNet::aggregate(&ranges.iter().map(canonical).collect());
    whole.sort();
    let alone = ranges.iter().copied().filter(is_everybody).map(AddressRange::of);
    let mut spans: Vec<AddressRange> = Vec::new();
    for range in &whole {
        match spans.last_mut().and_then(|last| Some((last.extended(range)?, last))) {
            Some((longer, last)) => *last = longer,
            None => spans.push(AddressRange::of(*range)),
        }
    }
    let four = IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0).ok();
    let six = IpNet::new(Ipv6Addr::UNSPECIFIED.into(), 0).ok();
    let everything = [four, six]
        .into_iter()
        .flatten()
        .filter(|all| is_too_much(&whole, all))
        .map(AddressRange::of);
    alone.chain(spans.into_iter().filter(AddressRange::is_everybody)).chain(everything).next()
}

/// Whether ranges that do not overlap add up to too much of `all`.
fn is_too_much(ranges: &[IpNet], all: &IpNet) -> bool {
    let own = if matches!(all, IpNet::V4(_)) { OWN_IPV4 } else { OWN_IPV6 };
    let size = |length: u8| 1u128 << (all.max_prefix_len() - length);
    let within = ranges.iter().filter(|range| all.contains(*range));
    within.map(|range| size(range.prefix_len())).sum::<u128>() > OWN_NETWORKS * size(own)
}

/// Whether a range covers link-local addresses, or is within them, in whatever form.
pub fn covers_link_local(range: &IpNet) -> bool {
    let carried = carried(range);
    link_local().iter().chain(&carried).any(|link_local| meet(range, link_local))
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

/// 169.254.0.0/16, and its halves as an IPv6 address holds them.
const LINK_LOCAL: (Ipv4Addr, u8) = (Ipv4Addr::new(169, 254, 0, 0), 16);
const OWN: u16 = 0xa9fe;
const FLIPPED: u16 = !OWN;

/// Link-local addresses, and the forms of IPv6 that carry those of IPv4 behind a known prefix.
fn link_local() -> Vec<IpNet> {
    let forms = [
        ([0xfe80, 0, 0, 0, 0, 0, 0], 10),
        // Mapped, compatible, translated.
        ([0, 0, 0, 0, 0, 0xffff, OWN], 112),
        ([0, 0, 0, 0, 0, 0, OWN], 112),
        ([0, 0, 0, 0, 0xffff, 0, OWN], 112),
        // NAT64 (RFC 6052), and a local one (RFC 8215) by each length that its prefix may have.
        ([0x64, 0xff9b, 0, 0, 0, 0, OWN], 112),
        ([0x64, 0xff9b, 1, OWN, 0, 0, 0], 64),
        ([0x64, 0xff9b, 1, OWN >> 8, OWN & 0xff, 0, 0], 80),
        ([0x64, 0xff9b, 1, 0, OWN >> 8, OWN << 8, 0], 88),
        ([0x64, 0xff9b, 1, 0, 0, 0, OWN], 112),
        // 6to4 (RFC 3056), and Teredo (RFC 4380) by its server.
        ([0x2002, OWN, 0, 0, 0, 0, 0], 32),
        ([0x2001, 0, OWN, 0, 0, 0, 0], 48),
    ];
    let (four, length) = LINK_LOCAL;
    let own = IpNet::new(IpAddr::V4(four), length).ok();
    own.into_iter()
        .chain(forms.into_iter().filter_map(|(words, length)| form(words, length)))
        .collect()
}

/// The forms that carry an address behind a prefix of any network's own, for the one that this
/// range is in: a whole network of IPv6 does not count as covering them.
fn carried(range: &IpNet) -> Vec<IpNet> {
    let IpNet::V6(range) = range else { return Vec::new() };
    let [mut own @ .., _] = range.network().segments();
    let mut forms = Vec::new();
    // A client of Teredo's, whose bits are flipped.
    if range.prefix_len() > MAPPED && own[..2] == [0x2001, 0] {
        own[6] = FLIPPED;
        forms.push(form(own, 112));
    }
    // ISATAP (RFC 5214).
    if range.prefix_len() > 64 {
        for kind in [0, 0x200] {
            own[4..].copy_from_slice(&[kind, 0x5efe, OWN]);
            forms.push(form(own, 112));
        }
    }
    forms.into_iter().flatten().collect()
}

/// The range of addresses that begin with these words.
fn form(words: [u16; 7], length: u8) -> Option<IpNet> {
    let bits = words.into_iter().fold(0, |bits: u128, word| bits << 16 | u128::from(word));
    Ipv6Net::new(Ipv6Addr::from_bits(bits << 16), length).ok().map(IpNet::V6)
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
            (parsed("9.0.0.0/8 10.0.0.0/8"), true),
            (parsed("10.0.0.0/8 9.255.255.0/24"), true),
            (parsed("9.0.0.0/8 11.0.0.0/8"), false),
            (parsed("fd01::/16 fd02::/16"), true),
            (parsed("255.0.0.0/8 ::/128"), false),
            (parsed("::ffff:10.0.0.0/104 11.0.0.0/8"), true),
            (parsed("2000::/16 2001::/16"), true),
            (parsed("2000::/16 2002::/16 2004::/16 2006::/16 2008::/16"), true),
            (parsed("fd00::/16 fe80::/16 ::1/128 10.0.0.0/8 127.0.0.1/32"), false),
            (Vec::new(), false),
        ] {
            assert_eq!(widest(&list).is_some(), everybody, "{:?}", list.first());
            assert!(widest(&list).is_none_or(|span| span.is_everybody()), "{list:?}");
        }
    }

    #[test]
    fn what_a_list_comes_to_is_told_by_its_ends_where_it_is_no_range() {
        let told = |list| widest(&parsed(list)).unwrap().to_string();
        assert_eq!(told("9.0.0.0/8 10.0.0.0/8"), "9.0.0.0 to 10.255.255.255");
        assert_eq!(told("10.0.0.0/8 11.0.0.0/8"), "10.0.0.0/7");
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
            ("64:ff9b::a9fe:a9fe/128", true),
            ("64:ff9b:1::a9fe:0/112", true),
            ("64:ff9b:1:a9fe::/64", true),
            ("64:ff9b:1:a9:fe::/80", true),
            ("64:ff9b:1:0:a9:fe00::/88", true),
            ("64:ff9b:1::/48", true),
            ("2002:a9fe::/32", true),
            ("2002:a9fe:a9fe::1/128", true),
            ("2002::/16", true),
            ("2001:0:a9fe:a9fe::/64", true),
            ("2001::5601:5601/128", true),
            ("::169.254.169.254/128", true),
            ("::ffff:0:169.254.0.0/112", true),
            ("2001:db8::5efe:169.254.169.254/128", true),
            ("2001:db8::200:5efe:169.254.0.0/112", true),
            ("2001:db8::/64", false),
            ("2002:a00::/24", false),
            ("64:ff9b::10.0.0.0/104", false),
            ("64:ff9b:1:a00::/56", false),
            ("2001:db8::5efe:10.0.0.1/128", false),
            ("::/0", true),
            ("10.0.0.0/8", false),
            ("fec0::/10", false),
            ("::ffff:10.0.0.0/104", false),
        ] {
            assert_eq!(covers_link_local(&range.parse().unwrap()), covers, "{range}");
        }
    }
}
