//! The public addresses of the internet.
//!
//! Owns the tables: IANA's special-purpose addresses, and the metadata addresses of clouds. Its
//! invariants: of IPv6 only listed global unicast passes, so an unknown form never does; and an IPv4
//! address inside an IPv6 one is checked too. It must not know how an address was found.
//!
//! Sources: the IANA registries of special-purpose addresses for IPv4 and IPv6 (RFC 6890 and its
//! updates), and of the IPv6 address space.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why an address is not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is not public: it is {kind}")]
pub struct NotPublic {
    /// The address as it would have been dialled.
    pub address: IpAddr,
    /// What it is.
    pub kind: &'static str,
}

const fn v4(octets: [u8; 4], prefix: u8, kind: &'static str) -> (Ipv4Net, &'static str) {
    let [a, b, c, d] = octets;
    (Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix), kind)
}

const fn v6(words: [u16; 4], prefix: u8, kind: &'static str) -> (Ipv6Net, &'static str) {
    let [a, b, c, d] = words;
    (Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix), kind)
}

/// Special IPv4 ranges; all others are public.
pub(super) const SPECIAL_V4: [(Ipv4Net, &str); 19] = [
    v4([0, 0, 0, 0], 8, "of this network (RFC 791)"),
    v4([10, 0, 0, 0], 8, "private (RFC 1918)"),
    v4([100, 64, 0, 0], 10, "shared by a carrier (RFC 6598)"),
    v4([127, 0, 0, 0], 8, "loopback (RFC 1122)"),
    v4([169, 254, 0, 0], 16, "link-local, where clouds keep credentials (RFC 3927)"),
    v4([172, 16, 0, 0], 12, "private (RFC 1918)"),
    v4([192, 0, 0, 0], 24, "kept for protocols (RFC 6890)"),
    v4([192, 0, 2, 0], 24, "for documentation (RFC 5737)"),
    v4([192, 31, 196, 0], 24, "of AS112 (RFC 7535)"),
    v4([192, 52, 193, 0], 24, "for AMT (RFC 7450)"),
    v4([192, 88, 99, 0], 24, "of a 6to4 relay (RFC 7526)"),
    v4([192, 168, 0, 0], 16, "private (RFC 1918)"),
    v4([192, 175, 48, 0], 24, "of AS112 (RFC 7534)"),
    v4([198, 18, 0, 0], 15, "for benchmarks (RFC 2544)"),
    v4([198, 51, 100, 0], 24, "for documentation (RFC 5737)"),
    v4([203, 0, 113, 0], 24, "for documentation (RFC 5737)"),
    v4([224, 0, 0, 0], 4, "multicast (RFC 1112)"),
    v4([240, 0, 0, 0], 4, "reserved (RFC 1112)"),
    // Not special to IANA: the host under a virtual machine answers there.
    v4([168, 63, 129, 16], 32, "of a cloud's own services"),
];

/// The only IPv6 range from which public addresses come.
const GLOBAL_UNICAST: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Special IPv6 ranges: those within global unicast, and those that deserve their name.
const SPECIAL_V6: [(Ipv6Net, &str); 16] = [
    v6([0x2001, 0, 0, 0], 32, "a Teredo address (RFC 4380)"),
    v6([0x2001, 0, 0, 0], 23, "kept for protocols (RFC 2928)"),
    v6([0x2001, 0xdb8, 0, 0], 32, "for documentation (RFC 3849)"),
    v6([0x2002, 0, 0, 0], 16, "a 6to4 address (RFC 3056)"),
    v6([0x2620, 0x4f, 0x8000, 0], 48, "of AS112 (RFC 7534)"),
    v6([0x3fff, 0, 0, 0], 20, "for documentation (RFC 9637)"),
    v6([0x64, 0xff9b, 0, 0], 96, "a NAT64 address (RFC 6052)"),
    v6([0x64, 0xff9b, 1, 0], 48, "a local NAT64 address (RFC 8215)"),
    v6([0x100, 0, 0, 0], 64, "discarded (RFC 6666)"),
    v6([0xfc00, 0, 0, 0], 7, "unique-local (RFC 4193)"),
    v6([0xfe80, 0, 0, 0], 10, "link-local (RFC 4291)"),
    v6([0xfec0, 0, 0, 0], 10, "site-local (RFC 3879)"),
    v6([0xff00, 0, 0, 0], 8, "multicast (RFC 4291)"),
    v6([0, 0, 0, 0], 128, "unspecified (RFC 4291)"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "loopback (RFC 4291)"),
    v6([0, 0, 0, 0], 80, "an IPv4 address in another form (RFC 4291)"),
];

