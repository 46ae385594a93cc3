//! Limits on requests: 413 and 503, with nothing stored.

use crate::support::gateway::order;
use crate::support::{Connection, Gateway, Request, Response, Setup, Upstream, get, post, time};

#[tokio::test]
async fn a_body_over_the_limit_is_413_that_names_the_limit_and_stores_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).max_body(1024).start().await;
    let problem = gateway.send(post("/orders").body("text/plain", [b'x'; 1025])).await.problem(413);
    let words = problem.to_string();
    assert!(
        words.contains("max_body") || words.contains("1024") || words.contains("1 KiB"),
        "{words}"
    );
    assert_eq!(gateway.listed().await, 0);
    gateway.send(post("/orders").body("text/plain", [b'x'; 1024])).await.expect(202);
    assert_eq!(gateway.listed().await, 1);
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_413_too() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).max_body(1024).start().await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&post("/orders").field("Transfer-Encoding", "chunked")).await;
    for _ in 0..11 {
        let chunk = [b"64\r\n".as_slice(), &[b'x'; 100], b"\r\n"].concat();
        // It may have answered and closed already.
        _ = connection.try_send_raw(chunk).await;
    }
    connection.response().await.problem(413);
    assert_eq!(gateway.listed().await, 0);
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn a_full_queue_is_503_with_retry_after_and_stores_nothing() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Setup::before(&upstream)
        .set("upstreams.default", "max_in_flight = 1")
        .set("queues.default", "max_depth = 3")
        .start()
        .await;
    let mut accepted = Vec::new();
    let refused = loop {
        let answer = gateway.send(order()).await;
        if answer.status != 202 {
            break answer;
        }
        accepted.push(crate::support::Ticket::of(&answer));
        assert!(accepted.len() < 20, "the queue never fills");
    };
    let seconds: u32 = refused.expect_field("retry-after").parse().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
    refused.problem(503);
    assert_eq!(gateway.listed().await, accepted.len());
    upstream.release("/orders");
    for ticket in &accepted {
        assert_eq!(gateway.settled(ticket).await["status"], "succeeded");
    }
    gateway.send(order()).await.expect(202);
}

async fn default_queue(gateway: &Gateway) -> serde_json::Value {
    let standing = gateway.admin(get("/-/queues")).await.expect(200).json();
    let queues = standing["queues"].as_array().unwrap();
    queues.iter().find(|queue| queue["name"] == "default").unwrap().clone()
}

