#!/usr/bin/env bash
# hyper 1.12.0 (crates.io): its HTTP/1 client refuses an answer with more than 100 field lines,
# however short they are.
#
# Seen: 100 lines are read; with 101 the whole answer is an error ("message head is too large"),
# although the head has about a thousand octets and max_buf_size allows 400 kB.
#
# One would guess otherwise, because the limit of octets is the one that is documented beside the
# buffer, and curl, browsers and Node read such answers. A client that must not take an answer
# for none sets `max_headers` on its connection builder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<'TOML'
[package]
name = "many-fields"
version = "0.0.0"
edition = "2024"
[dependencies]
hyper = { version = "=1.12.0", features = ["client", "http1"] }
hyper-util = { version = "=0.1.21", features = ["tokio"] }
http-body-util = "=0.1.5"
bytes = "1"
tokio = { version = "1", features = ["rt", "net", "io-util", "macros"] }
TOML
cat >"$folder/src/main.rs" <<'RUST'
use std::error::Error;
use http_body_util::Empty;
use hyper::client::conn::http1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn answer_of(lines: usize, most: Option<usize>) -> Result<u16, Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = async move {
        let (mut socket, _) = listener.accept().await?;
        let _ = socket.read(&mut [0; 4096]).await?;
        let fields: String = (1..lines).map(|n| format!("X-{n}: 1\r\n")).collect();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
        socket.write_all(head.as_bytes()).await
    };
    let client = async move {
        let io = hyper_util::rt::TokioIo::new(tokio::net::TcpStream::connect(address).await?);
        let mut builder = http1::Builder::new();
        if let Some(most) = most {
            builder.max_headers(most);
        }
        let (mut sender, connection) = builder.handshake(io).await?;
        let request = hyper::Request::get("/").header("host", "a").body(Empty::<bytes::Bytes>::new())?;
        let (answer, _) = tokio::join!(sender.send_request(request), connection);
        Ok::<_, Box<dyn Error>>(answer?.status().as_u16())
    };
    let (_, status) = tokio::join!(server, client);
    status
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let told = |result: Result<u16, Box<dyn Error>>| result.map_or_else(|e| e.to_string(), |s| s.to_string());
    let (most, beyond, raised) =
        (told(answer_of(100, None).await), told(answer_of(101, None).await), told(answer_of(101, Some(1000)).await));
    println!("100 lines: {most}; 101 lines: {beyond}; 101 lines with max_headers(1000): {raised}");
    std::process::exit(i32::from(most != "200" || beyond == "200" || raised != "200"));
}
RUST
cargo run --quiet --manifest-path "$folder/Cargo.toml"
