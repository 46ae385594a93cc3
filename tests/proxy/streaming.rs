//! Proxied bodies: streamed in both directions.

use crate::support::upstream::closed_port;
use crate::support::{Answer, Connection, Gateway, Request, Setup, Upstream, get};

#[tokio::test]
async fn both_bodies_are_streamed_not_collected() {
    let upstream = Upstream::start().await;
    upstream.on("/echo", Answer::Echo);
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&Request::new("PUT", "/echo").field("Content-Length", "15")).await;
    connection.send_raw("first").await;
    assert_eq!(connection.head().await.status, 200);
    let mut echoed = Vec::new();
    for (piece, so_far) in [("", "first"), ("middl", "firstmiddl"), ("final", "firstmiddlfinal")] {
        connection.send_raw(piece).await;
        while echoed.len() < so_far.len() {
            echoed.extend(connection.piece().await.expect("more of the echo"));
        }
        assert_eq!(String::from_utf8_lossy(&echoed), so_far);
    }
}

#[tokio::test]
async fn status_fields_and_body_of_the_upstream_pass_as_they_are() {
    let upstream = Upstream::start().await;
    let answer = Answer::status(418)
        .field("X-Own", "one")
        .field("X-Own", "two")
        .field("Set-Cookie", "a=b; Path=/")
        .field("Cache-Control", "max-age=60")
        .field("ETag", "\"x\"")
        .body("text/plain", "short and stout");
    upstream.on("/tea", answer);
    let gateway = Gateway::before(&upstream).await;
    let answer = gateway.get("/tea?milk=1").await.expect(418);
    assert_eq!(answer.all("x-own"), ["one", "two"]);
    assert_eq!(answer.all("set-cookie"), ["a=b; Path=/"]);
    assert_eq!(answer.all("cache-control"), ["max-age=60"]);
    assert_eq!(answer.all("etag"), ["\"x\""]);
    assert_eq!(answer.all("gateway-origin"), ["upstream"]);
    assert_eq!(answer.text(), "short and stout");
    assert_eq!(upstream.only().target, "/tea?milk=1");
}

#[tokio::test]
async fn conditions_and_ranges_pass_where_nothing_is_routed() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let request = get("/catalogue")
        .field("Range", "bytes=0-1")
        .field("If-None-Match", "\"x\"")
        .field("Accept-Encoding", "gzip");
    gateway.send(request).await.expect(200);
    let received = upstream.only();
    assert_eq!(received.all("range"), ["bytes=0-1"]);
    assert_eq!(received.all("if-none-match"), ["\"x\""]);
    assert_eq!(received.all("accept-encoding"), ["gzip"]);
}

#[tokio::test]
async fn a_location_that_names_the_upstream_is_put_on_the_public_origin() {
    let upstream = Upstream::start().await;
    let here = format!("{}/things/7", upstream.url());
    let answer = Answer::status(302).field("Location", &here).field("Content-Location", &here);
    upstream.on("/moved", answer);
    let elsewhere = Answer::status(302).field("Location", "https://elsewhere.example/");
    upstream.on("/elsewhere", elsewhere);
    let gateway = Gateway::before(&upstream).await;
    let answer = gateway.get("/moved").await.expect(302);
    let public = format!("{}/things/7", gateway.origin());
    assert_eq!(answer.field("location"), Some(&*public));
    assert_eq!(answer.field("content-location"), Some(&*public));
    let answer = gateway.get("/elsewhere").await.expect(302);
    assert_eq!(answer.field("location"), Some("https://elsewhere.example/"));
}

#[tokio::test]
async fn a_large_body_passes_in_both_directions() {
    let upstream = Upstream::start().await;
    let body: Vec<u8> = (0..=255).cycle().take(20_000_000).collect();
    upstream.on("/big", Answer::status(200).body("application/octet-stream", &*body));
    // Passing on has no limit: nothing of it is kept.
    let gateway = Setup::before(&upstream).max_body(1024).max_response(1024).start().await;
    let put = Request::new("PUT", "/big").body("application/octet-stream", &*body);
    let answer = gateway.send(put).await.expect(200);
    assert!(answer.body == body);
    assert!(upstream.only().body == body);
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_502_problem() {
    let address = closed_port().await;
    let gateway = Setup::before_url(&format!("http://{address}")).start().await;
    gateway.get("/catalogue").await.problem(502);
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_a_502_problem() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for answer in [Answer::Reset, Answer::Close, Answer::Raw(b"garbage\r\n\r\n".to_vec())] {
        upstream.on("/catalogue", answer);
        gateway.get("/catalogue").await.problem(502);
    }
}

#[tokio::test]
async fn a_truncated_answer_stays_recognisable_as_truncated() {
    let upstream = Upstream::start().await;
    upstream.on("/catalogue", Answer::truncated());
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&get("/catalogue")).await;
    connection.head().await.expect(200);
    while let Ok(piece) = connection.try_piece().await {
        assert_ne!(piece, None, "it looks whole");
    }
}

#[tokio::test]
async fn when_the_client_goes_away_so_does_the_upstream_request() {
    let upstream = Upstream::start().await;
    upstream.hold("/slow");
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&get("/slow")).await;
    upstream.until_received("/slow", 1).await;
    drop(connection);
    // For some seconds it looks like one that has only ended its side.
    let dropped = || async { (upstream.dropped() == 1).then_some(()) };
    gateway.while_stepping(1, "the drop", dropped).await;
}

#[tokio::test]
async fn a_client_whose_connection_is_reset_has_gone_at_once() {
    let upstream = Upstream::start().await;
    upstream.hold("/slow");
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&get("/slow")).await;
    upstream.until_received("/slow", 1).await;
    connection.reset();
    let dropped = || async { (upstream.dropped() == 1).then_some(()) };
    crate::support::time::until("the drop", dropped).await;
}

#[tokio::test]
async fn nothing_of_it_is_stored() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    gateway.get("/catalogue").await.expect(200);
    gateway.send(Request::new("PUT", "/things/7").body("text/plain", "x")).await.expect(200);
    assert_eq!(gateway.listed().await, 0);
}

#[tokio::test]
async fn a_location_is_put_below_the_path_of_the_public_url() {
    let upstream = Upstream::start().await;
    let here = format!("{}/things/7", upstream.url());
    let gateway = Setup::before(&upstream)
        .set("server", "public_url = \"https://api.example.com/base\"")
        .start()
        .await;
    for location in [&*here, "/things/7"] {
        upstream.on("/moved", Answer::status(302).field("Location", location));
        let answer = gateway.get("/moved").await.expect(302);
        assert_eq!(answer.field("location"), Some("https://api.example.com/base/things/7"));
    }
}
