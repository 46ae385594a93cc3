//! The frame boundaries of a `WebSocket`, and its close frame (RFC 6455).
//!
//! Owns the part of the protocol that is needed to insert a frame between two others. It must not know
//! the content of frames.

/// Goes along with the frames of one direction.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// The head of a frame, as far as it has come.
    head: [u8; LONGEST_HEAD],
    has: usize,
    /// What is still to come of the frame's payload.
    left: u64,
}

/// Two octets, a length of eight, a mask of four.
const LONGEST_HEAD: usize = 14;
/// Going away (RFC 6455 section 7.4.1).
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();
/// A whole frame with the opcode of a close, and two octets of payload.
const CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;

impl Frames {
    /// Whether no frame is under way.
    pub const fn is_between(&self) -> bool {
        self.has == 0 && self.left == 0
    }

    /// Goes on by these octets; says after how many of them the first frame ended.
    pub fn follow(&mut self, octets: &[u8]) -> Option<usize> {
        let mut first_end = None;
        let mut at = 0;
        while at < octets.len() {
            if self.left > 0 {
                let rest = octets.len() - at;
                let taken = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
                self.left -= taken as u64;
                at += taken;
            } else {
                self.head[self.has] = octets[at];
                self.has += 1;
                at += 1;
                let Some(payload) = self.payload() else { continue };
                self.has = 0;
                self.left = payload;
            }
            if self.left == 0 {
                first_end.get_or_insert(at);
            }
        }
        first_end
    }

    /// The length of the payload, once the head is whole.
    fn payload(&self) -> Option<u64> {
        let short = *self.head[..self.has].get(1)?;
        let mask = if short & MASKED == 0 { 0 } else { 4 };
        let extended = match short & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.has < 2 + extended + mask {
            return None;
        }
        let long = &self.head[2..2 + extended];
        let long = long.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet));
        Some(if extended == 0 { u64::from(short & !MASKED) } else { long })
    }
}

/// The frame by which a server tells its client that it goes away.
pub fn close_to_client() -> Vec<u8> {
    vec![CLOSE, 2, GOING_AWAY[0], GOING_AWAY[1]]
}

/// The frame by which a client tells its server that it goes away; a client masks what it
/// sends.
pub fn close_to_server(mask: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![CLOSE, MASKED | 2];
    frame.extend(mask);
    frame.extend(GOING_AWAY.iter().zip(mask).map(|(octet, mask)| octet ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![0x82];
        match payload {
            0..126 => frame.push(mask + payload as u8),
            126..65_536 => {
                frame.push(mask + 126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask + 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend(std::iter::repeat_n(0xff, payload + if masked { 4 } else { 0 }));
        frame
    }

    #[test]
    fn a_frame_of_any_length_ends_where_its_head_says() {
        for payload in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for masked in [false, true] {
                let octets = frame(payload, masked);
                let mut frames = Frames::default();
                assert_eq!(frames.follow(&octets[..octets.len() - 1]), None, "{payload}");
                assert!(!frames.is_between());
                assert_eq!(frames.follow(&octets[octets.len() - 1..]), Some(1), "{payload}");
                assert!(frames.is_between());
            }
        }
    }

    #[test]
    fn the_end_of_the_first_of_several_is_told() {
        let mut octets = frame(3, false);
        octets.extend(frame(300, true));
        octets.push(0x82);
        let mut frames = Frames::default();
        assert_eq!(frames.follow(&octets), Some(5));
        assert!(!frames.is_between());
    }

    #[test]
    fn frames_that_close_say_that_one_goes_away() {
        assert_eq!(close_to_client(), [0x88, 2, 0x03, 0xe9]);
        let closing = close_to_server([1, 2, 3, 4]);
        assert_eq!(closing, [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2]);
        for closing in [close_to_client(), closing] {
            assert_eq!(Frames::default().follow(&closing), Some(closing.len()));
        }
    }

    proptest! {
        #[test]
        fn octets_in_any_pieces_lead_to_the_same_place(
            octets in proptest::collection::vec(any::<u8>(), 0..400),
            cuts in proptest::collection::vec(0_usize..400, 0..8),
        ) {
            let mut whole = Frames::default();
            whole.follow(&octets);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(octets.len())).collect();
            cuts.push(octets.len());
            cuts.sort_unstable();
            let (mut pieces, mut from) = (Frames::default(), 0);
            for cut in cuts {
                pieces.follow(&octets[from..cut]);
                from = cut;
            }
            prop_assert_eq!(whole.is_between(), pieces.is_between());
            prop_assert_eq!(whole.left, pieces.left);
        }
    }
}
