//! Contract section 4: the monitor and what lies below it.

mod cancel;
mod delete;
mod document;
mod events;
mod finished;
mod list;
mod pending;
mod preconditions;
mod result;
mod tree;
