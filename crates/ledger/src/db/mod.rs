//! What both backends have in common, and knows no verb.

pub(crate) mod statements;
