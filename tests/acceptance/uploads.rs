//! Uploads: complete ones, slow ones, and ones that end early.

use crate::support::gateway::Process;
use crate::support::{Connection, Gateway, Setup, Ticket, Upstream, post};

const MIB: usize = 1024 * 1024;
/// A body in pieces that the ledger throws away in one commit; the rest of a larger one follows.
const AT_ONCE: usize = 4 * MIB;

/// Stops a gateway, and gives the octets that its ledger has ever needed on disk: a log that
/// has been written back, and pages that were freed for what came later.
async fn size_at_the_end(mut process: Process) -> usize {
    process.signal("TERM").await;
    assert!(process.ended().await.success());
    std::fs::metadata(process.store()).unwrap().len() as usize
}

#[tokio::test]
async fn a_client_that_goes_away_before_its_commit_leaves_nothing_behind() {
    const TRIES: usize = 40;
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).route("POST /uploads", "").spawn().await;
    for _ in 0..TRIES {
        let mut connection = Connection::open(process.public).await;
        let upload = post("/uploads").body("application/octet-stream", vec![b'x'; AT_ONCE]);
        // Everything is sent, and the answer is not waited for.
        connection.send_raw(upload.bytes(process.public)).await;
        connection.reset();
        // What is written down after it stands behind what became of it.
        let ticket = process.accept(post("/uploads")).await;
        process.settled(&ticket).await;
    }
    let kept = process.listed().await.saturating_sub(TRIES);
    assert!(kept < TRIES / 4, "{kept} uploads were accepted before their client went away");
    let size = size_at_the_end(process).await;
    assert!(size < (kept + 4) * 6 * MIB, "{size} octets for {kept} uploads");
}

#[tokio::test]
async fn a_large_body_that_is_refused_leaves_nothing_behind() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).route("POST /uploads", "").spawn().await;
    let upload = |with: u8| {
        let body = vec![with; AT_ONCE];
        post("/uploads").field("Idempotency-Key", "one").body("application/octet-stream", body)
    };
    process.send(upload(b'x')).await.expect(202);
    for _ in 0..6 {
        process.send(upload(b'y')).await.problem(422);
        process.send(upload(b'x')).await.expect(202);
    }
    assert_eq!(process.listed().await, 1);
    let size = size_at_the_end(process).await;
    assert!(size < 24 * MIB, "{size} octets");
}

#[tokio::test]
async fn a_client_that_sends_everything_before_it_reads_sees_why_it_was_refused() {
    let upstream = Upstream::start().await;
    let open = Setup::before(&upstream).max_body(MIB).start().await;
    let strict = Setup::before(&upstream).principal("authorization").start().await;
    let large = || post("/orders").body("application/octet-stream", vec![b'x'; 20 * MIB]);
    for (gateway, request, status) in [
        (&open, large(), 413),
        (&open, large().field("Expect", "300-maybe"), 417),
        (&strict, large(), 401),
    ] {
        sends_all_and_reads(gateway, &request.bytes(gateway.public), status).await;
    }
    let mut chunked = post("/orders").field("Transfer-Encoding", "chunked").head(open.public);
    for _ in 0..20 {
        chunked.extend_from_slice(format!("{MIB:x}\r\n").as_bytes());
        chunked.extend(std::iter::repeat_n(b'x', MIB));
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    sends_all_and_reads(&open, &chunked, 413).await;
}

async fn sends_all_and_reads(gateway: &Gateway, octets: &[u8], status: u16) {
    let mut connection = Connection::open(gateway.public).await;
    connection.send_raw(octets).await;
    let answer = connection.response().await;
    assert_eq!(answer.field("connection"), Some("close"));
    answer.problem(status);
}

#[tokio::test]
async fn a_body_on_a_get_is_kept_with_the_operation_and_passed_on() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).route("GET /search", "").start().await;
    let whole = "Content-Length: 5\r\n\r\nhello";
    let chunked = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for (target, framing) in [("/search", whole), ("/search", chunked), ("/other", whole)] {
        let mut connection = Connection::open(gateway.public).await;
        connection.send_raw(format!("GET {target} HTTP/1.1\r\nHost: x\r\n{framing}")).await;
        let answer = connection.response().await;
        if target == "/search" {
            gateway.settled(&Ticket::of(&answer.expect(202))).await;
        }
        assert_eq!(upstream.received().pop().unwrap().body, b"hello", "{target} {framing:?}");
    }
}
