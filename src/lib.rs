//! cloakroom: an HTTP async-request gateway.
//!
//! A request comes in at the [`front`], is written into the ledger ([`cloakroom_ledger`]) before
//! it is answered, is carried out by the [`engine`] through the [`upstream`] client, and its
//! outcome is read back at the monitor (in [`api`]). Front and engine never call each other: they
//! meet in the ledger. The [`webhooks`] tells subscribers of it.
//!
//! Layers, outermost first; each imports only from those to its right:
//! `main → cli → app → {front, console, engine, webhooks} → api → {ledger, upstream} → domain`.
//! The ledger and the domain are crates of their own below `crates/`, as is
//! [`cloakroom_runtime`] (time and tasks), which every layer but the domain may use. [`config`],
//! [`hyper_timer`], [`open_files`] and [`telemetry`] are leaves; [`listener`] serves the routers
//! of front and console, and upstream and webhooks speak HTTP/1.1 through [`wire`]. The compiler
//! holds the crates' layers, `tests/layers` the rest.

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod console;
pub mod engine;
pub mod front;
pub mod hyper_timer;
pub mod listener;
pub mod open_files;
pub mod telemetry;
pub mod upstream;
pub mod webhooks;
pub mod wire;
