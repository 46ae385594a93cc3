//! A raw HTTP/1.1 client: sends exactly the bytes it is told to and hides nothing.
//!
//! Owns reading and writing on real sockets. Every read and write is bounded by
//! [`time::PATIENCE`], so that a gateway that hangs fails a test instead of hanging it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::time;

/// A request to be sent; `Host` is the address unless one is given.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// A GET.
pub fn get(target: impl Into<String>) -> Request {
    Request::new("GET", target)
}

/// A POST without a body.
pub fn post(target: impl Into<String>) -> Request {
    Request::new("POST", target)
}

impl Request {
    pub fn new(method: &str, target: impl Into<String>) -> Self {
        Self { method: method.into(), target: target.into(), fields: Vec::new(), body: None }
    }

    pub fn field(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self.field("Content-Type", content_type)
    }

    pub fn json(self, value: &Value) -> Self {
        self.body("application/json", value.to_string())
    }

    /// The request's line and fields, up to and with the empty line.
    pub fn head(&self, address: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let given = |name: &str| self.fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !given("host") {
            head.extend(["Host: ", &address.to_string(), "\r\n"]);
        }
        for (name, value) in &self.fields {
            head.extend([name, ": ", value, "\r\n"]);
        }
        if let Some(body) = &self.body
            && !given("content-length")
            && !given("transfer-encoding")
        {
            head.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        }
        head += "\r\n";
        head.into_bytes()
    }

    /// The whole request as it goes over the wire.
    pub fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut bytes = self.head(address);
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends it on a connection of its own.
    pub async fn send(&self, address: SocketAddr) -> Response {
        match self.try_send(address).await {
            Ok(response) => response,
            Err(error) => panic!("{} {}: {error}", self.method, self.target),
        }
    }

    /// Sends it on a connection of its own, which may break.
    pub async fn try_send(&self, address: SocketAddr) -> io::Result<Response> {
        Connection::try_open(address).await?.try_send(self).await
    }

    fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The statuses of the interim answers before it.
    pub interim: Vec<u16>,
}

impl Response {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Every value of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let mine = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        mine.map(|(_, value)| value.as_str()).collect()
    }

    /// The first value of a field that has to be there.
    #[track_caller]
    pub fn expect_field(&self, name: &str) -> &str {
        self.field(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {} {:?}", self.status, self.text()))
    }

    /// Checks the status, showing the whole answer if it is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.fields, self.text());
        self
    }

    /// Checks that this is one of the gateway's own problems, and gives its document.
    #[track_caller]
    pub fn problem(self, status: u16) -> Value {
        let response = self.expect(status);
        assert_eq!(response.field("content-type"), Some("application/problem+json"));
        assert_eq!(response.field("gateway-origin"), Some("cloakroom"));
        let problem = response.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["type"].as_str().is_some_and(|kind| !kind.is_empty()), "{problem}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
        let code = problem["code"]
            .as_str()
            .or(problem["type"].as_str().and_then(|kind| kind.rsplit(':').next()));
        assert_eq!(problem["error"]["code"].as_str(), code, "{problem}");
        assert_eq!(problem["error"]["message"], problem["detail"], "{problem}");
        problem
    }
}

enum Body {
    Done,
    Length(usize),
    Chunked,
    UntilClose,
}

