#!/usr/bin/env bash
# tokio 1.54.1 (crates.io): a socket whose peer has closed it looks open until the task yields.
#
# Seen: the peer's FIN lies in the kernel, and the task then looks at an idle connection without
# having waited for anything in between. `TcpStream::try_read` says WouldBlock, and a request that
# is written next goes onto a dead connection. After `tokio::task::yield_now()` the same call
# says that the connection has ended. `recv` on the same descriptor says so at once.
#
# One would guess otherwise, because try_read is described as a read that does not wait. It only
# asks the kernel once the runtime's driver has seen the socket become readable, and the driver
# does not run while a task does. A pool that looks at a connection before it is used again has
# to yield first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<'TOML'
[package]
name = "fin-before-yield"
version = "0.0.0"
edition = "2024"
[dependencies]
tokio = { version = "=1.54.1", features = ["rt", "net", "macros", "time"] }
socket2 = "0.6"
TOML
cat >"$folder/src/main.rs" <<'RUST'
use std::io::ErrorKind;
use tokio::net::{TcpListener, TcpStream};

fn look(stream: &TcpStream) -> String {
    match stream.try_read(&mut [0; 16]) {
        Ok(0) => "ended".into(),
        Ok(octets) => format!("{octets} octets"),
        Err(error) if error.kind() == ErrorKind::WouldBlock => "open".into(),
        Err(error) => error.to_string(),
    }
}

fn kernel(stream: &TcpStream) -> String {
    let mut octet = [std::mem::MaybeUninit::uninit(); 1];
    match socket2::SockRef::from(stream).peek(&mut octet) {
        Ok(0) => "ended".into(),
        Ok(_) => "octets".into(),
        Err(_) => "open".into(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (server, _) = listener.accept().await?;
    client.writable().await?;
    let idle = look(&client);
    // The server closes; on the loopback its FIN is there when the call is back.
    drop(server);
    let (before, known) = (look(&client), kernel(&client));
    tokio::task::yield_now().await;
    let after = look(&client);
    println!("idle: {idle}; after the FIN: {before}, the kernel says {known}; after a yield: {after}");
    let seen = [idle.as_str(), &before, &known, &after];
    std::process::exit(i32::from(seen != ["open", "open", "ended", "ended"]));
}
RUST
cargo run --quiet --manifest-path "$folder/Cargo.toml"
