//! The framing of a recorded answer: how its end was marked.

use std::str::FromStr;

/// What told where an answer ends, where that is worth a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// Only the closing of the connection did, so an answer that was cut short looks the same.
    Close,
}

/// A text names no such end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown framing {0}")]
pub struct UnknownFraming(String);

impl ResponseFraming {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Close => "close",
        }
    }
}

impl FromStr for ResponseFraming {
    type Err = UnknownFraming;

    fn from_str(text: &str) -> Result<Self, UnknownFraming> {
        match text {
            "close" => Ok(Self::Close),
            _ => Err(UnknownFraming(text.to_owned())),
        }
    }
}
