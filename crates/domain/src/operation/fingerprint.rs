//! The fingerprint of a request under its key: one digest that decides, and a short one of each part
//! that tells which part differs.
//!
//! Its invariant: two requests have one fingerprint only if they agree in every part, because each part
//! is framed by its length and its presence.

use std::fmt;

/// What keeps these digests apart from all others.
const CONTEXT: &str = "cloakroom 2026-11 idempotency fingerprint 1";

const WHOLE: usize = 32;
const SHORT: usize = 4;

/// A part of a request that has to be the same in a repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPart {
    /// The method.
    Method,
    /// Path and query as received.
    Target,
    /// The media type of the body.
    MediaType,
    /// The body.
    Body,
    /// Where and of what the request asks to be told.
    Callback,
    /// Credentials, where they are all that tells callers apart.
    Credentials,
}

impl RequestPart {
    /// Every part, in the order in which they are framed.
    pub const ALL: [Self; 6] = [
        Self::Method,
        Self::Target,
        Self::MediaType,
        Self::Body,
        Self::Callback,
        Self::Credentials,
    ];

    /// What it is called.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Target => "target",
            Self::MediaType => "media type",
            Self::Body => "body",
            Self::Callback => "callback",
            Self::Credentials => "credentials",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Some of the parts.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestParts(u8);

impl RequestParts {
    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = RequestPart> {
        RequestPart::ALL.into_iter().filter(move |part| self.0 & part.bit() != 0)
    }
}

impl fmt::Debug for RequestParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What has to be the same in a repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; Fingerprint::LENGTH]);

impl Fingerprint {
    /// How many octets it has.
    pub const LENGTH: usize = WHOLE + RequestPart::ALL.len() * SHORT;

    /// That of a request with these parts, in the order of [`RequestPart::ALL`]; none where the
    /// request has no such part.
    pub fn of(parts: [Option<&[u8]>; RequestPart::ALL.len()]) -> Self {
        let mut octets = [0; Self::LENGTH];
        let mut whole = blake3::Hasher::new_derive_key(CONTEXT);
        for (part, short) in parts.into_iter().zip(octets[WHOLE..].chunks_exact_mut(SHORT)) {
            let mut own = blake3::Hasher::new_derive_key(CONTEXT);
            frame(&mut own, part);
            short.copy_from_slice(&own.finalize().as_bytes()[..SHORT]);
            frame(&mut whole, part);
        }
        octets[..WHOLE].copy_from_slice(whole.finalize().as_bytes());
        Self(octets)
    }

    /// One that was stored.
    pub const fn stored(octets: [u8; Self::LENGTH]) -> Self {
        Self(octets)
    }

    /// As it is stored.
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// What differs from another request.
    pub fn differences(&self, other: &Self) -> RequestParts {
        let short = |own: &Self| -> Vec<[u8; SHORT]> {
            let (chunks, _) = own.0[WHOLE..].as_chunks::<SHORT>();
            chunks.to_vec()
        };
        let pairs = short(self).into_iter().zip(short(other)).zip(RequestPart::ALL);
        let differing = pairs.filter(|((one, other), _)| one != other);
        RequestParts(differing.fold(0, |bits, (_, part)| bits | part.bit()))
    }
}

fn frame(hasher: &mut blake3::Hasher, part: Option<&[u8]>) {
    let octets = part.unwrap_or_default();
    hasher.update(&[u8::from(part.is_some())]);
    hasher.update(&(octets.len() as u64).to_le_bytes());
    hasher.update(octets);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: [Option<&[u8]>; 6] = [Some(b"POST"), Some(b"/a"), None, Some(b"body"), None, None];

    #[test]
    fn what_differs_is_told_part_by_part() {
        let base = Fingerprint::of(BASE);
        for (place, part) in RequestPart::ALL.into_iter().enumerate() {
            let mut other = BASE;
            other[place] = Some(b"other");
            let other = Fingerprint::of(other);
            assert_ne!(base, other, "{part:?}");
            assert_eq!(base.differences(&other).iter().collect::<Vec<_>>(), [part]);
        }
        let (mut one, mut two) = (BASE, BASE);
        (one[2], two[2]) = (None, Some(&b""[..]));
        (one[3], two[3]) = (Some(&b"a"[..]), Some(&b"b"[..]));
        let differences = Fingerprint::of(one).differences(&Fingerprint::of(two));
        assert_eq!(
            differences.iter().collect::<Vec<_>>(),
            [RequestPart::MediaType, RequestPart::Body]
        );
        assert_eq!(base.differences(&base), RequestParts::default());
    }

    #[test]
    fn one_that_was_stored_is_the_same() {
        let base = Fingerprint::of(BASE);
        assert_eq!(Fingerprint::stored(*base.as_bytes()), base);
    }
}
