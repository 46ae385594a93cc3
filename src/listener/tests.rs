use std::io;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{ServiceBuilder, service_fn};

use super::*;
use cloakroom_domain::Timestamp;

/// A listener that answers a body with its length, or 408; and a client of it.
async fn connected(clock: &Clock) -> TcpStream {
    let seconds = Duration::from_secs;
    let limits = ListenerLimits {
        max_headers: 64 * 1024,
        max_body: 16 << 20,
        header_timeout: seconds(10),
        idle_timeout: seconds(75),
        body_timeout: seconds(30),
        body_deadline: seconds(300),
        write_timeout: seconds(60),
        max_connections: Some(10),
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(any, "--listen (server.listen)").await.unwrap();
    let address = listener.local_address();
    let answer = |request: Request<IncomingBody>| async {
        if request.uri().path() == LARGE {
            return Response::new(Body::from(vec![b'x'; LARGE_ANSWER]));
        }
        if request.uri().path() == BROKEN_OFF {
            let pieces = ["some ", "pieces"].map(|piece| Ok(Bytes::from(piece)));
            let failure = io::Error::other("the rest is gone");
            let pieces = pieces.into_iter().chain([Err(failure)]);
            return Response::new(Body::from_stream(stream::iter(pieces)));
        }
        if request.uri().path() == BROKEN_OFF_AT_ONCE {
            let failure = Err::<Bytes, _>(io::Error::other("all is gone"));
            return Response::new(Body::from_stream(stream::iter([failure])));
        }
        assert_ne!(request.uri().path(), PANIC);
        let collected = request.into_body().collect().await;
        match collected {
            Ok(body) => Response::new(Body::from(body.to_bytes().len().to_string())),
            Err(_) => Response::builder().status(408).body(Body::empty()).unwrap(),
        }
    };
    let tasks = Tasks::new();
    let service = ServiceBuilder::new()
        .layer(request_trace("test"))
        .layer(PanicLayer)
        .service(service_fn(move |request| answer(request).map(Ok::<_, Infallible>)));
    tasks.spawn(listener.serve(service, limits, clock.clone(), tasks.clone()));
    TcpStream::connect(address).await.unwrap()
}

/// What gets an answer of which some comes, and no end.
const BROKEN_OFF: &str = "/broken-off";
/// What gets an answer of which nothing but its head comes.
const BROKEN_OFF_AT_ONCE: &str = "/broken-off-at-once";
/// What makes the handler panic.
const PANIC: &str = "/panic";
/// What gets an answer that no socket takes in whole.
const LARGE: &str = "/large";
const LARGE_ANSWER: usize = 64 << 20;

async fn asked(client: &mut TcpStream, octets: &str) {
    client.write_all(octets.as_bytes()).await.unwrap();
}

/// What comes until the answer's head has, and its first octet of a body.
async fn answered(client: &mut TcpStream) -> String {
    let mut came = String::new();
    while !came.contains("\r\n\r\n") {
        let mut buffer = [0; 1024];
        let length = client.read(&mut buffer).await.unwrap();
        assert_ne!(length, 0, "closed after {came:?}");
        came.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    came
}

/// Moves the clock until the connection is closed, and says how far.
async fn closed_after(client: &mut TcpStream, clock: &Clock) -> u32 {
    let mut seconds = 0;
    loop {
        let mut buffer = [0; 1024];
        tokio::select! {
            biased;
            read = client.read(&mut buffer) => {
                if read.unwrap_or(0) == 0 {
                    return seconds;
                }
            }
            // A hundred turns let the connection look at the clock.
            () = async { for _ in 0..100 { tokio::task::yield_now().await; } } => {
                clock.advance(Duration::from_secs(1));
                seconds += 1;
            }
        }
        assert!(seconds < 1000, "never closed");
    }
}

#[tokio::test]
async fn one_connection_takes_several_requests_and_then_lies_idle_for_its_time() {
    let clock = Clock::manual(Timestamp::EPOCH);
    let mut client = connected(&clock).await;
    for _ in 0..3 {
        asked(&mut client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello").await;
        assert!(answered(&mut client).await.starts_with("HTTP/1.1 200"));
    }
    assert!(closed_after(&mut client, &clock).await >= 75);
}

#[tokio::test]
async fn a_head_that_is_never_whole_ends_the_connection_sooner() {
    let clock = Clock::manual(Timestamp::EPOCH);
    let mut client = connected(&clock).await;
    asked(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    answered(&mut client).await;
    asked(&mut client, "GET / HTTP/1.1\r\nHost").await;
    let seconds = closed_after(&mut client, &clock).await;
    assert!((10..75).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_body_that_is_never_whole_is_told_so() {
    let clock = Clock::manual(Timestamp::EPOCH);
    let mut client = connected(&clock).await;
    asked(&mut client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel").await;
    let answer = tokio::select! {
        answer = answered(&mut client) => answer,
        () = async { loop {
            clock.advance(Duration::from_secs(1));
            for _ in 0..100 { tokio::task::yield_now().await; }
        } } => unreachable!("the clock moves for ever"),
    };
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_panic_is_answered_and_the_next_request_too() {
    let mut client = connected(&Clock::manual(Timestamp::EPOCH)).await;
    asked(&mut client, &format!("GET {PANIC} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let answer = answered(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    asked(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answered(&mut client).await.contains("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_head_over_the_limit_is_431() {
    let clock = Clock::manual(Timestamp::EPOCH);
    let mut client = connected(&clock).await;
    let huge = "x".repeat(100_000);
    asked(&mut client, &format!("GET / HTTP/1.1\r\nHost: x\r\nX-Huge: {huge}\r\n\r\n")).await;
    assert!(answered(&mut client).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn what_there_is_of_an_answer_that_breaks_off_goes_out_and_then_the_connection_ends() {
    for (target, body) in [(BROKEN_OFF, "5\r\nsome \r\n6\r\npieces\r\n"), (BROKEN_OFF_AT_ONCE, "")]
    {
        // More of the request than is read of it must not reset the connection.
        for (length, sent) in [(0, ""), (9, "some"), (5, "hello, and then another request")] {
            let mut client = connected(&Clock::manual(Timestamp::EPOCH)).await;
            asked(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
            answered(&mut client).await;
            let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}");
            asked(&mut client, &format!("{head}\r\n\r\n{sent}")).await;
            let mut came = String::new();
            client.read_to_string(&mut came).await.unwrap();
            let (head, rest) = came.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200"), "{target} {sent}: {head}");
            assert_eq!(rest, body, "{target} {sent}");
        }
    }
}

#[tokio::test]
async fn an_address_in_use_names_itself_and_its_setting() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let first = Listener::bind(any, "--listen (server.listen)").await.unwrap();
    let refused = Listener::bind(first.local_address(), "--listen (server.listen)").await;
    let words = refused.unwrap_err().to_string();
    let address = first.local_address().to_string();
    assert!(words.contains(&address) && words.contains("--listen"), "{words}");
}

#[tokio::test]
async fn a_100_is_sent_also_where_it_is_expected_beside_something_else() {
    for expected in ["100-continue", "100-continue, 201-created", "202-accepted/100-continue"] {
        let mut client = connected(&Clock::manual(Timestamp::EPOCH)).await;
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: {expected}");
        asked(&mut client, &format!("{head}\r\n\r\n")).await;
        assert!(answered(&mut client).await.starts_with("HTTP/1.1 100"), "{expected}");
        asked(&mut client, "hello").await;
        assert!(answered(&mut client).await.starts_with("HTTP/1.1 200"), "{expected}");
    }
}

/// What a client does that has asked for something large, between two looks at the clock.
async fn let_the_connection_look() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_an_answer_is_let_go() {
    let clock = Clock::manual(Timestamp::EPOCH);
    let mut client = connected(&clock).await;
    asked(&mut client, &format!("GET {LARGE} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let mut seconds = 0;
    while client.take_error().unwrap().is_none() {
        let_the_connection_look().await;
        clock.advance(Duration::from_secs(1));
        seconds += 1;
        // Each growth of the buffers that a look meets begins the limit anew; so seldom a look as
        // once within it would make that 120 s.
        assert!(seconds < 100, "the limit is 60 s");
    }
    assert!(seconds >= 60, "let go after {seconds} s");
    let mut came = Vec::new();
    // Whether the reset shows once more is up to the system.
    let _ = client.read_to_end(&mut came).await;
    assert!(came.len() < LARGE_ANSWER);
}

#[tokio::test]
async fn a_client_that_takes_an_answer_slowly_gets_all_of_it() {
    let clock = Clock::manual(Timestamp::EPOCH);
    let mut client = connected(&clock).await;
    asked(&mut client, &format!("GET {LARGE} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    // As little as the client's own system shows at all: it tells of room in its buffer only
    // when a good part of that is free.
    let mut piece = vec![0; 2 << 20];
    let mut came = 0;
    while came < LARGE_ANSWER {
        // Longer than the connection may be idle for its end.
        clock.advance(Duration::from_secs(30));
        let_the_connection_look().await;
        let mut read = 0;
        while read < piece.len() && came < LARGE_ANSWER {
            let count = client.read(&mut piece[read..]).await.unwrap();
            assert_ne!(count, 0, "closed after {came}");
            (read, came) = (read + count, came + count);
        }
    }
}
