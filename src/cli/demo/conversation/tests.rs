//! Tests of the demo's conversation, against a gateway whose answers the test chooses.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use cloakroom_runtime::lifecycle::Tasks;

/// A server that gives these answers, one a connection, and names itself in `{self}`.
async fn answering(tasks: &Tasks, answers: &[&str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let origin = format!("http://{address}");
    let answers: Vec<_> = answers.iter().map(|it| it.replace("{self}", &origin)).collect();
    tasks.spawn_until_cut(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Each request of the conversation fits into one segment of loopback.
            let _ = stream.read(&mut vec![0; 65_536]).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

async fn ordered(answers: &[&str]) -> Result<String, CommandError> {
    let tasks = Tasks::new();
    let gateway = answering(&tasks, answers).await;
    let ended = DemoClient::new(Clock::system(), gateway).unwrap().order().await;
    tasks.cut();
    ended
}

const ACCEPTED: &str =
    "HTTP/1.1 202 Accepted\r\nLocation: {self}/-/operations/t\r\nContent-Length: 0\r\n\r\n";
const CREATED: &str =
    "HTTP/1.1 303 See Other\r\nLocation: {self}/orders/1\r\nContent-Length: 0\r\n\r\n";
const FAILED: &str =
    "HTTP/1.1 303 See Other\r\nLocation: {self}/-/operations/t/result\r\nContent-Length: 0\r\n\r\n";
const ORDER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"sku\":\"A-1\"}";

#[tokio::test]
async fn it_ends_in_the_order_that_was_asked_for() {
    let order = ordered(&[ACCEPTED, CREATED, ORDER]).await.unwrap();
    assert!(order.ends_with("/orders/1"), "{order}");
}

#[tokio::test]
async fn every_other_end_is_a_failure() {
    let other = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"sku\":\"B-2\"}";
    let nothing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let no_answer = "HTTP/1.1 424 Failed Dependency\r\nContent-Length: 0\r\n\r\n";
    let lost = "HTTP/1.1 303 See Other\r\nContent-Length: 0\r\n\r\n";
    let full = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    for (answers, wanted) in [
        (&[ACCEPTED, CREATED, other][..], "the created order"),
        (&[ACCEPTED, CREATED, nothing], "the created order"),
        (&[ACCEPTED, FAILED, no_answer], "the created order"),
        (&[ACCEPTED, lost], "a Location"),
        (&[ACCEPTED, nothing], "202 or 303"),
        (&[full], "202 Accepted"),
        (&[ORDER], "202 Accepted"),
        (&[""], "the gateway"),
    ] {
        let said = ordered(answers).await.unwrap_err().to_string();
        assert!(said.contains(wanted), "{answers:?}: {said}");
    }
}