async fn until_empty(gateway: &Gateway) {
    time::until("a queue that stores nothing", || async {
        (default_queue(gateway).await["stored"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_queue_that_stores_too_much_is_503_with_retry_after_until_something_ends() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway =
        Setup::before(&upstream).set("queues.default", "max_stored = \"1MiB\"").start().await;
    let large = || order().body("text/plain", vec![b'x'; 400 * 1024]);
    let mut accepted = vec![gateway.accept(large()).await, gateway.accept(large()).await];
    for _ in 0..2 {
        let refused = gateway.send(large()).await;
        let seconds: u32 = refused.expect_field("retry-after").parse().unwrap();
        assert!((1..=30).contains(&seconds), "{seconds}");
        let problem = refused.problem(503);
        assert!(problem["type"].as_str().unwrap().ends_with("queue-full"), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("max_stored"), "{problem}");
        assert!(problem["stored"].as_u64().unwrap() > 800 * 1024, "{problem}");
    }
    assert_eq!(gateway.listed().await, accepted.len());
    // A small one still has room.
    accepted.push(gateway.post_order().await);
    let queue = default_queue(&gateway).await;
    assert_eq!(queue["maxStored"], 1 << 20);
    assert!((800 << 10..1 << 20).contains(&queue["stored"].as_u64().unwrap()), "{queue}");
    upstream.release("/orders");
    for ticket in &accepted {
        gateway.settled(ticket).await;
    }
    until_empty(&gateway).await;
    let scraped = gateway.admin(get("/metrics")).await.expect(200).text();
    let line = "cloakroom_queue_stored_bytes{queue=\"default\",upstream=\"default\"} 0";
    assert!(scraped.contains(line), "{scraped}");
    gateway.send(large()).await.expect(202);
}

#[tokio::test]
async fn a_queue_that_stores_nothing_takes_one_of_any_size_and_knows_of_it_after_a_restart() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .set("queues.default", "max_stored = \"1KiB\"\npaused = true")
        .start()
        .await;
    let ticket = gateway.accept(order().body("text/plain", vec![b'x'; 400 * 1024])).await;
    let gateway = gateway.restart().await;
    gateway.send(order()).await.problem(503);
    gateway.send(Request::new("DELETE", &*ticket.monitor)).await.expect(204);
    until_empty(&gateway).await;
    gateway.send(order()).await.expect(202);
}

/// Begins three bodies in room for two, and gives the answer to the one that is refused
/// and the two others, which are received but for their end.
async fn three_in_room_for_two(
    gateway: &Gateway,
    head: Request,
    body: &[u8],
) -> (Response, Vec<Connection>) {
    let mut unfinished = Vec::new();
    for _ in 0..3 {
        let mut connection = Connection::open(gateway.public).await;
        connection.send_head(&head).await;
        // It may have been refused already.
        _ = connection.try_send_raw(body).await;
        unfinished.push(connection);
    }
    let [one, two, three] = unfinished.as_mut_slice() else { panic!("three connections") };
    let (refused, which) = tokio::select! {
        answer = one.response() => (answer, 0),
        answer = two.response() => (answer, 1),
        answer = three.response() => (answer, 2),
    };
    unfinished.remove(which);
    (refused, unfinished)
}

#[tokio::test]
async fn bodies_being_received_share_one_memory_budget_and_past_it_is_503() {
    let chunk = [format!("{:x}\r\n", 99_999).into_bytes(), vec![b'x'; 99_999]].concat();
    for (framing, value, body, end) in [
        ("Content-Length", "100000", vec![b'x'; 99_999], "x"),
        ("Transfer-Encoding", "chunked", chunk, "\r\n0\r\n\r\n"),
    ] {
        let upstream = Upstream::start().await;
        let gateway = Setup::before(&upstream).max_body(100_000).body_memory(200_000).start().await;
        let head = post("/orders").field(framing, value);
        let (refused, others) = three_in_room_for_two(&gateway, head, &body).await;
        let seconds: u32 = refused.expect_field("retry-after").parse().unwrap();
        assert!((1..=30).contains(&seconds), "{seconds}");
        refused.problem(503);
        for mut connection in others {
            connection.send_raw(end).await;
            connection.response().await.expect(202);
        }
        gateway.send(post("/orders").body("text/plain", vec![b'y'; 50_000])).await.expect(202);
        assert_eq!(gateway.listed().await, 3, "{framing}");
    }
}

#[tokio::test]
async fn whoever_goes_away_in_mid_body_gives_its_memory_back() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).max_body(100_000).body_memory(200_000).start().await;
    let head = post("/orders").field("Content-Length", "100000");
    let (refused, others) = three_in_room_for_two(&gateway, head, &vec![b'x'; 99_999]).await;
    refused.problem(503);
    drop(others);
    time::until("memory again", || async {
        let whole = post("/orders").body("text/plain", vec![b'y'; 100_000]);
        (gateway.send(whole).await.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_head_over_the_limit_is_a_4xx_and_stores_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).start().await;
    let mut connection = Connection::open(gateway.public).await;
    let huge = order().field("X-Huge", "x".repeat(2_000_000));
    _ = connection.try_send_raw(huge.bytes(gateway.public)).await;
    match connection.try_response(false).await {
        Ok(answer) => assert!(matches!(answer.status, 400 | 413 | 431), "{answer:?}"),
        // It closes without reading the rest; a reset may overtake the answer.
        Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::TimedOut),
    }
    assert_eq!(gateway.listed().await, 0);
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn unless_set_a_body_has_at_most_16_mib() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).start().await;
    let announced = |length: u32| {
        let length = post("/orders").field("Content-Length", length.to_string());
        length.field("Expect", "100-continue")
    };
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&announced(16 * 1024 * 1024)).await;
    assert_eq!(connection.head().await.status, 100);
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&announced(16 * 1024 * 1024 + 1)).await;
    connection.response().await.problem(413);
}
