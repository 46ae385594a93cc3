use super::*;
use proptest::prelude::*;

fn is_public(address: &str) -> bool {
    judge(address.parse().unwrap(), &[]).is_ok()
}

fn opened(address: &str, ranges: &[&str]) -> bool {
    let ranges: Vec<IpNet> = ranges.iter().map(|range| range.parse().unwrap()).collect();
    judge(address.parse().unwrap(), &ranges).is_ok()
}

#[test]
fn what_is_public_is() {
    for address in [
        "8.8.8.8",
        "1.1.1.1",
        "172.32.0.1",
        "100.128.0.1",
        "192.0.1.1",
        "2606:4700::1111",
        "2a00::1",
    ] {
        assert!(is_public(address), "{address}");
    }
}

#[test]
fn every_special_range_is_refused_from_its_first_address_to_its_last() {
    let mut judged = 0;
    for (net, kind) in SPECIAL_V4 {
        for address in [net.network(), net.broadcast()] {
            assert!(judge(address.into(), &[]).is_err(), "{address}: {kind}");
            judged += 1;
        }
    }
    for (net, kind) in SPECIAL_V6 {
        for address in [net.network(), net.broadcast()] {
            assert!(judge(address.into(), &[]).is_err(), "{address}: {kind}");
            judged += 1;
        }
    }
    println!("{judged} ends of special ranges");
}

#[test]
fn an_address_that_is_refused_is_named_with_what_it_is() {
    let says = |address: &str| judge(address.parse().unwrap(), &[]).unwrap_err().to_string();
    assert_eq!(says("127.0.0.1"), "127.0.0.1 is not public: it is loopback (RFC 1122)");
    assert!(says("::1").contains("loopback"));
    assert!(says("169.254.169.254").contains("credentials"));
    assert!(says("fd00:ec2::254").contains("unique-local"));
    assert!(says("::ffff:8.8.8.8").contains("another form"));
    assert!(says("64:ff9b::808:808").contains("NAT64"));
    assert!(says("5f00::1").contains("not global unicast"));
}

#[test]
fn a_range_is_opened_and_nothing_beside_it() {
    assert!(opened("10.1.2.3", &["10.0.0.0/8"]) && !opened("192.168.0.1", &["10.0.0.0/8"]));
    assert!(opened("::1", &["::1/128"]) && opened("fd00::7", &["fd00::/8"]));
    // An IPv4 range opens IPv4, however it could also be written.
    assert!(!opened("::ffff:10.1.2.3", &["10.0.0.0/8"]));
}

#[test]
fn that_a_form_was_opened_does_not_open_what_lies_behind_it() {
    let nat64 = ["64:ff9b::/96"];
    assert!(opened("64:ff9b::8.8.8.8", &nat64) && !opened("64:ff9b::127.0.0.1", &nat64));
    assert!(opened("64:ff9b::10.0.0.1", &["64:ff9b::/96", "10.0.0.0/8"]));
    let mapped = ["::ffff:0:0/96"];
    assert!(opened("::ffff:8.8.8.8", &mapped) && !opened("::ffff:169.254.169.254", &mapped));
    let six = ["2002::/16"];
    assert!(opened("2002:808:808::1", &six) && !opened("2002:7f00:1::1", &six));
    let teredo = ["2001::/32"];
    // The client is 8.8.8.8 and 127.0.0.1, with its bits flipped.
    assert!(opened("2001:0:808:808::f7f7:f7f7", &teredo));
    assert!(!opened("2001:0:808:808::80ff:fffe", &teredo));
    assert!(!opened("2001:0:7f00:1::f7f7:f7f7", &teredo));
}

#[test]
fn a_local_nat64_is_read_with_every_length_of_its_prefix() {
    let local = ["64:ff9b:1::/48"];
    for (address, behind) in [
        ("64:ff9b:1::7f00:1", "/96"),
        ("64:ff9b:1:7f00:0:100::", "/48"),
        ("64:ff9b:1:7f:0:1::", "/56"),
        ("64:ff9b:1:0:7f:0:100::", "/64"),
    ] {
        assert!(!opened(address, &local), "{address} with {behind}");
    }
    assert!(opened("64:ff9b:1::808:808", &local));
    assert!(opened("64:ff9b:1:808:8:800::", &local));
    // A suffix that looks public hides nothing.
    assert!(!opened("64:ff9b:1:7f00:0:100:808:808", &local));
    assert!(!opened("64:ff9b:1::", &local));
}

/// Every way to put an IPv4 address into an IPv6 one.
fn embeddings(v4: Ipv4Addr, prefix: u32, rest: u32) -> Vec<Ipv6Addr> {
    let bits = u128::from(v4.to_bits());
    let word = |at: u32, value: u128| value << (112 - 16 * at);
    let nat64 = word(0, 0x64) | word(1, 0xff9b);
    let local = nat64 | word(2, 1);
    let teredo = word(0, 0x2001);
    let high = bits >> 16;
    let any = (u128::from(prefix) & 0x1fff_ffff | 0x2000_0000) << 96;
    [
        bits,
        word(5, 0xffff) | bits,
        word(4, 0xffff) | bits,
        nat64 | bits,
        local | bits,
        local | word(3, high) | (bits & 0xffff) << 40,
        local | (bits >> 24) << 64 | (bits & 0x00ff_ffff) << 32,
        local | bits << 24,
        word(0, 0x2002) | bits << 80 | u128::from(rest),
        teredo | bits << 64 | u128::from(rest),
        teredo | u128::from(rest) << 64 | (!bits & 0xffff_ffff),
        any | word(5, 0x5efe) | bits,
        any | word(4, 0x200) | word(5, 0x5efe) | bits,
    ]
    .map(Ipv6Addr::from_bits)
    .to_vec()
}

fn special() -> impl Strategy<Value = Ipv4Addr> {
    (0..SPECIAL_V4.len(), any::<u32>()).prop_map(|(at, bits)| {
        let net = SPECIAL_V4[at].0;
        let host = bits & net.hostmask().to_bits();
        Ipv4Addr::from_bits(net.network().to_bits() | host)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_refused_address_passes_in_any_embedding_whatever_form_is_open(
        v4 in special(), prefix: u32, rest: u32
    ) {
        let forms = ["::/80", "64:ff9b::/32", "2001::/23", "2002::/16"].map(|net| net.parse().unwrap());
        for opened in [&[][..], &forms] {
            prop_assert!(judge(v4.into(), opened).is_err());
            for v6 in embeddings(v4, prefix, rest) {
                // Within a local NAT64, 0.0.0.0/8 may as well be part of a longer prefix.
                // And `::` and `::1` are open where an operator opens them.
                if v6.to_bits() <= 1 && !opened.is_empty() {
                    continue;
                }
                if v4.octets()[0] == 0 && v6.segments()[2] == 1 && !opened.is_empty() {
                    continue;
                }
                prop_assert!(judge(v6.into(), opened).is_err(), "{} in {}", v4, v6);
            }
        }
    }

    #[test]
    fn any_ipv6_address_that_passes_is_global_unicast(bits: u128) {
        let v6 = Ipv6Addr::from_bits(bits);
        if judge(v6.into(), &[]).is_ok() {
            prop_assert_eq!(bits >> 125, 1);
        }
    }
}
