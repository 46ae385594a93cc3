//! The cost of a request, in proportion to its length.

use crate::support::gateway::Process;
use crate::support::{Gateway, Request, Setup, Upstream, get, post};

const MIB: usize = 1024 * 1024;

/// The most memory that a process has taken so far, in octets.
fn most_memory(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// JSON of 6 MiB whose tree would take many times that, with an order number at its end.
fn wide(number: usize) -> Vec<u8> {
    let end = format!("],\"number\":{number}}}");
    let mut body = b"{\"items\":[0".to_vec();
    while body.len() + end.len() < 6 * MIB {
        body.extend_from_slice(b",0");
    }
    body.extend_from_slice(end.as_bytes());
    body
}

#[tokio::test]
async fn a_pointer_into_a_large_body_takes_no_memory_of_its_own() {
    let upstream = Upstream::start().await;
    let mut most = Vec::new();
    for places in ["", "idempotency_key = \"pointer:/number\"\nserial_key = \"pointer:/number\""] {
        let process = Setup::before(&upstream).route("POST /orders", places).spawn().await;
        for number in 0..2 {
            process.send(post("/orders").body("application/json", wide(number))).await.expect(202);
        }
        if !places.is_empty() {
            let repeat = post("/orders").body("application/json", wide(1));
            let answer = process.send(repeat).await.expect(202);
            assert_eq!(answer.field("idempotency-replayed"), Some("true"));
        }
        most.push(most_memory(&process));
    }
    let more = most[1].saturating_sub(most[0]);
    assert!(more < 40 * MIB, "{} MiB more: {most:?}", more / MIB);
}

#[tokio::test]
async fn long_lists_in_fields_are_read_or_refused_without_ado() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).set("server", "max_headers = \"1MiB\"").start().await;
    // Comparing each member with all others would take minutes.
    let many = |count: usize| (0..count).map(|n| format!("{n:x}")).collect::<Vec<_>>().join(",");
    let long = many(140_000);
    let accepted = |name: &str| post("/orders").field(name, &*long);
    for name in
        ["Prefer", "Connection", "Forwarded", "X-Forwarded-For", "CDN-Loop", "Via", "Accept"]
    {
        gateway.send(accepted(name)).await.expect(202);
        gateway.send(get("/catalogue").field(name, &*long)).await.expect(200);
    }
    gateway.send(accepted("Operation-Tags")).await.problem(400);
    gateway.send(accepted("Expect")).await.problem(417);
    gateway.send(accepted("Idempotency-Key")).await.problem(400);
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    for name in ["Prefer", "Accept", "If-None-Match", "Range", "Last-Event-ID"] {
        for resource in ["status", "result", "events"] {
            let asked: Request = get(ticket.at(resource)).field(name, &*long);
            assert!(gateway.send(asked).await.status < 500, "{name} {resource}");
        }
    }
    healthy(&gateway).await;
}

async fn healthy(gateway: &Gateway) {
    let ticket = gateway.post_order().await;
    assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
}
