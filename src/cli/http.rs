//! The HTTP client of commands: one request on a connection of its own.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use cloakroom_runtime::clock::Clock;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// The URL is not one that can be connected to.
    #[error("{0} is no http:// URL with a host")]
    BadUrl(Uri),
    /// No program listens there.
    #[error("{0}")]
    Unreachable(#[from] std::io::Error),
    /// Something listens, but this is no answer.
    #[error("what answers there does not speak HTTP as expected: {0}")]
    Broken(#[from] hyper::Error),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
}

/// Sends a request to the host that its absolute target names; the answer is read whole.
pub(super) async fn exchange(
    clock: &Clock,
    limit: Duration,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    clock.timeout(limit, exchanged(request)).await.map_err(|_| HttpError::Late(limit))?
}

async fn exchanged(request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (mut head, body) = request.into_parts();
    let (host, port, authority) = target(&head.uri)?;
    let stream = TcpStream::connect((&*host, port)).await?;
    stream.set_nodelay(true)?;
    head.headers.entry(HOST).or_insert(authority);
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    head.uri = origin_form(&head.uri)?;
    let request = Request::from_parts(head, Full::new(body));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        // The connection's end is the answer's end, or its error.
        _ = connection => answer.await,
    }
}

fn target(uri: &Uri) -> Result<(String, u16, HeaderValue), HttpError> {
    let bad = || HttpError::BadUrl(uri.clone());
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(bad)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let field = HeaderValue::from_str(authority.as_str()).map_err(|_| bad())?;
    Ok((host, authority.port_u16().unwrap_or(80), field))
}

fn origin_form(uri: &Uri) -> Result<Uri, HttpError> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    path.parse().map_err(|_| HttpError::BadUrl(uri.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_with_a_host_can_be_connected_to() {
        let (host, port, field) = target(&Uri::from_static("http://[::1]:8081/x")).unwrap();
        assert_eq!((&*host, port, field.as_bytes()), ("::1", 8081, &b"[::1]:8081"[..]));
        assert_eq!(target(&Uri::from_static("http://localhost")).unwrap().1, 80);
        assert!(target(&Uri::from_static("https://localhost")).is_err());
        assert!(target(&Uri::from_static("/path")).is_err());
    }

    #[tokio::test]
    async fn nobody_listening_is_told_as_such() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let request = Request::get(format!("http://{free}/")).body(Bytes::new()).unwrap();
        let answer = exchange(&Clock::system(), Duration::from_secs(5), request).await;
        assert!(matches!(answer, Err(HttpError::Unreachable(_))), "{answer:?}");
    }
}
