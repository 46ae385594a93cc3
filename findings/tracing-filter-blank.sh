#!/usr/bin/env bash
# tracing-subscriber 0.3.23 (crates.io): a blank beside a comma or an equals sign makes a directive
# of EnvFilter one for a target that cannot be, without an error.
#
# Seen: `warn,debug` shows lines of the level debug, `warn, debug` shows none: ` debug` is taken for the
# name of a target. `app =debug` is taken and shows none of `app`, where `app=debug` shows them. In
# the same place `warn, app=debug` is an error, so a blank is not forbidden, nor skipped.
#
# One would guess otherwise, because lists in settings are written with blanks, and a filter that
# parses is believed: such a one silences what it was to show. A program trims the parts
# before it hands them over, or refuses blanks.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<'TOML'
[package]
name = "filter-blank"
version = "0.0.0"
edition = "2024"
[dependencies]
tracing = "=0.1.44"
tracing-subscriber = { version = "=0.3.23", features = ["env-filter"] }
TOML
cat >"$folder/src/main.rs" <<'RUST'
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use tracing_subscriber::EnvFilter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(octets)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many lines `app` logs where it has one at the level debug, none where the filter is refused.
fn lines(filter: &str) -> Option<usize> {
    let filter = EnvFilter::try_new(filter).ok()?;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || tracing::debug!(target: "app", "one line"));
    let written = log.0.lock().unwrap();
    Some(written.iter().filter(|octet| **octet == b'\n').count())
}

fn main() {
    let filters = ["warn,debug", "warn, debug", "warn,app=debug", "warn,app =debug", "warn, app=debug"];
    let seen = filters.map(lines);
    for (filter, lines) in filters.iter().zip(seen) {
        println!("{filter:?}: {}", lines.map_or("refused".to_owned(), |lines| format!("taken, {lines} lines")));
    }
    std::process::exit(i32::from(seen != [Some(1), Some(0), Some(1), Some(0), None]));
}
RUST
cargo run --quiet --manifest-path "$folder/Cargo.toml"
