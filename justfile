# What is done often. `just` without a name lists it.

_list:
    @just --list

# What CI runs
ci:
    .ci/run

# All tests, without formatting, lints and schemathesis
test *arguments:
    cargo test {{ arguments }}

# Format everything
fmt:
    cargo fmt
    cargo fmt --manifest-path bench/Cargo.toml

# What CI says about formatting, style, and the crates that are used
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    @if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny is not installed: crates not checked"; fi

# The conversation of a first order, then gateway and upstream to try things with
demo *arguments:
    cargo run --release -- demo {{ arguments }}

# Measure what bench/README.md publishes
bench *arguments:
    bench/run {{ arguments }}

# Measure what it publishes about PostgreSQL
bench-postgres *arguments:
    bench/postgres {{ arguments }}

# Measure what it publishes about webhooks
bench-deliveries *arguments:
    bench/deliveries {{ arguments }}

# Write the description of the API anew
openapi:
    cargo run --quiet -- openapi > target/openapi.json
    mv target/openapi.json openapi/cloakroom.json
