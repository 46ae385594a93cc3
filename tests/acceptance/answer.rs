//! The 202 itself.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::gateway::order;
use crate::support::{Gateway, Setup, Ticket, Upstream, get, post, time};

#[tokio::test]
async fn a_routed_request_is_answered_with_202_and_the_monitor_in_absolute_urls() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let answer = gateway.send(order()).await.expect(202);
    let monitor = answer.expect_field("location");
    assert!(monitor.starts_with(&format!("{}/-/operations/", gateway.origin())), "{monitor}");
    assert_eq!(answer.field("content-location"), Some(monitor));
    assert_eq!(answer.field("operation-location"), Some(&*format!("{monitor}/status")));
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert_eq!(answer.field("referrer-policy"), Some("no-referrer"));
    assert_eq!(answer.field("gateway-origin"), Some("cloakroom"));
    assert_eq!(answer.field("preference-applied"), None);
}

#[tokio::test]
async fn retry_after_is_whole_seconds_from_1_to_30() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let first = gateway.send(order()).await.expect(202);
    assert_eq!(first.all("retry-after"), ["1"]);
    upstream.until_received("/orders", 1).await;
    gateway.advance(800);
    upstream.release("/orders");
    gateway.until_finished(&Ticket::of(&first)).await;
    let next = gateway.send(order()).await.expect(202);
    assert_eq!(next.all("retry-after"), ["30"]);
}

#[tokio::test]
async fn the_202_carries_the_operation_document() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let answer = gateway.send(order()).await.expect(202);
    let document = answer.json();
    assert_eq!(answer.field("content-type"), Some("application/vnd.cloakroom.operation+json"));
    assert_eq!(document["id"], answer.expect_field("operation-id"));
    assert_eq!(document["links"]["monitor"], answer.expect_field("location"));
    assert_eq!(document["request"], json!({"method": "POST", "url": "/orders"}));
    assert!(matches!(document["status"].as_str(), Some("queued" | "running")), "{document}");
}

#[tokio::test]
async fn the_202_comes_before_the_upstream_has_answered() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    upstream.until_received("/orders", 1).await;
    upstream.release("/orders");
    assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
}

#[tokio::test]
async fn an_id_is_a_version_7_uuid_and_the_ticket_adds_an_unguessable_tail_to_it() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let (one, two) = (gateway.post_order().await, gateway.post_order().await);
    let segment = |ticket: &Ticket| ticket.monitor.rsplit('/').next().unwrap().to_owned();
    for ticket in [&one, &two] {
        assert_eq!((ticket.id.len(), &ticket.id[14..15]), (36, "7"), "{}", ticket.id);
        let tail = segment(ticket).strip_prefix(&ticket.id).map(str::len);
        assert!(tail >= Some(22), "128 bits take 22 characters at least: {ticket:?}");
    }
    assert_ne!(one.id, two.id);
    assert_ne!(segment(&one)[36..], segment(&two)[36..]);
}

#[tokio::test]
async fn a_ticket_without_its_right_tail_is_404_on_every_resource() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    let mut forged = ticket.monitor.clone();
    let last = if forged.pop() == Some('0') { '1' } else { '0' };
    forged.push(last);
    let bare = format!("/-/operations/{}", ticket.id);
    for monitor in [&*forged, &*bare, "/-/operations/nonsense"] {
        for resource in ["", "/status", "/result", "/events", "/tree"] {
            gateway.get(&format!("{monitor}{resource}")).await.problem(404);
        }
        gateway.send(post(format!("{monitor}/cancel"))).await.problem(404);
        gateway.send(crate::support::Request::new("DELETE", monitor)).await.problem(404);
    }
    gateway.get(&ticket.monitor).await.expect(303);
}

#[tokio::test]
async fn the_admin_listener_takes_the_bare_id_as_well_as_the_ticket() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    let by_id = format!("/-/operations/{}/status", ticket.id);
    for target in [by_id, ticket.at("status")] {
        let document: Value = gateway.admin(get(target)).await.expect(200).json();
        assert_eq!(document["id"], &*ticket.id);
    }
}

#[tokio::test]
async fn the_upstream_gets_the_original_method_target_and_body() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let body: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let request = post("/orders;v=1?q=a%20b&r=%C3%A9").body("application/octet-stream", &*body);
    let ticket = gateway.accept(request).await;
    gateway.settled(&ticket).await;
    let received = upstream.only();
    assert_eq!(received.method, "POST");
    assert_eq!(received.target, "/orders;v=1?q=a%20b&r=%C3%A9");
    assert_eq!(received.expect_field("content-type"), "application/octet-stream");
    assert!(received.body == body, "{} octets of {}", received.body.len(), body.len());
}

#[tokio::test]
async fn an_operation_survives_a_restart_of_the_gateway() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    let gateway = gateway.restart().await;
    assert_eq!(gateway.document(&ticket).await["status"], "queued");
    assert!(upstream.received().is_empty());
    let document = gateway.settled_by_steps_of(30, &ticket).await;
    assert_eq!(document["status"], "succeeded");
    upstream.only();
}

#[tokio::test]
async fn any_method_can_be_a_route() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::before(&upstream);
    let methods = ["PUT", "PATCH", "DELETE", "GET"];
    for method in methods {
        setup = setup.route(&format!("{method} /things/{{id}}"), "");
    }
    let gateway = setup.start().await;
    for (done, method) in methods.into_iter().enumerate() {
        let ticket = gateway.accept(crate::support::Request::new(method, "/things/7")).await;
        gateway.settled(&ticket).await;
        assert_eq!(upstream.received()[done].method, method);
    }
}

