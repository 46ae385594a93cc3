//! Redirects that ask for the same request again.

use super::*;
use cloakroom_domain::operation::{DeliveryGuarantee, ErrorCode, SendState};

fn elsewhere(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

/// An upstream that answers each request with the next of these.
fn serve_in_turn(answers: Vec<String>) -> (Url, UnboundedReceiver<String>) {
    serve(move |listener, notes| {
        for answer in answers {
            let mut peer = listener.accept();
            notes.send(peer.request().unwrap()).unwrap();
            peer.answer(&answer.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        }
    })
}

#[tokio::test]
async fn redirects_at_home_are_followed_with_method_and_body() {
    let (url, mut arrived) = serve_in_turn(vec![
        elsewhere(307, "/orders/"),
        elsewhere(308, "v2?a=%2F#part"),
        OK.to_owned(),
    ]);
    let reply = at(&url).call_following(&[], || post("/orders")).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.target.as_str()), (200, "/orders/v2?a=%2F"));
    for target in ["/orders", "/orders/", "/orders/v2?a=%2F"] {
        let request = arrived.recv().await.unwrap();
        assert!(request.starts_with(&format!("POST {target} HTTP/1.1\r\n")), "{request}");
        assert!(request.ends_with("\r\n\r\norder"), "{request}");
    }
}

#[tokio::test]
async fn the_sixth_redirect_in_a_row_is_the_answer() {
    let (url, mut arrived) = serve_in_turn(vec![elsewhere(307, "again/"); 7]);
    let reply = at(&url).call_following(&[], || post("/orders")).await.unwrap();
    assert_eq!(reply.status.as_u16(), 307);
    let mut seen = 0;
    while arrived.try_recv().is_ok() {
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[tokio::test]
async fn redirects_to_other_places_are_the_answer() {
    for (status, location) in [
        (307, "http://elsewhere.example/orders"),
        (307, "//elsewhere.example/orders"),
        (308, "https:///orders"),
        (307, "javascript:alert(1)"),
        (307, "http://user@{own}/orders"),
        (301, "/orders/"),
        (302, "/orders/7"),
        (303, "/orders/7"),
    ] {
        let (url, mut arrived) = serve(move |listener, notes| {
            let own = listener.0.local_addr().unwrap().to_string();
            let mut peer = listener.accept();
            while let Some(request) = peer.request() {
                notes.send(request).unwrap();
                peer.answer(&elsewhere(status, &location.replace("{own}", &own)));
            }
        });
        let reply = at(&url).call_following(&[], || post("/orders")).await.unwrap();
        assert_eq!(reply.status.as_u16(), status);
        assert!(arrived.recv().await.is_some());
        assert!(arrived.try_recv().is_err(), "{location} was followed");
    }
}

#[tokio::test]
async fn a_301_is_followed_where_the_request_may_be_repeated() {
    let (url, mut arrived) = serve_in_turn(vec![elsewhere(301, "/orders/"), OK.to_owned()]);
    let call = || Call { delivery: DeliveryGuarantee::AtLeastOnce, ..post("/orders") };
    let reply = at(&url).call_following(&[], call).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.target.as_str()), (200, "/orders/"));
    for target in ["/orders", "/orders/"] {
        let request = arrived.recv().await.unwrap();
        assert!(request.starts_with(&format!("POST {target} HTTP/1.1\r\n")), "{request}");
    }
}

#[tokio::test]
async fn a_redirect_to_the_public_origin_stays_at_home() {
    let answers = vec![elsewhere(308, "https://api.example.com/orders/"), OK.to_owned()];
    let (url, mut arrived) = serve_in_turn(answers);
    let public = [Url::parse("https://api.example.com").unwrap()];
    let reply = at(&url).call_following(&public, || post("/orders")).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.target.as_str()), (200, "/orders/"));
    assert!(arrived.recv().await.is_some() && arrived.recv().await.is_some());
}

#[tokio::test]
async fn after_a_307_a_failure_to_connect_has_sent_nothing() {
    let (url, _arrived) = serve(|listener, _| {
        let mut peer = listener.accept();
        drop(listener);
        peer.request();
        peer.answer(&elsewhere(307, "/orders/\r\nConnection: close"));
    });
    let marker = SentMarker::new();
    let call = || Call { marker: marker.clone(), ..post("/orders") };
    let broken = at(&url).call_following(&[], call).await.unwrap_err();
    assert_eq!((broken.sent, broken.cause), (SendState::Nothing, ErrorCode::UpstreamUnreachable));
    assert_eq!(marker.sent(), SendState::Nothing);
}
