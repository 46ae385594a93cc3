//! Header fields as they travel: names and raw octets, in the order received.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Header fields with their octets untouched, repeated fields in their order.
///
/// The stored form ([`Fields::encode`]) round-trips exactly; it is a sequence of
/// length-prefixed names and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(HeaderMap);

/// Stored fields could not be read back: the row is damaged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("stored header fields are damaged")]
pub struct DamagedFields;

impl Fields {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// The fields as a map.
    pub fn as_map(&self) -> &HeaderMap {
        &self.0
    }

    /// The fields as a map that can be changed.
    pub fn as_map_mut(&mut self) -> &mut HeaderMap {
        &mut self.0
    }

    /// The fields as an owned map.
    pub fn into_map(self) -> HeaderMap {
        self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        self.0.get(name)
    }

    /// Splits off the fields for which `chosen` says yes.
    #[must_use]
    pub fn split(self, chosen: impl Fn(&HeaderName) -> bool) -> (Self, Self) {
        let (mut taken, mut rest) = (HeaderMap::new(), HeaderMap::new());
        for (name, value) in &self.0 {
            let side = if chosen(name) { &mut taken } else { &mut rest };
            side.append(name.clone(), value.clone());
        }
        (Self(taken), Self(rest))
    }

    /// Adds all of `other` behind these.
    pub fn extend(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            self.0.append(name.clone(), value.clone());
        }
    }

    /// How many octets names and values have together.
    pub fn octets(&self) -> u64 {
        self.0.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
    }

    /// The octets that are stored.
    pub fn encode(&self) -> Vec<u8> {
        let size = self.0.iter().map(|(n, v)| n.as_str().len() + v.len() + 6).sum();
        let mut octets = Vec::with_capacity(size);
        for (name, value) in &self.0 {
            let name = name.as_str().as_bytes();
            octets.extend_from_slice(&(name.len() as u16).to_le_bytes());
            octets.extend_from_slice(&(value.len() as u32).to_le_bytes());
            octets.extend_from_slice(name);
            octets.extend_from_slice(value.as_bytes());
        }
        octets
    }

    /// Reads back what [`Fields::encode`] wrote.
    pub fn decode(octets: impl Into<Bytes>) -> Result<Self, DamagedFields> {
        let mut rest: Bytes = octets.into();
        let mut map = HeaderMap::new();
        while !rest.is_empty() {
            let name_length = u16::from_le_bytes(take(&mut rest)?) as usize;
            let value_length = u32::from_le_bytes(take(&mut rest)?) as usize;
            if rest.len() < name_length + value_length {
                return Err(DamagedFields);
            }
            let name = rest.split_to(name_length);
            let value = rest.split_to(value_length);
            map.append(
                HeaderName::from_bytes(&name).map_err(|_| DamagedFields)?,
                HeaderValue::from_maybe_shared(value).map_err(|_| DamagedFields)?,
            );
        }
        Ok(Self(map))
    }
}

fn take<const N: usize>(rest: &mut Bytes) -> Result<[u8; N], DamagedFields> {
    if rest.len() < N {
        return Err(DamagedFields);
    }
    rest.split_to(N).as_ref().try_into().map_err(|_| DamagedFields)
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        Self(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stored_fields_come_back_to_the_octet(
            fields in prop::collection::vec(("[a-z][a-z0-9-]{0,20}", prop::collection::vec(0x20u8..=0xff, 0..40)), 0..12)
        ) {
            let mut map = HeaderMap::new();
            for (name, value) in &fields {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
                }
            }
            let fields = Fields::from(map);
            prop_assert_eq!(Fields::decode(fields.encode()), Ok(fields));
        }

        #[test]
        fn damaged_octets_are_an_error_and_never_a_panic(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Fields::decode(octets);
        }
    }
}
