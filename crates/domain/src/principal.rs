//! The principal: the owner of a request.

/// The owner of an operation, as the stored octets that tell owners apart.
///
/// What they are depends on `auth.principal`: nothing where everybody is one principal,
/// the value of a trusted field, or a keyed digest of a credential. Never a credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Principal(Vec<u8>);

impl Principal {
    /// The one principal of a gateway that does not tell its callers apart.
    pub fn everyone() -> Self {
        Self::default()
    }

    /// The principal that these octets name.
    pub fn named(octets: impl Into<Vec<u8>>) -> Self {
        Self(octets.into())
    }

    /// The octets that are stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
