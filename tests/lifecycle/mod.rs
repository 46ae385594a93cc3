//! Starting, draining, dying, and coming back.

mod clocks;
mod crash;
mod drain;
mod keyed_kills;
mod kills;
mod secrets;
mod start;
