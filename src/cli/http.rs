//! The HTTP client of commands: plain HTTP/1.1, each request on a connection of its own.
//!
//! Owns what the library would do by itself and must not here: follow redirects, read proxies from the
//! environment, keep connections, send a request again.

use std::error::Error;
use std::io;
use std::iter::successors;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Uri};
use reqwest::redirect::Policy;
use reqwest::{Client, retry};

use cloakroom_runtime::clock::Clock;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// The URL is not one that can be connected to.
    #[error("{0} is no http:// URL with a host")]
    BadUrl(Uri),
    /// No program listens there.
    #[error("{0}")]
    Unreachable(String),
    /// Something listens, but this is no answer.
    #[error("what answers there does not speak HTTP as expected: {0}")]
    Broken(String),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The client itself cannot be made.
    #[error("the HTTP client cannot be set up: {0}")]
    Unusable(String),
}

/// The client. Clones share one.
#[derive(Clone)]
pub(super) struct HttpClient {
    client: Client,
    clock: Clock,
}

impl HttpClient {
    /// A client that tells the time by this clock.
    pub(super) fn new(clock: Clock) -> Result<Self, HttpError> {
        let client = Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(Policy::none())
            .retry(retry::never())
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| HttpError::Unusable(error.to_string()))?;
        Ok(Self { client, clock })
    }

    /// Sends a request to the host that its absolute target names; the answer is read whole.
    pub(super) async fn send(
        &self,
        limit: Duration,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, HttpError> {
        let exchanged = self.clock.timeout(limit, self.exchanged(request));
        exchanged.await.map_err(|_| HttpError::Late(limit))?
    }

    async fn exchanged(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri().clone();
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            return Err(HttpError::BadUrl(uri));
        }
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let request = request.try_into().map_err(|_| HttpError::BadUrl(uri))?;
        let mut answer = self.client.execute(request).await.map_err(|error| cause(&error))?;
        let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let version = answer.version();
        let mut whole = Response::new(answer.bytes().await.map_err(|error| cause(&error))?);
        *whole.status_mut() = status;
        *whole.version_mut() = version;
        *whole.headers_mut() = headers;
        Ok(whole)
    }
}

/// What lies beneath an error. The library's own words name no cause, and repeat the URL.
fn cause(error: &reqwest::Error) -> HttpError {
    let causes = || successors(Some(error as &dyn Error), |error| (*error).source());
    if error.is_connect() {
        let of_system = causes().filter_map(|error| error.downcast_ref::<io::Error>()).last();
        return HttpError::Unreachable(of_system.map_or_else(|| error.to_string(), told));
    }
    let of_protocol = causes().find_map(|error| error.downcast_ref::<hyper::Error>());
    HttpError::Broken(of_protocol.map_or_else(|| error.to_string(), told))
}

fn told(error: &impl Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    async fn got(url: &str) -> Result<Response<Bytes>, HttpError> {
        let request = Request::get(url).body(Bytes::new()).unwrap();
        HttpClient::new(Clock::system()).unwrap().send(LIMIT, request).await
    }

    /// A server that answers one connection with these octets, and its URL.
    fn answering(octets: &'static [u8]) -> String {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", server.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut octet = [0];
                std::io::Read::read_exact(&mut stream, &mut octet).unwrap();
                head.push(octet[0]);
            }
            std::io::Write::write_all(&mut stream, octets).unwrap();
        });
        url
    }

    #[tokio::test]
    async fn only_http_urls_with_a_host_can_be_connected_to() {
        for url in ["https://localhost", "/path"] {
            let answer = got(url).await;
            assert!(matches!(answer, Err(HttpError::BadUrl(_))), "{url}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn nobody_listening_is_told_as_such() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = got(&format!("http://{free}/")).await.unwrap_err();
        assert!(matches!(error, HttpError::Unreachable(_)), "{error:?}");
        assert_eq!(error.to_string(), "Connection refused (os error 111)");
    }

    #[tokio::test]
    async fn what_is_no_answer_of_http_is_told_as_such() {
        for (octets, says) in [
            (&b"SSH-2.0-OpenSSH_9.6\r\n"[..], "invalid HTTP version parsed"),
            (b"", "connection closed before message completed"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "error reading a body"),
        ] {
            let error = got(&answering(octets)).await.unwrap_err();
            let words = error.to_string();
            assert!(words.starts_with("what answers there does not speak HTTP"), "{words}");
            assert!(words.contains(says) && !words.contains("http://"), "{words}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let elsewhere = b"HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:1/\r\n\r\n";
        assert_eq!(got(&answering(elsewhere)).await.unwrap().status(), 307);
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_late() {
        let clock = Clock::manual(cloakroom_domain::Timestamp::EPOCH);
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let request = Request::get(url).body(Bytes::new()).unwrap();
        let client = HttpClient::new(clock.clone()).unwrap();
        let answer = tokio::select! {
            answer = client.send(LIMIT, request) => answer,
            () = async { loop { clock.advance(LIMIT); tokio::task::yield_now().await; } } => unreachable!(),
        };
        assert_eq!(answer.unwrap_err().to_string(), "no answer within 5 s");
    }
}
