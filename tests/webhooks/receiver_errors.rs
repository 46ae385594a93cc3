//! Receivers that misbehave: each kind has its code, and costs no more than an attempt may.

use std::net::SocketAddr;

use cloakroom_domain::webhooks::DeliveryError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::outward::{Answer, Names, Outward, TIMEOUT, addresses, open_to};
use crate::support::upstream::closed_port;
use crate::support::{Authority, Manner, Receiver, time};

fn to_port(port: u16) -> Outward {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    Outward::new(open_to(&[address]), &[], Names::loopback(), Vec::new())
}

#[tokio::test]
async fn what_is_not_http_and_what_breaks_off_is_told_apart() {
    let receiver = Receiver::start().await;
    let outward = Outward::to(&receiver);
    let raw = |octets: &[u8]| Manner::Raw(octets.to_vec());
    let switching =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    for (manner, code) in [
        (raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), DeliveryError::Protocol),
        (raw(b"\x00\x01\x02\x03\r\n\r\n"), DeliveryError::Protocol),
        (raw(b"HTTP/1.1 2x0 OK\r\n\r\n"), DeliveryError::Protocol),
        (raw(switching), DeliveryError::Protocol),
        (raw(b""), DeliveryError::Reset),
        (raw(b"HTTP/1.1 20"), DeliveryError::Reset),
        (Manner::Reset, DeliveryError::Reset),
    ] {
        receiver.script("/", [manner.clone()]);
        let attempted = outward.send(&receiver.url("/")).await;
        let shown = format!("{manner:?}").chars().take(60).collect::<String>();
        assert_eq!(
            (attempted.status, attempted.error),
            (None, Some(code)),
            "{shown}: {attempted:?}"
        );
        assert!(attempted.detail.is_some());
    }
}

#[tokio::test]
async fn an_answer_with_odd_lines_counts_by_its_status_and_costs_its_connection() {
    let receiver = Receiver::start().await;
    let outward = Outward::to(&receiver);
    let many =
        (0..150).map(|number| format!("x-{number}: {number}\r\n")).collect::<Vec<_>>().concat();
    for lines in [
        "X-A : v\r\nContent-Length: 0\r\n",
        "X-A: v\r\n w\r\nContent-Length: 0\r\n",
        "PHP Warning:  Undefined variable $x\r\nContent-Length: 0\r\n",
        "X-A: a\u{1}b\r\nContent-Length: 0\r\n",
        ":::\r\nContent-Length: 0\r\n",
        // Its end cannot be told, but its status can.
        "Content-Length: 2x\r\n",
        &format!("X-A: {}\r\n", "x".repeat(300 << 10)),
        &many,
    ] {
        let octets = format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes();
        receiver.script("/", [Manner::Raw(octets)]);
        let attempted = outward.send(&receiver.url("/")).await;
        assert_eq!(
            (attempted.status, attempted.error),
            (Some(200), None),
            "{lines:.40}: {attempted:?}"
        );
    }
}

#[tokio::test]
async fn who_never_answers_costs_one_attempt_and_no_connection() {
    let receiver = Receiver::start().await;
    let outward = Outward::to(&receiver);
    for (path, manner, reads) in [
        ("/silent", Manner::Silent, true),
        ("/deaf", Manner::Deaf, false),
        ("/interim", Manner::Interim, true),
    ] {
        receiver.on(path, manner);
        let before = (receiver.count(), receiver.connections());
        let begun = || receiver.count() > before.0 || (!reads && receiver.connections() > before.1);
        let attempted = outward.send_while_time_passes(&receiver.url(path), begun).await;
        assert_eq!((attempted.status, attempted.error), (None, Some(DeliveryError::Timeout)));
        assert!(attempted.duration >= TIMEOUT, "{attempted:?}");
    }
    let kept = || async { (receiver.open() <= 1).then_some(()) };
    // The deaf receiver does not notice that its peer is gone.
    time::until("all others are closed", kept).await;
}

