//! The first octets of peers that speak another protocol than HTTP.
//!
//! Owns their recognition: they prove that the upstream read no request. It must not know of sockets.

/// What speaks in place of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtherProtocol {
    /// A frame of HTTP/2, of which a request in HTTP/1 is none (RFC 9113 section 3.4).
    #[error(
        "it speaks only HTTP/2, so it read no request: let it speak HTTP/1.1 at the upstream's url, \
         or name a proxy there that does"
    )]
    Http2,
    /// An alert of TLS: the request came where a handshake was expected (RFC 8446 section 6).
    #[error(
        "it speaks TLS, so it read no request: begin the upstream's url with https instead of http"
    )]
    Tls,
}

/// So many octets tell for certain.
const ENOUGH: usize = 9;

/// The kinds of frames with which HTTP/2 begins or gives up.
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

impl OtherProtocol {
    /// What speaks, if the first octets of a connection tell.
    pub const fn told_by(octets: &[u8]) -> Option<Self> {
        match octets {
            [0x15, 3, 0..=4, ..] => Some(Self::Tls),
            // Its length is that of whole settings, and it belongs to no stream.
            [0, high, low, SETTINGS, 0 | 1, 0, 0, 0, 0, ..]
                if (((*high as u16) << 8) | *low as u16).is_multiple_of(6) =>
            {
                Some(Self::Http2)
            }
            [0, _, _, GOAWAY, 0, 0, 0, 0, 0, ..] => Some(Self::Http2),
            _ => None,
        }
    }

    /// Whether more octets may tell what these do not.
    pub fn may_yet_be_told_by(octets: &[u8]) -> bool {
        let kind = octets.get(3);
        octets.len() < ENOUGH
            && match octets.first() {
                Some(0x15) => octets.get(1).is_none_or(|major| *major == 3),
                Some(0) => kind.is_none_or(|kind| matches!(*kind, SETTINGS | GOAWAY)),
                _ => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_http_2_and_an_alert_of_tls_are_told_from_everything_else() {
        for (octets, told) in [
            (
                &b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00"[..],
                Some(OtherProtocol::Http2),
            ),
            (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", Some(OtherProtocol::Http2)),
            (b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00", Some(OtherProtocol::Http2)),
            (b"\x15\x03\x01\x00\x02\x02\x46", Some(OtherProtocol::Tls)),
            (b"\x15\x03\x03", Some(OtherProtocol::Tls)),
            (b"\x00\x00\x11\x04\x00\x00\x00\x00\x00", None),
            (b"\x00\x00\x12\x04\x00\x00\x00\x00\x01", None),
            (b"\x00\x00\x12\x04\x00\x00", None),
            (b"\x16\x03\x01\x00\x02", None),
            (b"HTTP/1.1 200 OK\r\n", None),
            (b"220 mail.example.com", None),
            (b"", None),
        ] {
            assert_eq!(OtherProtocol::told_by(octets), told, "{octets:?}");
        }
    }
}
