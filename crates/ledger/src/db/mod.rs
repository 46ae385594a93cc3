//! The common parts of both backends, which know no verb.

pub(crate) mod statements;