#[tokio::test]
async fn an_answer_that_drips_or_never_ends_is_cut_and_counts_by_its_status() {
    let receiver = Receiver::start().await;
    let outward = Outward::to(&receiver);
    for (manner, status, error) in [
        (Manner::Drip(200), 200, None),
        (Manner::Drip(500), 500, Some(DeliveryError::Status)),
        (Manner::Endless(200), 200, None),
        (Manner::Endless(410), 410, Some(DeliveryError::Gone)),
    ] {
        receiver.script("/", [manner.clone()]);
        let count = receiver.count();
        let begun = || receiver.count() > count;
        let attempted = outward.send_while_time_passes(&receiver.url("/"), begun).await;
        assert_eq!((attempted.status, attempted.error), (Some(status), error), "{manner:?}");
        assert!(attempted.excerpt.len() <= 1024, "{manner:?}");
        assert!(attempted.duration <= TIMEOUT, "{attempted:?}");
    }
    time::until("all are closed", || async { (receiver.open() == 0).then_some(()) }).await;
}

#[tokio::test]
async fn nobody_listening_is_told() {
    let port = closed_port().await.port();
    let attempted = to_port(port).send(&format!("http://localhost:{port}/")).await;
    assert_eq!(attempted.error, Some(DeliveryError::ConnectFailed), "{attempted:?}");
}

#[tokio::test]
async fn the_next_address_is_tried_where_one_does_not_answer() {
    let receiver = Receiver::start().await;
    let mut rules = open_to(&[receiver.address]);
    rules.allow = vec!["127.0.0.0/8".parse().unwrap()];
    let names = Names::answering([addresses(&["127.0.0.9", "127.0.0.8", "127.0.0.1"])]);
    let outward = Outward::new(rules, &[], names, Vec::new());
    assert_eq!(outward.send(&receiver.url("/")).await.status, Some(204));
}

#[tokio::test]
async fn a_connection_that_never_comes_about_is_told() {
    // The accept queue has one place and is full: the next connection gets no answer.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let _first = TcpStream::connect(address).await.unwrap();
    let outward = to_port(address.port());
    let url = format!("http://127.0.0.1:{}/", address.port());
    let attempted = outward.send_while_time_passes(&url, || true).await;
    assert_eq!(attempted.error, Some(DeliveryError::ConnectTimeout), "{attempted:?}");
}