/// Whether an address may be dialled: public, or in a range that was opened for it.
///
/// An IPv4 address within an IPv6 one has to be so as well. That a form like NAT64 was
/// opened does not open what lies behind it.
pub fn judge(address: IpAddr, opened: &[IpNet]) -> Result<(), NotPublic> {
    let refused = |kind| NotPublic { address, kind };
    let is_open = |address: IpAddr| opened.iter().any(|net| net.contains(&address));
    let kind = match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    };
    if let Some(kind) = kind.filter(|_| !is_open(address)) {
        return Err(refused(kind));
    }
    let IpAddr::V6(v6) = address else { return Ok(()) };
    let bad = embedded(v6).find_map(|v4| special_v4(v4).filter(|_| !is_open(v4.into())));
    bad.map_or(Ok(()), |kind| Err(refused(kind)))
}

/// What kind of special address it is; none if it is public.
fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    SPECIAL_V4.iter().find(|(net, _)| net.contains(&address)).map(|(_, kind)| *kind)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let named = SPECIAL_V6.iter().find(|(net, _)| net.contains(&address)).map(|(_, kind)| *kind);
    named
        .or_else(|| (!GLOBAL_UNICAST.contains(&address)).then_some("not global unicast (RFC 4291)"))
}

/// The IPv4 addresses that a packet to this one may end at.
fn embedded(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bits = address.to_bits();
    let last = Ipv4Addr::from_bits(bits as u32);
    let mut found = [None; 4];
    match address.segments() {
        // Nothing is embedded in `::` and `::1`.
        [0, 0, 0, 0, 0, 0, ..] if bits <= 1 => {}
        // Compatible, mapped, translated, NAT64.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..] => found[0] = Some(last),
        [0x64, 0xff9b, 1, ..] => found = local_nat64(bits),
        [0x2002, ..] => found[0] = Some(Ipv4Addr::from_bits((bits >> 80) as u32)),
        // Teredo: the server, and the client, whose bits are flipped.
        [0x2001, 0, ..] => {
            found[0] = Some(Ipv4Addr::from_bits((bits >> 64) as u32));
            found[1] = Some(Ipv4Addr::from_bits(!last.to_bits()));
        }
        _ => {}
    }
    // ISATAP (RFC 5214): under any prefix, also under those above.
    let isatap = matches!(address.segments(), [_, _, _, _, 0 | 0x200, 0x5efe, ..]).then_some(last);
    found.into_iter().chain([isatap]).flatten()
}

/// How long the prefix of a local NAT64 is, only its translator knows: every reading of RFC
/// 6052 counts. One that names no host (0.0.0.0/8) is none; if no other is left, it stays.
fn local_nat64(bits: u128) -> [Option<Ipv4Addr>; 4] {
    // So many bits end at bit 64; bits 64 to 71 are left out; the others follow.
    let split = |length: u32| {
        let behind = length - 32;
        let first = (bits >> 64) as u32 & (u32::MAX >> behind);
        let others = (bits >> (88 - length)) as u32 & !(u32::MAX << behind);
        (first << behind) | others
    };
    let readings = [bits as u32, split(48), split(56), (bits >> 24) as u32];
    let is_host = |reading: &u32| reading >> 24 != 0;
    let none_is = !readings.iter().any(is_host);
    readings.map(|reading| (none_is || is_host(&reading)).then(|| Ipv4Addr::from_bits(reading)))
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
