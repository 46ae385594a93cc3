//! The tags of the document: the subjects that endpoints are grouped by.

use serde_json::{Value, json};

/// The subject of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Tag {
    Requests,
    Operations,
    Webhooks,
    Queues,
    SerialKeys,
    Ledger,
    Description,
    /// Kept apart from the subject of subscriptions: some generators write the messages into a
    /// file named after their tag, over what the paths of that tag came to.
    Messages,
}

impl Tag {
    const ALL: [Self; 8] = [
        Self::Requests,
        Self::Operations,
        Self::Webhooks,
        Self::Queues,
        Self::SerialKeys,
        Self::Ledger,
        Self::Description,
        Self::Messages,
    ];

    pub(super) const fn name(self) -> &'static str {
        self.words().0
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Requests => ("Requests", "Requests that routes accept as operations."),
            Self::Operations => ("Operations", "Accepted requests: state, result, cancellation."),
            Self::Webhooks => ("Webhooks", "Subscriptions, their keys and their deliveries."),
            Self::Queues => ("Queues", "Queues and upstreams."),
            Self::SerialKeys => ("SerialKeys", "Keys whose operations run one at a time."),
            Self::Ledger => ("Ledger", "The ledger and the nodes that share it."),
            Self::Description => ("Description", "This description."),
            Self::Messages => ("Messages", "What receivers of webhooks and callbacks are sent."),
        }
    }
}

/// All tags, each with its description.
pub(super) fn all() -> Value {
    let tag = |tag: Tag| {
        let (name, says) = tag.words();
        json!({ "name": name, "description": says })
    };
    Tag::ALL.map(tag).into()
}
