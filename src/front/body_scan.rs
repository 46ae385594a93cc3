//! The scan of request bodies for selected values, in slices that leave time to other tasks.
//!
//! Owns how much of a body is read at once. Its invariants: a body is read once, whatever the
//! number of places that a route names in it; and no body keeps a thread from others for longer
//! than a slice takes.

use cloakroom_domain::pointer::{Pointers, Scalars};

/// How many octets are read before others get their turn.
const SLICE: usize = 64 * 1024;

/// The values at `pointers` in a body; an empty body has none.
pub(super) async fn scalars<'p>(pointers: &'p Pointers, body: &[u8]) -> Scalars<'p> {
    if pointers.is_empty() || body.is_empty() {
        return Scalars::none(pointers);
    }
    let mut reading = pointers.reading();
    let mut slices = body.chunks(SLICE).peekable();
    while let Some(slice) = slices.next() {
        reading.feed(slice);
        if reading.is_settled() {
            break;
        }
        if slices.peek().is_some() {
            tokio::task::yield_now().await;
        }
    }
    reading.end()
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use cloakroom_domain::pointer::UnreadableValue;

    /// What is found, and how often others had their turn meanwhile.
    fn read<'p>(pointers: &'p Pointers, body: &[u8]) -> (Scalars<'p>, usize) {
        let mut reading = pin!(scalars(pointers, body));
        let mut context = Context::from_waker(Waker::noop());
        for turns in 0.. {
            if let Poll::Ready(found) = reading.as_mut().poll(&mut context) {
                return (found, turns);
            }
        }
        unreachable!("the reading ends")
    }

    #[test]
    fn others_have_their_turn_once_in_a_slice_however_many_places_are_looked_for() {
        let begin = r#"{"a":"x","items":[0"#;
        let body = format!("{begin}{}],\"k\":{{\"n\":7}}}}", ",0".repeat(5 * SLICE));
        for pointers in [&["/k/n"][..], &["/k/n", "/a", "/items/3", "/missing"]] {
            let pointers = Pointers::new(pointers.iter().copied());
            let (found, turns) = read(&pointers, body.as_bytes());
            assert_eq!(found.at("/k/n"), Ok(Some("7".to_owned())));
            assert_eq!(turns, body.len() / SLICE);
        }
    }

    #[test]
    fn a_small_body_is_read_at_once_and_what_is_not_json_no_further() {
        let pointers = Pointers::new(["/a"]);
        let (found, turns) = read(&pointers, br#"{"a":1}"#);
        assert_eq!((found.at("/a"), turns), (Ok(Some("1".to_owned())), 0));
        let (found, turns) = read(&pointers, &vec![b'x'; 10 * SLICE]);
        assert_eq!((found.at("/a"), turns), (Err(UnreadableValue::NotJson), 0));
        let (found, turns) = read(&pointers, b"");
        assert_eq!((found.at("/a"), turns), (Ok(None), 0));
        let (_, turns) = read(&Pointers::new([]), &vec![b'1'; 10 * SLICE]);
        assert_eq!(turns, 0);
    }
}
