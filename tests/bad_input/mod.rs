//! Everything that is not as it should be: a clear problem, and nothing is lost.

mod clients;
mod configuration;
mod disk;
mod files;
mod fsync;
mod places;
mod proportion;
mod smuggling;