#[tokio::test]
async fn a_name_that_stands_for_nothing_is_told() {
    for answer in [Answer::Nothing, Answer::Never, addresses(&[])] {
        let rules = open_to(&[SocketAddr::from(([127, 0, 0, 1], 9))]);
        let outward = Outward::new(rules, &[], Names::answering([answer.clone()]), Vec::new());
        let attempted = outward.send_while_time_passes("http://a.example:9/", || true).await;
        assert_eq!(attempted.error, Some(DeliveryError::Unresolvable), "{answer:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_told() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    for (why, identity) in [
        ("for another name", authority.certify("other.example")),
        ("expired", authority.certify_expired("localhost")),
        ("of an authority that is not trusted", foreign.certify("localhost")),
    ] {
        let receiver = Receiver::start_tls(&identity).await;
        let rules = open_to(&[receiver.address]);
        let outward = Outward::new(rules, &[], Names::loopback(), vec![authority.root()]);
        let attempted = outward.send(&receiver.url("/")).await;
        assert_eq!(
            attempted.error,
            Some(DeliveryError::CertificateInvalid),
            "{why}: {attempted:?}"
        );
        assert_eq!(receiver.count(), 0, "{why}");
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_speak_tls_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let _answering = time::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let attempted = to_port(port).send(&format!("https://localhost:{port}/")).await;
    assert_eq!(attempted.error, Some(DeliveryError::TlsFailed), "{attempted:?}");
}

#[tokio::test]
async fn an_answer_that_comes_before_the_message_was_read_is_not_lost() {
    let authority = Authority::new();
    let receivers =
        [Receiver::start().await, Receiver::start_tls(&authority.certify("localhost")).await];
    for receiver in receivers {
        let rules = open_to(&[receiver.address]);
        let outward = Outward::new(rules, &[], Names::loopback(), vec![authority.root()]);
        for (answer, status, error) in [
            ("200 OK\r\nContent-Length: 2\r\n\r\nok", 200, None),
            ("204 No Content\r\n\r\n", 204, None),
            ("202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 202, None),
            ("200 OK\r\n\r\nok", 200, None),
            (
                "413 Content Too Large\r\nContent-Length: 0\r\n\r\n",
                413,
                Some(DeliveryError::Status),
            ),
            ("410 Gone\r\nConnection: close\r\n\r\n", 410, Some(DeliveryError::Gone)),
        ] {
            let octets = format!("HTTP/1.1 {answer}").into_bytes();
            receiver.on("/", Manner::Early(octets));
            for _ in 0..20 {
                let count = receiver.count();
                let attempted = outward.send_large(&receiver.url("/")).await;
                assert_eq!(
                    (attempted.status, attempted.error),
                    (Some(status), error),
                    "{answer:?}: {attempted:?}"
                );
                assert_eq!(receiver.count(), count + 1, "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_message_goes_out_anew_where_a_used_connection_ends_or_tells_what_was_left_over() {
    for first in [Manner::status(204), Manner::status(200).body("thanks")] {
        for left in [&b""[..], b"late content", b"HTML"] {
            let receiver = Receiver::start().await;
            let outward = Outward::to(&receiver);
            // The second is read and gets no answer, on the connection of the first.
            receiver.script("/", [first.clone(), Manner::Raw(left.to_vec()), Manner::status(202)]);
            assert!(outward.send(&receiver.url("/")).await.is_success());
            let attempted = outward.send(&receiver.url("/")).await;
            assert_eq!((attempted.status, attempted.error), (Some(202), None), "{left:?}");
            let arrivals = receiver.arrivals();
            assert_eq!((arrivals.len(), receiver.connections()), (3, 2));
            assert_eq!(arrivals[1].body, arrivals[2].body);
            assert_eq!(arrivals[1].id(), arrivals[2].id());
        }
    }
    // On a connection of its own, that is an attempt that has failed.
    let receiver = Receiver::start().await;
    receiver.script("/", [Manner::Raw(b"late content".to_vec()), Manner::status(204)]);
    let attempted = Outward::to(&receiver).send(&receiver.url("/")).await;
    assert_eq!(attempted.error, Some(DeliveryError::Protocol), "{attempted:?}");
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn of_several_lines_the_first_that_can_be_read_says_when_to_come_again() {
    let receiver = Receiver::start().await;
    let manner = Manner::status(503).field("Retry-After", "soon").field("Retry-After", "120");
    receiver.on("/", manner);
    let attempted = Outward::to(&receiver).send(&receiver.url("/")).await;
    assert_eq!(attempted.retry_after, Some(std::time::Duration::from_mins(2)));
}

#[tokio::test]
async fn a_connection_whose_answer_ended_oddly_carries_no_other_message() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let outward = to_port(address.port());
    // So long that its end is read after its head.
    let chunk = "x".repeat(8192);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = format!("{head}2000\r\n{chunk}\r\n0\r\nX A: v\r\n\r\n");
    let receiver = time::spawn(async move {
        let mut connections = Vec::new();
        for _ in 0..2 {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                connection.read_buf(&mut request).await.unwrap();
            }
            connection.write_all(answer.as_bytes()).await.unwrap();
            connections.push(connection);
        }
        connections
    });
    for _ in 0..2 {
        let attempted = outward.send(&format!("http://{address}/")).await;
        assert_eq!((attempted.status, attempted.error), (Some(200), None));
    }
    drop(receiver.await.unwrap());
}
