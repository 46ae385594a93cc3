//! cloakroom: an HTTP async-request gateway.
//!
//! A request comes in at the [`front`], is written into the [`ledger`] before it is
//! answered, is carried out by the [`engine`] through the [`upstream`] client, and what
//! became of it is read back at the monitor (in [`api`]). Front and engine never call
//! each other: they meet in the ledger. The [`courier`] announces it to whoever asked for
//! that.
//!
//! Layers, outermost first; each imports only from those to its right:
//! `main → cli → app → {front, console, engine, courier} → {api} → {ledger, upstream} → domain`.
//! [`config`], [`clock`], [`lifecycle`], [`open_files`] and [`telemetry`] are leaves that anybody
//! may use;
//! [`listener`] serves what front and console make, and [`wire`] is what upstream and courier
//! speak HTTP/1.1 through. `tests/layers` holds this.

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod courier;
pub mod domain;
pub mod engine;
pub mod front;
pub mod ledger;
pub mod lifecycle;
pub mod listener;
pub mod open_files;
pub mod telemetry;
pub mod upstream;
pub mod wire;
