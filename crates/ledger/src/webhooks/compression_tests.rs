use proptest::prelude::*;

use super::*;

/// A message as receivers get it.
const MESSAGE: &str = include_str!("compression/message.json");

/// The beginning of it, as it lay in a ledger.
const PACKED: &str = concat!(
    "a00000000ffe021bf008372d30332d30345430353a30363a30372e31323334353698020cfe02f01132323639",
    "352d656631362d373464342d383236372d39366664666235373739635c0305e7000f1f03016074223a223230",
);

fn round(body: &[u8]) -> Bytes {
    let CompressedBody { how, octets } = CompressedBody::of(body);
    unpacked(how, &octets).unwrap()
}

#[test]
fn a_message_takes_a_third_of_its_room_and_comes_out_as_it_was() {
    let packed = CompressedBody::of(MESSAGE.as_bytes());
    assert_eq!(packed.how, Some(WITH_WORDS));
    assert!(packed.octets.len() * 3 <= MESSAGE.len(), "{}", packed.octets.len());
    assert_eq!(round(MESSAGE.as_bytes()), MESSAGE);
}

/// Fails when the words, and so the meaning of a number, have changed.
#[test]
fn what_an_earlier_version_packed_comes_out() {
    let stored: Vec<u8> = PACKED.as_bytes().chunks(2).map(octet).collect();
    let body = unpacked(Some(1), &stored).unwrap();
    assert_eq!(body, &MESSAGE.as_bytes()[..body.len()]);
    assert_eq!(body.len(), 160);
    // And those that this one does without.
    assert_eq!(
        blake3::hash(WORDS).to_hex().as_str(),
        "aab6d21564fa96b2b151dc80f1f1c383f1a675f0f1a5c39018bbded6f6f7ef0d"
    );
}

fn octet(hex: &[u8]) -> u8 {
    u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap()
}

#[test]
fn what_gets_no_smaller_lies_as_it_is() {
    let packed = CompressedBody::of(b"\x01\x02\x03");
    assert_eq!((packed.how, &*packed.octets), (None, &b"\x01\x02\x03"[..]));
    assert_eq!(round(b""), "");
}

#[test]
fn what_is_longer_than_any_message_lies_as_it_is() {
    let body = vec![b'a'; LONGEST + 1];
    assert_eq!(CompressedBody::of(&body).how, None);
    assert_eq!(CompressedBody::of(&body[1..]).how, Some(WITH_WORDS));
}

#[test]
fn what_is_damaged_is_told_and_takes_no_memory() {
    let CompressedBody { how, octets } = CompressedBody::of(MESSAGE.as_bytes());
    let mut endless = octets.clone();
    endless[..LENGTH].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut longer = octets.clone();
    longer[0] += 1;
    let mut shorter = octets.clone();
    shorter[0] -= 1;
    for stored in [&octets[..octets.len() - 1], &octets[..3], &[], &endless, &longer, &shorter] {
        assert!(matches!(unpacked(how, stored), Err(LedgerError::Damaged(_))), "{stored:?}");
    }
    assert!(matches!(unpacked(Some(2), &octets), Err(LedgerError::Later(_))));
}

proptest! {
    #[test]
    fn whatever_is_packed_comes_out_as_it_was(body in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600),
        proptest::collection::vec(0_usize..MESSAGE.len() - 40, 0..60)
            .prop_map(|starts| starts.iter().flat_map(|&at| MESSAGE[at..at + 40].bytes()).collect()),
    ]) {
        prop_assert_eq!(round(&body), body);
    }

    #[test]
    fn whatever_lies_there_breaks_nothing(stored in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut stored = stored;
        if let Some(high) = stored.get_mut(2) {
            *high = 0;
        }
        if let Some(highest) = stored.get_mut(3) {
            *highest = 0;
        }
        _ = unpacked(Some(WITH_WORDS), &stored);
    }
}