/// A connection that keeps what it has read too much of.
pub struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
    body: Body,
    patience: Duration,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        Self::try_open(address).await.expect("the gateway takes connections")
    }

    pub async fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = bounded(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        let patience = time::PATIENCE;
        Ok(Self { address, stream, buffer: Vec::new(), body: Body::Done, patience })
    }

    /// The same connection, which waits longer for what comes.
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Writes bytes as they are.
    pub async fn send_raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send_raw(bytes).await.expect("the gateway reads");
    }

    pub async fn try_send_raw(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        bounded(self.stream.write_all(bytes.as_ref())).await
    }

    /// Ends the client's own side; the other one may still answer.
    pub async fn end_sending(&mut self) {
        self.stream.shutdown().await.expect("the connection is open");
    }

    /// Lets go of the connection in a way that the other side is told of at once.
    pub fn reset(self) {
        self.stream.set_zero_linger().expect("the connection is open");
    }

    /// Sends a request's line and fields and keeps its body back.
    pub async fn send_head(&mut self, request: &Request) {
        self.send_raw(request.head(self.address)).await;
    }

    /// Sends a request and reads the answer.
    pub async fn send(&mut self, request: &Request) -> Response {
        self.try_send(request).await.expect("an answer")
    }

    pub async fn try_send(&mut self, request: &Request) -> io::Result<Response> {
        // The other side may answer and close before it has read everything.
        let sent = self.try_send_raw(request.bytes(self.address)).await;
        let answer = self.try_response(request.is_head()).await;
        if answer.is_err() { sent.and(answer) } else { answer }
    }

    /// Reads the answer to anything but a HEAD.
    pub async fn response(&mut self) -> Response {
        self.try_response(false).await.expect("an answer")
    }

    pub async fn try_response(&mut self, to_head: bool) -> io::Result<Response> {
        let mut interim = Vec::new();
        let mut response = loop {
            let head = self.try_head(to_head).await?;
            match head.status {
                101 | 200.. => break head,
                status => interim.push(status),
            }
        };
        response.interim = interim;
        while let Some(piece) = self.try_piece().await? {
            response.body.extend(piece);
        }
        Ok(response)
    }

    /// Reads status and fields of the next answer, interim ones included, not its body.
    pub async fn head(&mut self) -> Response {
        self.try_head(false).await.expect("the head of an answer")
    }

    async fn try_head(&mut self, to_head: bool) -> io::Result<Response> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            self.fill().await?;
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let response = parse_head(&String::from_utf8_lossy(&head))?;
        self.body = framing(&response, to_head);
        Ok(response)
    }

    /// The next piece of the body, as it comes in; `None` at its end.
    pub async fn piece(&mut self) -> Option<Vec<u8>> {
        self.try_piece().await.expect("a whole body")
    }

    pub async fn try_piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.body {
            Body::Done | Body::Length(0) => Ok(None),
            Body::Length(left) => {
                if self.buffer.is_empty() {
                    self.fill().await?;
                }
                let take = left.min(self.buffer.len());
                self.body = Body::Length(left - take);
                Ok(Some(self.buffer.drain(..take).collect()))
            }
            Body::Chunked => self.chunk().await,
            Body::UntilClose => {
                if self.buffer.is_empty() && self.read().await? == 0 {
                    self.body = Body::Done;
                    return Ok(None);
                }
                Ok(Some(std::mem::take(&mut self.buffer)))
            }
        }
    }

    async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = self.line().await?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(io::Error::other)?;
        while self.buffer.len() < size + 2 {
            self.fill().await?;
        }
        let chunk: Vec<u8> = self.buffer.drain(..size).collect();
        self.buffer.drain(..2);
        if size == 0 {
            self.body = Body::Done;
            return Ok(None);
        }
        Ok(Some(chunk))
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.fill().await?;
        }
    }

    /// Reads exactly that many bytes, for what comes after an upgrade.
    pub async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            self.fill().await.expect("more bytes");
        }
        self.buffer.drain(..count).collect()
    }

    /// Waits until the other side has closed, and gives what it sent before that.
    pub async fn closed(&mut self) -> Vec<u8> {
        while matches!(self.read().await, Ok(1..)) {}
        std::mem::take(&mut self.buffer)
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.read().await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed in the middle")),
            _ => Ok(()),
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        let read = self.stream.read_buf(&mut self.buffer);
        time::bounded_by(self.patience, read).await.unwrap_or_else(|| Err(hung()))
    }
}

/// Live events, one at a time.
pub struct EventStream {
    connection: Connection,
    text: String,
    pub head: Response,
}

/// One event, or a comment (`comment` set and nothing else).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveEvent {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: String,
    pub comment: Option<String>,
}

impl EventStream {
    /// Asks for live events; the caller looks at `head` for what came instead.
    pub async fn open(address: SocketAddr, request: Request) -> Self {
        let mut connection = Connection::open(address).await;
        connection.send_head(&request.field("Accept", "text/event-stream")).await;
        let head = connection.head().await;
        Self { connection, text: String::new(), head }
    }

    /// The next event or comment; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                return Some(parse_event(&block));
            }
            let piece = self.connection.piece().await?;
            self.text += &String::from_utf8_lossy(&piece).replace("\r\n", "\n");
        }
    }

    /// Everything up to the end of the stream, without comments.
    pub async fn rest(&mut self) -> Vec<LiveEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            if event.comment.is_none() {
                events.push(event);
            }
        }
        events
    }
}

fn parse_event(block: &str) -> LiveEvent {
    let mut event = LiveEvent::default();
    for line in block.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match name {
            "" if event.data.is_empty() => event.comment = Some(value),
            "id" => event.id = Some(value),
            "event" => event.event = Some(value),
            "data" => event.data += &value,
            _ => {}
        }
    }
    if event.id.is_some() || event.event.is_some() || !event.data.is_empty() {
        event.comment = None;
    }
    event
}

fn parse_head(head: &str) -> io::Result<Response> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP answer: {head:?}"));
    let mut lines = head.split("\r\n");
    let mut start = lines.next().unwrap_or_default().split(' ');
    if start.next() != Some("HTTP/1.1") {
        return Err(bad());
    }
    let status = start.next().and_then(|status| status.parse().ok()).ok_or_else(bad)?;
    let lines = lines.filter(|line| !line.is_empty());
    let fields: Option<Vec<_>> = lines
        .map(|line| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned())))
        .collect();
    Ok(Response { status, fields: fields.ok_or_else(bad)?, body: vec![], interim: vec![] })
}

fn framing(response: &Response, to_head: bool) -> Body {
    let chunked = response.field("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let length = response.field("content-length").and_then(|length| length.parse().ok());
    match (response.status, length) {
        _ if to_head => Body::Done,
        (100..=199 | 204 | 304, _) => Body::Done,
        _ if chunked => Body::Chunked,
        (_, Some(length)) => Body::Length(length),
        _ => Body::UntilClose,
    }
}

async fn bounded<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    time::bounded(work).await.unwrap_or_else(|| Err(hung()))
}

fn hung() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the other side hangs")
}

pub(super) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
