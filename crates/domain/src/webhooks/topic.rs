//! The topics that a subscriber can choose.

use std::fmt;
use std::str::FromStr;

use crate::operation::EventKind;

/// One kind of event that receivers are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// An operation succeeded.
    Succeeded,
    /// An operation failed.
    Failed,
    /// An operation was canceled.
    Canceled,
    /// A person found out about an unknown outcome.
    Reconciled,
    /// An operation was accepted.
    Accepted,
    /// An attempt began.
    Started,
    /// The upstream reported progress.
    Progressed,
    /// A subscription was disabled.
    Disabled,
    /// A delivery was given up.
    Exhausted,
    /// A subscription that had failed takes deliveries again.
    Recovered,
    /// A test of one subscription. Sent to it alone, whatever it subscribes to.
    Ping,
}

impl Topic {
    /// All that can be subscribed to, in the order of their bits.
    pub const ALL: [Self; 10] = [
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
        Self::Reconciled,
        Self::Accepted,
        Self::Started,
        Self::Progressed,
        Self::Disabled,
        Self::Exhausted,
        Self::Recovered,
    ];

    /// The name, as `type` in a message says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "operation.succeeded",
            Self::Failed => "operation.failed",
            Self::Canceled => "operation.canceled",
            Self::Reconciled => "operation.reconciled",
            Self::Accepted => "operation.accepted",
            Self::Started => "operation.started",
            Self::Progressed => "operation.progressed",
            Self::Disabled => "webhook.disabled",
            Self::Exhausted => "webhook.exhausted",
            Self::Recovered => "webhook.recovered",
            Self::Ping => "webhook.ping",
        }
    }

    /// The topic of what happened to an operation; none if it has no topic.
    pub const fn of(kind: EventKind) -> Option<Self> {
        match kind {
            EventKind::Succeeded => Some(Self::Succeeded),
            EventKind::Failed => Some(Self::Failed),
            EventKind::Canceled => Some(Self::Canceled),
            EventKind::Reconciled => Some(Self::Reconciled),
            EventKind::Accepted => Some(Self::Accepted),
            EventKind::Started => Some(Self::Started),
            EventKind::Progressed => Some(Self::Progressed),
            EventKind::Retrying
            | EventKind::Waiting
            | EventKind::Released
            | EventKind::Resumed
            | EventKind::Rescued
            | EventKind::Rechecked => None,
        }
    }

    /// Whether it is about an operation, and not about webhooks themselves: deliveries of
    /// those give rise to no further events.
    pub const fn is_of_operation(self) -> bool {
        !matches!(self, Self::Disabled | Self::Exhausted | Self::Recovered | Self::Ping)
    }

    const fn bit(self) -> u32 {
        match self {
            Self::Succeeded => 1,
            Self::Failed => 1 << 1,
            Self::Canceled => 1 << 2,
            Self::Reconciled => 1 << 3,
            Self::Accepted => 1 << 4,
            Self::Started => 1 << 5,
            Self::Progressed => 1 << 6,
            Self::Disabled => 1 << 7,
            Self::Exhausted => 1 << 8,
            Self::Recovered => 1 << 9,
            Self::Ping => 0,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that names nothing one can subscribe to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no event; there are {all}", all = names())]
pub struct UnknownTopic(pub String);

fn names() -> String {
    Topic::ALL.map(Topic::as_str).join(", ")
}

impl FromStr for Topic {
    type Err = UnknownTopic;

    fn from_str(name: &str) -> Result<Self, UnknownTopic> {
        let named = Self::ALL.into_iter().chain([Self::Ping]).find(|topic| topic.as_str() == name);
        named.ok_or_else(|| UnknownTopic(name.to_owned()))
    }
}

/// A set of topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Topics(u32);

impl Topics {
    /// The ends of operations and what is found out later: what a callback is told unless
    /// it asks for something else.
    pub const ENDS: Self = Self(
        Topic::Succeeded.bit()
            | Topic::Failed.bit()
            | Topic::Canceled.bit()
            | Topic::Reconciled.bit(),
    );

    /// Whether it has that one.
    pub const fn has(self, topic: Topic) -> bool {
        self.0 & topic.bit() != 0
    }

    /// Those that are in one of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is none in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it, in the order of [`Topic::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Topic> {
        Topic::ALL.into_iter().filter(move |topic| self.has(*topic))
    }

    /// A bit for each, as it is stored.
    pub const fn bits(self) -> i64 {
        self.0 as i64
    }

    /// From stored bits; those that this release does not know are left out.
    pub fn of_bits(bits: i64) -> Self {
        let known = Topic::ALL.into_iter().collect::<Self>();
        Self(u32::try_from(bits).unwrap_or_default() & known.0)
    }
}

impl FromIterator<Topic> for Topics {
    fn from_iter<I: IntoIterator<Item = Topic>>(topics: I) -> Self {
        Self(topics.into_iter().fold(0, |bits, topic| bits | topic.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_its_name_and_its_bit() {
        let all: Topics = Topic::ALL.into_iter().collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), Topic::ALL);
        assert_eq!(all.bits().count_ones() as usize, Topic::ALL.len());
        for topic in Topic::ALL {
            assert_eq!(topic.as_str().parse(), Ok(topic));
            assert_eq!(
                Topics::of_bits(Topics::from_iter([topic]).bits()),
                [topic].into_iter().collect()
            );
        }
        assert!("operation.exploded".parse::<Topic>().is_err());
    }

    #[test]
    fn bits_of_a_later_release_are_left_out() {
        assert_eq!(Topics::of_bits(1 << 30 | 1), [Topic::Succeeded].into_iter().collect());
    }
}
