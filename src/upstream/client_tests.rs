use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::super::tests::{OK, at, complete, nowhere, post, serve_always};
use super::*;
use crate::wire::Exchange;

/// Puts an idle connection into the pool that its peer has closed, which no task has
/// noticed yet.
async fn keep_a_stale_connection(upstream: &Upstream) {
    let (near, far) = tokio::io::duplex(1024);
    let (mut sender, driver) = http1::handshake(TokioIo::new(near)).await.unwrap();
    let task = Tasks::new().spawn(driver);
    sender.ready().await.unwrap();
    let connection = UpstreamConnection::new(sender, Exchange::default(), task.abort_handle());
    let PoolHandle { pool, clock } = &upstream.0.home;
    pool.put(connection, clock.now());
    drop(far);
}

#[tokio::test]
async fn a_request_that_a_stale_connection_gave_back_goes_out_whole_on_a_new_one() {
    let (url, mut arrived) = serve_always(OK);
    let upstream = at(&url);
    keep_a_stale_connection(&upstream).await;
    keep_a_stale_connection(&upstream).await;
    assert_eq!(complete(&upstream, post("/orders")).await.unwrap(), "ok");
    let request = arrived.recv().await.unwrap();
    assert!(request.starts_with("1 POST /orders") && request.ends_with("order"), "{request}");
}

#[tokio::test]
async fn a_stale_connection_leaves_no_mark_where_no_new_one_comes_about() {
    let upstream = at(&nowhere());
    keep_a_stale_connection(&upstream).await;
    let call = post("/orders");
    let marker = call.marker.clone();
    let broken = upstream.call(call).await.unwrap_err();
    assert_eq!((broken.sent, marker.sent()), (SendState::Nothing, SendState::Nothing));
}
