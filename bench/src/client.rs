//! A client that keeps one connection and does as it is told.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::http::request::Builder;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Failure;

/// A connection to one server.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

impl Client {
    /// Connects to the host and port of a URL.
    pub async fn connect(to: &Uri) -> Result<Self, Failure> {
        let authority = to.authority().ok_or("a URL needs a host and a port")?.to_string();
        let stream = TcpStream::connect(&authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, authority })
    }

    /// The whole answer to a request, to which the `Host` is added.
    pub async fn send(
        &mut self,
        request: Builder,
        body: Bytes,
    ) -> Result<Response<Bytes>, Failure> {
        let request = request.header(HOST, &self.authority).body(Full::new(body))?;
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }

    /// The whole answer to a plain `GET` of a path.
    pub async fn get(&mut self, path: &str) -> Result<Response<Bytes>, Failure> {
        self.send(Request::get(path), Bytes::new()).await
    }
}

/// The path and query of a URL.
pub fn path(of: &Uri) -> &str {
    of.path_and_query().map_or("/", |path| path.as_str())
}
