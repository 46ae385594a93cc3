use proptest::prelude::*;

use super::*;
use crate::Timestamp;

fn key(octet: u8) -> SealingKey {
    SealingKey::new([octet; 32])
}

fn sealer(current: Option<u8>, previous: &[u8]) -> Sealer {
    let previous = previous.iter().map(|octet| key(*octet)).collect();
    Sealer::new(Keyring::new(current.map(key), previous), [0xff; 12])
}

fn id(octet: u8) -> OperationId {
    OperationId::new(Timestamp::EPOCH, 1, [octet; 10])
}

const PLACE: SealContext = SealContext { what: SealedValue::Body, of: [7; 16] };

#[test]
fn without_a_key_values_are_stored_as_they_are_and_only_those_that_look_sealed_are_told_apart() {
    let open = sealer(None, &[]);
    for plain in [&b""[..], b"{}", b"\0", b"\xc1", b"\xc1\x01abcd"] {
        let stored = open.octets(PLACE, plain.to_vec()).unwrap();
        assert_eq!(stored == plain, plain.first() != Some(&MARK), "{plain:?}");
        assert_eq!(open.opened(PLACE, &stored).unwrap(), plain);
        // A key that is set later changes nothing about that.
        assert_eq!(sealer(Some(1), &[]).opened(PLACE, &stored).unwrap(), plain);
    }
    for plain in ["", "a=b", "\u{1}", "\u{1}=x", "\u{1}wQE"] {
        let stored = open.text(PLACE, plain).unwrap();
        assert_eq!(stored == plain, !plain.starts_with(TEXT_MARK), "{plain:?}");
        assert_eq!(open.opened_text(PLACE, &stored).unwrap(), plain);
        assert_eq!(sealer(Some(1), &[]).opened_text(PLACE, &stored).unwrap(), plain);
    }
}

#[test]
fn the_path_of_a_target_can_be_read_and_its_query_cannot() {
    let sealer = sealer(Some(1), &[]);
    for target in ["/orders", "/orders?", "/orders?token=canary?&b", "*"] {
        let stored = sealer.target(id(1), target).unwrap();
        assert!(!stored.contains("canary") && !stored.contains("token"), "{stored}");
        assert_eq!(stored.split('?').next(), target.split('?').next());
        assert_eq!(sealer.opened_target(id(1), &stored).unwrap(), target);
        let elsewhere = sealer.opened_target(id(2), &stored);
        assert_eq!(elsewhere.is_err(), target.contains('?'), "{stored}");
    }
}

#[test]
fn a_missing_key_is_named() {
    let stored = sealer(Some(1), &[]).octets(PLACE, b"x".to_vec()).unwrap();
    for without in [sealer(None, &[]), sealer(Some(2), &[3])] {
        assert_eq!(without.opened(PLACE, &stored), Err(SealingError::UnknownKey(key(1).id())));
    }
    assert_eq!(sealer(Some(2), &[1]).opened(PLACE, &stored).unwrap(), b"x");
}

#[test]
fn no_nonce_is_used_twice_even_where_the_count_runs_over() {
    let sealer = sealer(Some(1), &[]);
    let nonces: std::collections::BTreeSet<_> = (0..1000).map(|_| sealer.nonce()).collect();
    assert_eq!(nonces.len(), 1000);
}

#[test]
fn what_is_open_or_under_an_earlier_key_is_sealed_anew_once() {
    let now = sealer(Some(2), &[1]);
    for then in [sealer(None, &[]), sealer(Some(1), &[])] {
        let octets = then.octets(PLACE, b"\xc1body".to_vec()).unwrap();
        let anew = now.resealed(PLACE, &octets).unwrap().unwrap();
        assert!(anew.starts_with(&now.current_prefix().unwrap()));
        assert_eq!(sealer(Some(2), &[]).opened(PLACE, &anew).unwrap(), b"\xc1body");
        assert_eq!(now.resealed(PLACE, &anew), Ok(None));
        let target = then.target(id(1), "/a?b=c").unwrap();
        let anew = now.resealed_target(id(1), &target).unwrap().unwrap();
        assert_eq!(sealer(Some(2), &[]).opened_target(id(1), &anew).unwrap(), "/a?b=c");
        assert_eq!(now.resealed_target(id(1), &anew), Ok(None));
        assert_eq!(sealer(None, &[1]).resealed(PLACE, &octets), Ok(None));
    }
    assert_eq!(now.resealed_target(id(1), "/a"), Ok(None));
}

proptest! {
    #[test]
    fn what_was_sealed_opens_in_its_place_alone_and_not_when_damaged(
        plain in prop::collection::vec(any::<u8>(), 0..80),
        number: i64,
        at: prop::sample::Index,
        by in 1u8..
    ) {
        let sealer = sealer(Some(1), &[]);
        let place = SealContext::in_part(SealedValue::Piece, number, 3);
        let mut stored = sealer.octets(place, plain.clone()).unwrap();
        prop_assert_eq!(stored.len(), HEAD + plain.len() + TAG);
        prop_assert_eq!(&sealer.opened(place, &stored).unwrap(), &plain);
        for other in [
            SealContext::in_part(SealedValue::Piece, number, 4),
            SealContext::in_part(SealedValue::Piece, number ^ 1, 3),
            SealContext::in_part(SealedValue::Body, number, 3),
        ] {
            prop_assert_eq!(sealer.opened(other, &stored), Err(SealingError::Damaged));
        }
        let at = at.index(stored.len() - 1) + 1;
        stored[at] ^= by;
        prop_assert!(sealer.opened(place, &stored).is_err() || stored[1] == PLAIN);
    }

    #[test]
    fn any_stored_value_is_opened_or_refused_and_never_a_panic(
        mut octets in prop::collection::vec(any::<u8>(), 0..60),
        text in "\u{1}?[A-Za-z0-9+/=]{0,40}"
    ) {
        let sealer = sealer(Some(1), &[2]);
        let _ = sealer.opened(PLACE, &octets);
        octets.splice(..0, [MARK, SEALED]);
        let _ = (sealer.opened(PLACE, &octets), sealer.opened_text(PLACE, &text));
        let _ = (sealer.resealed(PLACE, &octets), sealer.resealed_text(PLACE, &text));
    }
}
