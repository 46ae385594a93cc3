//! Reuse of connections.

use std::thread;

use super::*;
use cloakroom_domain::operation::SendState;

fn repeatable(target: &str) -> Call {
    Call { delivery: DeliveryGuarantee::AtLeastOnce, ..post(target) }
}

/// The number of the connection on which the upstream saw its next request.
async fn connection(arrived: &mut UnboundedReceiver<String>) -> String {
    arrived.recv().await.unwrap().split_once(' ').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_connection_is_used_again_within_its_time_and_not_after() {
    let millis = Duration::from_millis;
    for (delivery, idle, expected) in [
        (DeliveryGuarantee::AtMostOnce, millis(1000), "1"),
        (DeliveryGuarantee::AtMostOnce, millis(1001), "2"),
        (DeliveryGuarantee::AtLeastOnce, millis(1001), "1"),
        (DeliveryGuarantee::AtLeastOnce, millis(4000), "1"),
        (DeliveryGuarantee::AtLeastOnce, millis(4001), "2"),
    ] {
        let (url, mut arrived) = serve_always(OK);
        let clock = clock();
        let upstream = Upstream::new(settings(url), clock.clone(), &Tasks::new()).unwrap();
        complete(&upstream, post("/")).await.unwrap();
        assert_eq!(connection(&mut arrived).await, "1");
        clock.advance(idle);
        complete(&upstream, Call { delivery, ..post("/") }).await.unwrap();
        assert_eq!(connection(&mut arrived).await, expected, "{delivery:?} after {idle:?}");
    }
}

#[tokio::test]
async fn connections_are_used_again_after_answers_of_every_framing() {
    for answer in [
        OK,
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: y\r\n\r\n",
    ] {
        let (url, mut arrived) = serve_always(answer);
        let upstream = at(&url);
        for _ in 0..3 {
            complete(&upstream, repeatable("/")).await.unwrap();
            assert_eq!(connection(&mut arrived).await, "1", "{answer}");
        }
    }
}

#[tokio::test]
async fn a_request_that_must_not_be_sent_twice_waits_until_an_idle_connection_stayed_open() {
    for (reuse, connections) in [
        (Reuse::Auto, ["1", "2", "2", "3"]),
        (Reuse::Always, ["1", "1", "1", "2"]),
        (Reuse::Never, ["1", "2", "3", "4"]),
    ] {
        let (url, mut arrived) = serve_always(OK);
        let clock = clock();
        let configured = UpstreamSettings { reuse, ..settings(url) };
        let upstream = Upstream::new(configured, clock.clone(), &Tasks::new()).unwrap();
        // At once; after a second, in which the first was seen open; and after too long.
        for (idle, expected) in [0, 0, 1000, 1001].into_iter().zip(connections) {
            clock.advance(Duration::from_millis(idle));
            complete(&upstream, post("/")).await.unwrap();
            assert_eq!(connection(&mut arrived).await, expected, "{reuse:?}");
        }
    }
}

#[tokio::test]
async fn after_a_silent_close_such_requests_get_connections_of_their_own_for_ten_minutes() {
    for is_noticed_at_once in [false, true] {
        let (close, closing) = std::sync::mpsc::channel::<()>();
        let (url, mut arrived) = serve(move |listener, notes| {
            let mut first = listener.accept();
            let answer = |peer: &mut Peer, number: u32| {
                let request = peer.request().unwrap();
                peer.answer(OK);
                notes.send(format!("{number} {request}")).unwrap();
            };
            answer(&mut first, 1);
            answer(&mut first, 1);
            closing.recv().unwrap();
            drop(first);
            notes.send("closed ".into()).unwrap();
            let mut second = listener.accept();
            answer(&mut second, 2);
            let mut third = listener.accept();
            answer(&mut third, 3);
        });
        let (clock, second) = (clock(), Duration::from_secs(1));
        let upstream = Upstream::new(settings(url), clock.clone(), &Tasks::new()).unwrap();
        complete(&upstream, post("/")).await.unwrap();
        assert_eq!(connection(&mut arrived).await, "1");
        clock.advance(second);
        complete(&upstream, post("/")).await.unwrap();
        assert_eq!(connection(&mut arrived).await, "1", "it was seen open for a second");
        close.send(()).unwrap();
        assert_eq!(connection(&mut arrived).await, "closed");
        if is_noticed_at_once {
            let_sockets_be_looked_at().await;
        }
        complete(&upstream, post("/")).await.unwrap();
        assert_eq!(connection(&mut arrived).await, "2");
        clock.advance(second);
        soon(Box::pin(complete(&upstream, post("/")))).await.unwrap();
        assert_eq!(connection(&mut arrived).await, "3", "though the second stays open");
    }
}

#[tokio::test]
async fn a_request_that_may_be_sent_twice_goes_out_anew_where_a_used_connection_had_ended() {
    for (method, delivery, again) in [
        (Method::GET, DeliveryGuarantee::AtLeastOnce, true),
        (Method::PUT, DeliveryGuarantee::AtLeastOnce, true),
        (Method::PUT, DeliveryGuarantee::AtMostOnce, false),
        (Method::POST, DeliveryGuarantee::AtMostOnce, false),
    ] {
        let (url, mut arrived) = closes_at_use();
        let upstream = upstream(UpstreamSettings { reuse: Reuse::Always, ..settings(url) });
        complete(&upstream, post("/first")).await.unwrap();
        arrived.recv().await.unwrap();
        let call = Call { method: method.clone(), delivery, ..post("/second") };
        let answered = complete(&upstream, call).await;
        assert_eq!(answered.is_ok(), again, "{method} {delivery:?}: {answered:?}");
        if again {
            let request = arrived.recv().await.unwrap();
            assert!(request.ends_with("order"), "whole: {request}");
        }
    }
}

#[tokio::test]
async fn a_call_that_can_be_asked_about_is_never_repeated_once_it_was_written() {
    let (url, _arrived) = closes_at_use();
    let upstream = upstream(UpstreamSettings { reuse: Reuse::Always, ..settings(url) });
    complete(&upstream, post("/first")).await.unwrap();
    let call = || Call { is_rechecked: true, ..repeatable("/second") };
    let broken = upstream.call_following(&[], call).await.unwrap_err();
    assert_eq!(broken.sent, SendState::Perhaps, "{broken:?}");
}

#[tokio::test]
async fn a_proxied_request_goes_out_anew_where_it_is_idempotent_and_has_no_body() {
    for (method, again) in [("GET", true), ("DELETE", true), ("HEAD", true), ("POST", false)] {
        let (url, _arrived) = closes_at_use();
        let upstream = upstream(UpstreamSettings { reuse: Reuse::Always, ..settings(url) });
        complete(&upstream, post("/first")).await.unwrap();
        let request = http::Request::builder().method(method).uri("/second");
        let answered = upstream.forward(request.body(http_body_util::Empty::new()).unwrap()).await;
        assert_eq!(answered.is_ok(), again, "{method}: {:?}", answered.err());
    }
}

/// An upstream that reads the second request on its first connection and closes without a word;
/// the requests that it answers are told.
fn closes_at_use() -> (Url, UnboundedReceiver<String>) {
    serve(|listener, notes| {
        let mut first = listener.accept();
        let request = first.request().unwrap();
        first.answer(OK);
        let _ = notes.send(request);
        first.request();
        drop(first);
        let mut second = listener.accept();
        let request = second.request().unwrap();
        second.answer(if request.starts_with("HEAD") { &OK[..OK.len() - 2] } else { OK });
        let _ = notes.send(request);
    })
}

#[tokio::test]
async fn a_call_whose_body_is_read_while_it_is_sent_is_made_anew_too() {
    let (url, mut arrived) = closes_at_use();
    let upstream = at(&url);
    complete(&upstream, post("/first")).await.unwrap();
    arrived.recv().await.unwrap();
    let again = || {
        let pieces = ["or", "der"].map(|it| Ok::<_, BoxError>(Bytes::from(it)));
        let body = CallBody::stream(5, futures_util::stream::iter(pieces));
        Call { body, ..repeatable("/second") }
    };
    let mut reply = upstream.call_following(&[], again).await.unwrap();
    assert_eq!(read(&mut reply.body).await.unwrap(), "ok");
    assert!(arrived.recv().await.unwrap().ends_with("order"));
}

#[tokio::test]
async fn after_an_answer_without_content_a_connection_rests_and_is_closed_at_any_octet() {
    for (method, answer) in [
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\n\r\n"),
    ] {
        for (idle, expected) in [(0, "2"), (999, "2"), (1000, "1")] {
            let (url, mut arrived) = serve_always(answer);
            let clock = clock();
            let upstream = Upstream::new(settings(url), clock.clone(), &Tasks::new()).unwrap();
            let call =
                || Call { method: method.clone(), body: CallBody::empty(), ..repeatable("/") };
            complete(&upstream, call()).await.unwrap();
            assert_eq!(connection(&mut arrived).await, "1");
            clock.advance(Duration::from_millis(idle));
            complete(&upstream, call()).await.unwrap();
            assert_eq!(connection(&mut arrived).await, expected, "{answer} after {idle}");
        }
    }
}

#[tokio::test]
async fn a_body_that_follows_the_answer_to_a_head_is_never_another_answer() {
    let (url, mut arrived) = serve(|listener, notes| {
        let mut first = listener.accept();
        first.request();
        first.answer("HTTP/1.1 200 OK\r\nContent-Length: 38\r\n\r\n");
        notes.send(String::new()).unwrap();
        let mut second = listener.accept();
        // It comes while the next request is on its way.
        second.request();
        first.answer("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
        second.answer(OK);
        notes.send(format!("{:?}", first.request())).unwrap();
    });
    let upstream = at(&url);
    let head = Call { method: Method::HEAD, body: CallBody::empty(), ..repeatable("/") };
    complete(&upstream, head).await.unwrap();
    arrived.recv().await.unwrap();
    assert_eq!(complete(&upstream, repeatable("/")).await.as_deref(), Ok("ok"));
    assert_eq!(arrived.recv().await.as_deref(), Some("None"), "it was closed");
}

#[tokio::test]
async fn an_idle_connection_that_the_upstream_closed_is_replaced_without_a_false_alarm() {
    let (url, mut arrived) = serve(|listener, notes| {
        for _ in 0..2 {
            let mut peer = listener.accept();
            let request = peer.request().unwrap();
            peer.answer(OK);
            drop(peer);
            notes.send(request).unwrap();
        }
    });
    let upstream = at(&url);
    for _ in 0..2 {
        let call = post("/orders");
        let marker = call.marker.clone();
        assert_eq!(complete(&upstream, call).await.unwrap(), "ok");
        assert_eq!(marker.sent(), SendState::Perhaps);
        // The whole request arrived, be it at the first try or at the second.
        assert!(arrived.recv().await.unwrap().ends_with("order"));
    }
}

#[tokio::test]
async fn an_upstream_that_closes_each_new_connection_has_been_sent_nothing_or_it_is_unknown() {
    let (url, _arrived) = serve(|listener, _| {
        loop {
            drop(listener.accept());
        }
    });
    let call = post("/orders");
    let marker = call.marker.clone();
    let broken = at(&url).call(call).await.unwrap_err();
    assert_eq!(broken.sent, marker.sent());
}

#[tokio::test]
async fn a_connection_that_says_something_out_of_turn_is_not_used_again() {
    let (url, mut arrived) = serve(|listener, notes| {
        let mut first = listener.accept();
        first.request();
        first.answer(OK);
        first.answer("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
        notes.send(String::new()).unwrap();
        let mut second = listener.accept();
        second.request();
        second.answer(OK);
    });
    let upstream = at(&url);
    let first = complete(&upstream, post("/")).await;
    assert!(first.is_ok_and(|it| it == "ok"));
    arrived.recv().await.unwrap();
    assert_eq!(complete(&upstream, post("/")).await.unwrap(), "ok");
}

#[tokio::test]
async fn an_answer_that_is_not_read_to_its_end_takes_its_connection_along() {
    let (url, mut arrived) = serve(|listener, notes| {
        let mut peer = listener.accept();
        peer.request();
        peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\nbeginning");
        // Endless, until the client hangs up.
        while peer.0.write_all(&[b'x'; 4096]).is_ok() {}
        notes.send("cut".into()).unwrap();
    });
    let mut reply = at(&url).call(post("/")).await.unwrap();
    assert_eq!(reply.body.length(), Some(1_000_000_000_000));
    assert!(reply.body.piece().await.unwrap().is_some());
    drop(reply);
    assert_eq!(arrived.recv().await.as_deref(), Some("cut"));
}

#[tokio::test]
async fn a_request_that_was_answered_early_does_not_hold_its_connection() {
    let (url, mut arrived) = serve(|listener, notes| {
        let mut early = listener.accept();
        early.0.read_exact(&mut [0; 100]).unwrap();
        early.answer("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
        let mut next = listener.accept();
        notes.send(next.request().unwrap()).unwrap();
        next.answer(OK);
        drop(early);
    });
    let upstream = at(&url);
    let body = CallBody::from(Bytes::from(vec![b'x'; 32 << 20]));
    let reply = upstream.call(Call { body, ..post("/large") }).await.unwrap();
    assert_eq!(reply.status.as_u16(), 413);
    drop(reply);
    assert_eq!(complete(&upstream, repeatable("/next")).await.unwrap(), "ok");
    assert!(arrived.recv().await.unwrap().starts_with("POST /next"));
}

#[tokio::test]
async fn what_is_left_of_a_request_that_was_answered_early_is_not_sent_for_ever() {
    const LENGTH: usize = 64 << 20;
    let (go, gone) = std::sync::mpsc::channel();
    let (url, mut arrived) = serve(move |listener, notes| {
        let mut peer = listener.accept();
        peer.0.read_exact(&mut [0; 100]).unwrap();
        peer.answer("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
        gone.recv().unwrap();
        let mut rest = Vec::new();
        let _ = peer.0.read_to_end(&mut rest);
        notes.send(rest.len().to_string()).unwrap();
    });
    let upstream = at(&url);
    let body = CallBody::from(Bytes::from(vec![b'x'; LENGTH]));
    drop(upstream.call(Call { body, ..post("/large") }).await.unwrap());
    drop(upstream);
    go.send(()).unwrap();
    let read: usize = arrived.recv().await.unwrap().parse().unwrap();
    assert!(read < LENGTH / 2, "{read} octets came after the answer");
}

#[tokio::test]
async fn draining_closes_idle_connections_so_that_every_task_ends() {
    let (url, mut arrived) = serve(|listener, notes| {
        let mut peer = listener.accept();
        peer.request();
        peer.answer(OK);
        notes.send(format!("{:?}", peer.request())).unwrap();
    });
    let tasks = Tasks::new();
    let upstream = Upstream::new(settings(url), clock(), &tasks).unwrap();
    complete(&upstream, post("/")).await.unwrap();
    tasks.drain();
    assert_eq!(arrived.recv().await.as_deref(), Some("None"));
    assert!(tasks.ended(&Clock::system(), Duration::from_mins(1), Duration::ZERO).await);
}

#[tokio::test]
async fn connections_that_nobody_may_use_are_closed_by_the_clock() {
    let (url, mut arrived) = serve(|listener, notes| {
        let mut peer = listener.accept();
        peer.request();
        peer.answer(OK);
        notes.send(format!("{:?}", peer.request())).unwrap();
    });
    let clock = clock();
    let upstream = Upstream::new(settings(url), clock.clone(), &Tasks::new()).unwrap();
    complete(&upstream, post("/")).await.unwrap();
    clock.advance(Duration::from_secs(5));
    assert_eq!(arrived.recv().await.as_deref(), Some("None"));
    drop(upstream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_each_get_their_own_answer() {
    let (url, _arrived) = serve(|listener, _| {
        loop {
            let mut peer = listener.accept();
            thread::spawn(move || {
                while let Some(request) = peer.request() {
                    let target = request.split(' ').nth(1).unwrap().to_owned();
                    let length = target.len();
                    peer.answer(&format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}"
                    ));
                }
            });
        }
    });
    let (upstream, tasks) = (at(&url), Tasks::new());
    let calls = (0..20).map(|caller| {
        let upstream = upstream.clone();
        tasks.spawn(async move {
            for number in 0..20 {
                let target = format!("/{caller}/{number}");
                assert_eq!(complete(&upstream, post(&target)).await.unwrap(), target);
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_says_that_its_request_went_out_twice() {
    let (url, mut arrived) = closes_at_use();
    let upstream = at(&url);
    let first = upstream.call(repeatable("/first")).await.unwrap();
    assert!(!first.is_repeated);
    let mut body = first.body;
    read(&mut body).await.unwrap();
    arrived.recv().await.unwrap();
    assert!(upstream.call(repeatable("/second")).await.unwrap().is_repeated);
    let (url, mut arrived) = closes_at_use();
    let upstream = at(&url);
    complete(&upstream, repeatable("/first")).await.unwrap();
    arrived.recv().await.unwrap();
    let again = || {
        let pieces = ["or", "der"].map(|it| Ok::<_, BoxError>(Bytes::from(it)));
        Call { body: CallBody::stream(5, futures_util::stream::iter(pieces)), ..repeatable("/") }
    };
    assert!(upstream.call_following(&[], again).await.unwrap().is_repeated);
}

#[tokio::test]
async fn what_is_left_over_from_an_answer_before_is_no_answer() {
    for (delivery, answered) in
        [(DeliveryGuarantee::AtLeastOnce, true), (DeliveryGuarantee::AtMostOnce, false)]
    {
        for left in ["late content", "HTML", "\0"] {
            let (url, mut arrived) = serve(move |listener, notes| {
                let mut first = listener.accept();
                first.request();
                first.answer(OK);
                first.request();
                first.answer(left);
                let mut second = listener.accept();
                notes.send(second.request().unwrap()).unwrap();
                second.answer(OK);
            });
            let upstream = upstream(UpstreamSettings { reuse: Reuse::Always, ..settings(url) });
            complete(&upstream, post("/first")).await.unwrap();
            let second = complete(&upstream, Call { delivery, ..post("/second") }).await;
            assert_eq!(second.is_ok(), answered, "{delivery:?} {left:?}: {second:?}");
            if answered {
                assert!(arrived.recv().await.unwrap().ends_with("order"));
            }
        }
    }
}

#[tokio::test]
async fn an_interim_answer_is_one_that_came() {
    let (url, _arrived) = serve(|listener, _| {
        let mut first = listener.accept();
        first.request();
        first.answer(OK);
        first.request();
        first.answer("HTTP/1.1 102 Processing\r\n\r\n");
        first.answer("garbage");
        drop(first);
        let mut second = listener.accept();
        second.request();
        second.answer(OK);
    });
    let upstream = at(&url);
    complete(&upstream, repeatable("/first")).await.unwrap();
    assert!(complete(&upstream, repeatable("/second")).await.is_err(), "it was sent again");
}

/// An upstream that says something unasked on its first connection, or closes it, once it is told
/// to. It tells that it has, and which request comes on its second connection.
fn speaks_unasked(unasked: Option<&'static str>) -> (Url, UnboundedReceiver<String>, impl Fn()) {
    let (go, going) = std::sync::mpsc::channel::<()>();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let (url, arrived) = serve(move |listener, notes| {
        let mut first = listener.accept();
        first.request();
        first.answer(OK);
        going.recv().unwrap();
        let kept = unasked.map(|octets| {
            first.answer(octets);
            first
        });
        done.send(()).unwrap();
        let mut second = listener.accept();
        notes.send(second.request().unwrap()).unwrap();
        second.answer(OK);
        drop(kept);
    });
    // Blocks the runtime, which so looks at no socket before the connection is used again.
    let speak = move || {
        go.send(()).unwrap();
        is_done.recv().unwrap();
    };
    (url, arrived, speak)
}

const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

#[tokio::test]
async fn what_comes_unasked_before_a_connection_is_used_again_is_no_answer() {
    for unasked in [Some(POISON), Some("\r\n"), None] {
        for delivery in [DeliveryGuarantee::AtMostOnce, DeliveryGuarantee::AtLeastOnce] {
            let (url, mut arrived, speak) = speaks_unasked(unasked);
            let upstream = upstream(UpstreamSettings { reuse: Reuse::Always, ..settings(url) });
            complete(&upstream, post("/first")).await.unwrap();
            speak();
            let mut reply = upstream.call(Call { delivery, ..post("/second") }).await.unwrap();
            assert_eq!(read(&mut reply.body).await.as_deref(), Ok("ok"), "{unasked:?}");
            assert!(!reply.is_repeated, "nothing was sent to the first one: {unasked:?}");
            assert!(arrived.recv().await.unwrap().ends_with("order"));
        }
    }
}

#[tokio::test]
async fn nor_is_it_that_of_a_request_whose_body_is_read_while_it_is_sent() {
    for delivery in [DeliveryGuarantee::AtMostOnce, DeliveryGuarantee::AtLeastOnce] {
        let (url, mut arrived, speak) = speaks_unasked(Some(POISON));
        let upstream = upstream(UpstreamSettings { reuse: Reuse::Always, ..settings(url) });
        complete(&upstream, post("/first")).await.unwrap();
        speak();
        let again = || {
            let pieces = ["or", "der"].map(|it| Ok::<_, BoxError>(Bytes::from(it)));
            let body = CallBody::stream(5, futures_util::stream::iter(pieces));
            Call { body, delivery, ..post("/second") }
        };
        let mut reply = upstream.call_following(&[], again).await.unwrap();
        assert_eq!(read(&mut reply.body).await.as_deref(), Ok("ok"), "{delivery:?}");
        assert!(arrived.recv().await.unwrap().ends_with("order"));
    }
}

#[tokio::test]
async fn a_proxied_request_never_gets_what_came_unasked() {
    for method in ["GET", "POST"] {
        let (url, _arrived, speak) = speaks_unasked(Some(POISON));
        let upstream = upstream(UpstreamSettings { reuse: Reuse::Always, ..settings(url) });
        complete(&upstream, post("/first")).await.unwrap();
        speak();
        let request = http::Request::builder().method(method).uri("/second");
        let body = http_body_util::Empty::new();
        let answer = upstream.forward(request.body(body).unwrap()).await.unwrap();
        assert_eq!(read(&mut answer.into_body()).await.as_deref(), Ok("ok"), "{method}");
    }
}

/// Has the runtime look at its sockets, which it does after some dozens of turns.
async fn let_sockets_be_looked_at() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// What comes of waiting for something that has to come soon by the real clock.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    Clock::system().timeout(Duration::from_secs(15), work).await.expect("it comes")
}

#[tokio::test]
async fn where_none_is_used_again_a_connection_is_closed_after_its_answer() {
    let (url, mut arrived) = serve(|listener, notes| {
        let mut peer = listener.accept();
        peer.request();
        peer.answer(OK);
        notes.send(format!("{:?}", peer.request())).unwrap();
    });
    let upstream = upstream(UpstreamSettings { reuse: Reuse::Never, ..settings(url) });
    complete(&upstream, repeatable("/")).await.unwrap();
    assert_eq!(soon(arrived.recv()).await.as_deref(), Some("None"));
    drop(upstream);
}

#[tokio::test]
async fn a_close_during_a_use_counts_as_a_silent_one() {
    for answers in [false, true] {
        let (url, mut arrived) = serve(move |listener, notes| {
            let answer = |peer: &mut Peer, number: u32| {
                let request = peer.request().unwrap();
                peer.answer(OK);
                notes.send(format!("{number} {request}")).unwrap();
            };
            let mut first = listener.accept();
            answer(&mut first, 1);
            answer(&mut first, 1);
            first.request();
            if answers {
                first.answer(OK);
            }
            drop(first);
            notes.send("closed ".into()).unwrap();
            let mut second = listener.accept();
            answer(&mut second, 2);
            let mut third = listener.accept();
            answer(&mut third, 3);
        });
        let clock = clock();
        let upstream = Upstream::new(settings(url), clock.clone(), &Tasks::new()).unwrap();
        complete(&upstream, repeatable("/")).await.unwrap();
        clock.advance(Duration::from_secs(1));
        complete(&upstream, post("/")).await.unwrap();
        for _ in 0..2 {
            assert_eq!(connection(&mut arrived).await, "1", "it was seen open for a second");
        }
        let mut reply = upstream.call(repeatable("/")).await.unwrap();
        assert_eq!(connection(&mut arrived).await, "closed");
        // The end of the connection is noticed before the answer is read.
        let_sockets_be_looked_at().await;
        read(&mut reply.body).await.unwrap();
        if answers {
            complete(&upstream, post("/")).await.unwrap();
        }
        assert_eq!(connection(&mut arrived).await, "2");
        soon(Box::pin(complete(&upstream, post("/")))).await.unwrap();
        assert_eq!(connection(&mut arrived).await, "3", "though the second stays open");
    }
}
