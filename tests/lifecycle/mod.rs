//! The program's life: start, drain, death, return.

mod clocks;
mod crash;
mod drain;
mod keyed_kills;
mod kills;
mod secrets;
mod start;
mod tracing;
