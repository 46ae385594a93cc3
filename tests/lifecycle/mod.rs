//! Starting, draining, dying, and coming back.

mod crash;
mod drain;
mod kills;
mod start;
