//! Answers over TLS: early ones, and ones that end without the notice that TLS asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::certificates::Identity;
use crate::support::{Authority, Setup, post, time};

/// A service over TLS that answers each request after its head, and closes without notice; how
/// many requests it had. With a body of a request unread, its end is a reset.
struct Service {
    url: String,
    requests: Arc<AtomicUsize>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Service {
    async fn start(identity: &Identity, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let requests = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&requests);
        let tls = TlsAcceptor::from(identity.server());
        let accepting = time::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Otherwise the answer waits for what was sent before, and the reset overtakes it.
                stream.set_nodelay(true).unwrap();
                let Ok(mut stream) = tls.accept(stream).await else { continue };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n")
                    && let Ok(octet) = stream.read_u8().await
                {
                    head.push(octet);
                }
                if head.ends_with(b"\r\n\r\n") {
                    count.fetch_add(1, Ordering::SeqCst);
                    _ = stream.write_all(answer.as_bytes()).await;
                    _ = stream.flush().await;
                }
            }
        });
        Self { url, requests, accepting }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_was_read_is_not_lost() {
    const ROUNDS: usize = 20;
    let authority = Authority::new();
    let identity = authority.certify("localhost");
    for (answer, status) in [
        ("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok", 201),
        (
            "HTTP/1.1 413 Content Too Large\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            413,
        ),
    ] {
        let service = Service::start(&identity, answer).await;
        let setup = Setup::before_url(&service.url).route("POST /orders", "");
        let gateway = setup.spawn_trusting(&authority).await;
        for _ in 0..ROUNDS {
            let body = vec![b'x'; 3 << 20];
            let ticket = gateway.accept(post("/orders").body("text/plain", body.clone())).await;
            let document = gateway.settled(&ticket).await;
            assert_eq!(document["responseStatus"], status, "{document}");
            gateway.send(post("/passed").body("text/plain", body)).await.expect(status);
        }
        assert_eq!(service.requests(), 2 * ROUNDS, "each was sent once");
    }
}

#[tokio::test]
async fn the_end_of_a_connection_without_notice_ends_an_answer_whose_framing_it_meets() {
    let authority = Authority::new();
    let identity = authority.certify("localhost");
    for (answer, ends) in [
        ("HTTP/1.1 201 Created\r\n\r\nok", "succeeded"),
        ("HTTP/1.0 201 Created\r\nContent-Type: text/plain\r\n\r\nok", "succeeded"),
        ("HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\nok", "failed"),
        ("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "failed"),
        ("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", "succeeded"),
        ("HTTP/1.1 201 Created\r\nX-Half", "failed"),
    ] {
        let service = Service::start(&identity, answer).await;
        let setup = Setup::before_url(&service.url).route("POST /orders", "");
        let gateway = setup.spawn_trusting(&authority).await;
        // Without a body nothing is unread, so the end is no reset.
        let ticket = gateway.accept(post("/orders")).await;
        let document = gateway.settled(&ticket).await;
        assert_eq!(document["status"], ends, "{answer:?}: {document}");
        if ends == "succeeded" {
            assert_eq!(gateway.get(&ticket.at("result")).await.expect(200).body, b"ok");
        } else {
            assert_eq!(document["error"]["code"], "outcome-unknown", "{document}");
        }
    }
}
