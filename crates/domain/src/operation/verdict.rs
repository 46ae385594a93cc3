//! A person's verdict on an operation whose outcome is unknown.

use crate::Timestamp;

/// What a person found out. It is added to an operation and changes nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the upstream carried the request out.
    pub happened: bool,
    /// What it created: an absolute URL, or a path on the public origin.
    pub location: Option<String>,
    /// What there is to say about it; [`Verdict::LONGEST_NOTE`] characters at most.
    pub note: Option<String>,
    /// When it was given.
    pub at: Timestamp,
}

impl Verdict {
    /// The most characters of a note.
    pub const LONGEST_NOTE: usize = 1000;

    /// The name in documents.
    pub const fn as_str(&self) -> &'static str {
        if self.happened { "happened" } else { "did-not-happen" }
    }
}
