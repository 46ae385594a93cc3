//! Bad input: each gets a clear problem, and nothing is lost.

mod clients;
mod configuration;
mod disk;
mod files;
mod fsync;
mod proportion;
mod smuggling;
mod store_paths;
