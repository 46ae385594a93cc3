//! Tests of what a connection reports of its exchanges.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, Join, duplex, join};

use super::exchange::RequestWrite;
use super::{AnswerFault, PeekUnread, Wire};
use cloakroom_domain::http::answer_head::HeadProblem;

// Nothing comes before the first request, and there is no second.
impl PeekUnread for DuplexStream {
    fn has_unread(&self) -> bool {
        false
    }
}

impl PeekUnread for Join<DuplexStream, DuplexStream> {
    fn has_unread(&self) -> bool {
        false
    }
}

const ANSWER: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\nmade";

/// Whether a connection may be used again after an answer, where the request gets through or not.
async fn may_repeat(gets_through: bool) -> bool {
    let (request, upstream_reads) = duplex(1024);
    let mut upstream_reads = gets_through.then_some(upstream_reads);
    let (answer, mut upstream_writes) = duplex(1024);
    let (wire, exchange) = Wire::new(TokioIo::new(join(answer, request)), 1024);
    let (mut sender, connection) = http1::handshake(wire).await.unwrap();
    exchange.begin(&Method::POST, true);
    let order = Request::post("/orders").body(Full::new(Bytes::from_static(b"order"))).unwrap();
    let asked = async {
        let answer = sender.send_request(order).await.unwrap();
        answer.into_body().collect().await.unwrap().to_bytes()
    };
    let upstream = async {
        match &mut upstream_reads {
            Some(reads) => _ = reads.read_u8().await.unwrap(),
            // Until writing has failed.
            None => {
                while exchange.lock().write != RequestWrite::CutShort {
                    tokio::task::yield_now().await;
                }
            }
        }
        upstream_writes.write_all(ANSWER).await.unwrap();
    };
    tokio::select! {
        biased;
        (made, ()) = async { tokio::join!(asked, upstream) } => assert_eq!(made, "made"),
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
    exchange.may_repeat()
}

#[tokio::test]
async fn a_connection_whose_request_did_not_get_through_is_not_used_again() {
    assert!(may_repeat(true).await);
    assert!(!may_repeat(false).await);
}

/// Why an answer cannot be read that begins like this, where heads of 1024 octets are read; the
/// connection stays open.
async fn fault_of(answer: &str) -> Option<AnswerFault> {
    let (near, mut upstream) = duplex(8192);
    let (wire, exchange) = Wire::new(TokioIo::new(near), 1024);
    let (mut sender, connection) = http1::handshake(wire).await.unwrap();
    exchange.begin(&Method::GET, false);
    let asked = sender.send_request(Request::get("/").body(Full::<Bytes>::default()).unwrap());
    let answered = async {
        upstream.read_u8().await.unwrap();
        upstream.write_all(answer.as_bytes()).await.unwrap();
    };
    let carried = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    // All of it is on this thread, so that a word which does not come in so many turns never comes.
    let waited = async {
        answered.await;
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    };
    let asked = tokio::select! {
        asked = asked => asked,
        () = carried => return None,
        () = waited => return None,
    };
    asked.err().and_then(|_| exchange.fault())
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_none_whether_it_has_come_to_its_end_or_not() {
    let line = "HTTP/1.1 200 OK";
    let begun = format!("{line}\r\nx-long: {}", "a".repeat(1500));
    let whole = format!("{begun}\r\ncontent-length: 0\r\n\r\n");
    for answer in [begun, whole] {
        let (status, problem) = (Some(200), HeadProblem::TooLong);
        let fault = AnswerFault::Unreadable { status, line: line.to_owned(), problem };
        assert_eq!(fault_of(&answer).await, Some(fault), "{} octets", answer.len());
    }
}