#[tokio::test]
async fn a_chunked_body_is_accepted_whole() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = crate::support::Connection::open(gateway.public).await;
    let head = post("/orders").field("Transfer-Encoding", "chunked");
    connection.send_head(&head).await;
    connection.send_raw("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n").await;
    let ticket = Ticket::of(&connection.response().await.expect(202));
    gateway.settled(&ticket).await;
    assert_eq!(upstream.only().body, b"hello world");
}

#[tokio::test]
async fn a_connection_takes_one_request_after_the_other() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = crate::support::Connection::open(gateway.public).await;
    for _ in 0..3 {
        connection.send(&order()).await.expect(202);
    }
    time::until("three operations", || async { (gateway.listed().await == 3).then_some(()) }).await;
}

#[tokio::test]
async fn retry_after_follows_what_the_route_has_been_taking() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let first = gateway.send(order()).await.expect(202);
    assert_eq!(first.expect_field("retry-after"), "1");
    let ticket = Ticket::of(&first);
    upstream.until_received("/orders", 1).await;
    gateway.advance(12);
    upstream.release("/orders");
    gateway.until_finished(&ticket).await;
    let next = gateway.send(order()).await.expect(202);
    assert_eq!(next.expect_field("retry-after"), "12");
}

#[tokio::test]
async fn retry_after_grows_with_the_queue() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway =
        Setup::before(&upstream).set("upstreams.default", "max_in_flight = 1").start().await;
    let first = gateway.post_order().await;
    upstream.until_received("/orders", 1).await;
    gateway.advance(3);
    upstream.release("/orders");
    gateway.until_finished(&first).await;
    upstream.hold("/orders");
    for _ in 0..70 {
        gateway.post_order().await;
    }
    time::until("a longer time", || async {
        let seconds = gateway.send(order()).await.expect(202);
        let seconds: u32 = seconds.expect_field("retry-after").parse().unwrap();
        (seconds > 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn neighbours_in_time_share_nothing_but_their_time_and_their_ledger() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    // The clock stands still, so that these are of one millisecond.
    let (mut times, mut random) = (BTreeSet::new(), BTreeSet::new());
    let (mut above, mut before) = (0, 0);
    for _ in 0..40 {
        let id = gateway.accept(order().field("Operation-Delay", "60")).await.id.replace('-', "");
        times.insert(id[..12].to_owned());
        let tail = u64::from_str_radix(&id[20..], 16).unwrap();
        above += usize::from(tail > before);
        before = tail;
        random.insert(tail);
    }
    assert_eq!((times.len(), random.len()), (1, 40));
    assert!((4..=36).contains(&above), "it counts: {above} of 40 rise");
}

#[tokio::test]
async fn a_route_can_leave_the_document_out_of_its_202() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).route("POST /orders", "accepted = \"minimal\"");
    let gateway = setup.route("POST /alarms", "accepted = \"document\"").start().await;
    for request in
        [order(), order().field("Idempotency-Key", "k"), order().field("Idempotency-Key", "k")]
    {
        let answer = gateway.send(request).await.expect(202);
        assert_eq!((&*answer.body, answer.field("content-type")), (&b""[..], None));
        assert_eq!(answer.field("preference-applied"), None);
        answer.expect_field("location");
        answer.expect_field("operation-id");
    }
    let asked = gateway.send(order().field("Prefer", "return=minimal")).await.expect(202);
    assert_eq!(asked.field("preference-applied"), Some("return=minimal"));
    assert!(gateway.send(post("/alarms")).await.expect(202).json()["id"].is_string());
    let pending = gateway.accept(order().field("Operation-Delay", "60")).await;
    assert_eq!(gateway.get(&pending.monitor).await.expect(202).json()["id"], *pending.id);
}

#[tokio::test]
async fn a_route_can_name_its_monitor_by_a_path() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .set("server", "public_url = \"https://api.example.com/base\"")
        .route("POST /orders", "location = \"relative\"")
        .route("POST /alarms", "")
        .start()
        .await;
    let answer = gateway.send(order().field("Operation-Delay", "60")).await.expect(202);
    let path = answer.expect_field("location").to_owned();
    assert!(path.starts_with("/base/-/operations/"), "{path}");
    assert_eq!(answer.field("content-location"), Some(&*path));
    let monitor = format!("https://api.example.com{path}");
    assert_eq!(answer.json()["links"]["monitor"], *monitor);
    assert_eq!(answer.field("operation-location"), Some(&*format!("{monitor}/status")));
    let own = path.strip_prefix("/base").unwrap();
    for resource in ["", "/result"] {
        let pending = gateway.get(&format!("{own}{resource}")).await.expect(202);
        assert_eq!(pending.field("location"), Some(&*path), "{resource}");
    }
    let other = gateway.send(post("/alarms")).await.expect(202);
    assert!(other.expect_field("location").starts_with("https://api.example.com/base/-/"));
}

#[tokio::test]
async fn the_202_says_that_an_operation_waits_for_another_one_from_the_beginning() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let keyed = || order().field("Operation-Serial-Key", "customer-7");
    let first = gateway.accept(keyed()).await;
    let second = gateway.send(keyed()).await.expect(202).json();
    assert_eq!(
        (&second["status"], &second["waitingFor"]),
        (&json!("waiting"), &json!("serial-key"))
    );
    assert_eq!(second["nextAttemptAt"], Value::Null);
    upstream.release("/orders");
    gateway.settled(&first).await;
}
