//! Receivers that speak HTTP/2.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::outward::{Names, Outward, open_to};
use crate::support::{Authority, time};

/// 204 to what is a delivery over HTTP/2 and nothing else, with 100 KB of fields.
async fn answer(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let is_good = request.version() == Version::HTTP_2
        && request.uri().host() == Some("localhost")
        && request.headers()["webhook-id"] == "msg_1"
        && !request.headers().contains_key("host");
    let is_whole =
        request.into_body().collect().await.is_ok_and(|body| body.to_bytes().len() == 20);
    let mut response = Response::new(Empty::new());
    for number in 0..20 {
        let value = "v".repeat(5_000).parse().unwrap();
        response
            .headers_mut()
            .insert(http::HeaderName::try_from(format!("x-{number}")).unwrap(), value);
    }
    *response.status_mut() = if is_good && is_whole { 204 } else { 400 }.try_into().unwrap();
    Ok(response)
}

#[tokio::test]
async fn a_receiver_that_speaks_http2_gets_many_deliveries_on_one_connection() {
    let authority = Authority::new();
    let identity = authority.certify("localhost").offering("h2").offering("http/1.1");
    let acceptor = TlsAcceptor::from(identity.server());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let _serving = time::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let acceptor = acceptor.clone();
            time::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                _ = server.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    });
    let rules = open_to(&[address]);
    let outward = Outward::new(rules, &[], Names::loopback(), vec![authority.root()]);
    let url = format!("https://localhost:{}/", address.port());
    assert_eq!(outward.send(&url).await.status, Some(204));
    let many = (0..20).map(|_| outward.send(&url));
    for attempted in futures_util::future::join_all(many).await {
        assert_eq!(attempted.status, Some(204), "{attempted:?}");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}
