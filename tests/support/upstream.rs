//! A fake upstream on a real socket: an order service that can be told to misbehave.
//!
//! Owns what the gateway's requests look like when they arrive, and what comes back. It
//! speaks raw bytes, so that it can also break the protocol. It must not know the
//! gateway.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{client::find, time};

/// What the upstream does with one request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The order service: a POST creates `{path}/{n}`, anything else is shown.
    Orders,
    /// A plain answer.
    Reply { status: u16, fields: Vec<(String, String)>, body: Vec<u8> },
    /// Reads the request and never answers.
    Never,
    /// Reads the request and resets the connection.
    Reset,
    /// Reads the request and closes the connection.
    Close,
    /// These bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// These bytes, then the connection is reset.
    RawThenReset(Vec<u8>),
    /// Promises a body and then sends one byte of it after the other, without end.
    Drip,
    /// A body that never ends, as fast as it is read.
    Endless,
    /// Interim answers first.
    Interim(Vec<u16>, Box<Answer>),
    /// The answer after some real time.
    Slowly(Duration, Box<Answer>),
    /// Answers, then closes without having said so.
    ThenClose(Box<Answer>),
    /// 101 to this protocol, then echoes whatever comes.
    Upgrade(String),
    /// Sends the request's body back while it is still coming in.
    Echo,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self::Reply { status, fields: Vec::new(), body: Vec::new() }
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        if let Self::Reply { fields, .. } = &mut self {
            fields.push((name.into(), value.into()));
        }
        self
    }

    pub fn body(mut self, content_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        if let Self::Reply { body, .. } = &mut self {
            *body = bytes.into();
        }
        self.field("Content-Type", content_type)
    }

    pub fn json(self, value: &Value) -> Self {
        self.body("application/json", value.to_string())
    }

    /// A 200 whose body is shorter than its `Content-Length`.
    pub fn truncated() -> Self {
        Self::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this".to_vec())
    }

    pub fn after_interim(self, status: u16) -> Self {
        Self::Interim(vec![status], Box::new(self))
    }

    pub fn slowly(self, by: Duration) -> Self {
        Self::Slowly(by, Box::new(self))
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// Which of the upstream's connections it came on.
    pub connection: usize,
    pub method: String,
    /// The request target, as it was sent.
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let mine = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        mine.map(|(_, value)| value.as_str()).collect()
    }

    #[track_caller]
    pub fn expect_field(&self, name: &str) -> &str {
        self.field(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// How long a request was here, in the order of comings and goings.
#[derive(Clone, Debug)]
pub struct Stay {
    pub request: Received,
    pub came: usize,
    /// None while it is here.
    pub went: Option<usize>,
}

#[derive(Default)]
struct Books {
    received: Vec<Received>,
    stays: Vec<Stay>,
    steps: usize,
    scripts: HashMap<String, VecDeque<Answer>>,
    standing: HashMap<String, Answer>,
    orders: usize,
    connections: usize,
    dropped: usize,
    present: usize,
    most_present: usize,
    answered: HashSet<String>,
}

struct Shared {
    books: Mutex<Books>,
    held: watch::Sender<HashSet<String>>,
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fake upstream. Dropping it closes its port.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Upstream {
    /// An order service on a free port.
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap()).await
    }

    /// The same on a given port, for one that comes back.
    pub async fn start_on(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port to listen on");
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { books: Mutex::default(), held: watch::Sender::default() });
        let accepting = time::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, requests to this path get this answer.
    pub fn on(&self, path: &str, answer: Answer) {
        self.shared.books().standing.insert(path.into(), answer);
    }

    /// The next requests to this path get these answers, before any standing one.
    pub fn script(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.shared.books().scripts.entry(path.into()).or_default().extend(answers);
    }

    /// Requests to this path are read and wait for [`Upstream::release`].
    pub fn hold(&self, path: &str) {
        self.shared.held.send_modify(|held| _ = held.insert(path.into()));
    }

    pub fn release(&self, path: &str) {
        self.shared.held.send_modify(|held| _ = held.remove(path));
    }

    /// How many requests have arrived so far.
    pub fn requests(&self) -> usize {
        self.shared.books().received.len()
    }

    /// Every request so far, in the order in which they arrived.
    pub fn received(&self) -> Vec<Received> {
        self.shared.books().received.clone()
    }

    pub fn received_at(&self, path: &str) -> Vec<Received> {
        self.received().into_iter().filter(|request| request.path() == path).collect()
    }

    /// Waits until that many requests have arrived at this path, and gives them all.
    #[track_caller]
    pub fn until_received(&self, path: &str, count: usize) -> impl Future<Output = Vec<Received>> {
        let what = format!("{count} requests to {path}");
        let probe = move || async move {
            let received = self.received_at(path);
            (received.len() >= count).then_some(received)
        };
        let place = std::panic::Location::caller();
        async move {
            let looked = time::bounded(time::until(&what, probe)).await;
            looked.unwrap_or_else(|| panic!("{place}: {what}: only {:?}", self.received()))
        }
    }

    /// The only request so far.
    #[track_caller]
    pub fn only(&self) -> Received {
        let mut received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received.remove(0)
    }

    /// How often each value of this field arrived, for counting sends.
    pub fn counts(&self, field: &str) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for request in &self.shared.books().received {
            if let Some(value) = request.field(field) {
                *counts.entry(value.to_owned()).or_default() += 1;
            }
        }
        counts
    }

    /// Tells whether the operation of this id has been answered at least once.
    pub fn answered(&self) -> impl Fn(&str) -> bool + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move |id| shared.books().answered.contains(id)
    }

    /// Connections that the other side let go of while their request was held.
    pub fn dropped(&self) -> usize {
        self.shared.books().dropped
    }

    /// The most requests that were here at once: read, and not yet answered.
    pub fn most_at_once(&self) -> usize {
        self.shared.books().most_present
    }

    /// Every request that was read, and how long it was here.
    pub fn stays(&self) -> Vec<Stay> {
        self.shared.books().stays.clone()
    }

    /// Connections opened so far.
    pub fn connections(&self) -> usize {
        self.shared.books().connections
    }
}

/// An address on this machine without a listener.
pub async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Connections end with their listener.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = {
            let mut books = shared.books();
            books.connections += 1;
            books.connections
        };
        // Two small writes must not wait for one another's acknowledgement.
        _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        let buffer = Vec::new();
        connections.spawn(async move {
            let mut connection = Served { stream, buffer, number, shared, present: None };
            while connection.serve().await.is_some() {}
        });
    }
}

struct Served {
    stream: TcpStream,
    buffer: Vec<u8>,
    number: usize,
    shared: Arc<Shared>,
    /// The number of the stay of the request that is here.
    present: Option<usize>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Served {
    fn enter(&mut self, request: &Received) {
        let mut books = self.shared.books();
        self.present = Some(books.stays.len());
        books.steps += 1;
        let stay = Stay { request: request.clone(), came: books.steps, went: None };
        books.stays.push(stay);
        books.received.push(request.clone());
        books.present += 1;
        books.most_present = books.most_present.max(books.present);
    }

    /// Before the answer is written: the other side may send the next at once.
    fn leave(&mut self) {
        let Some(number) = self.present.take() else { return };
        let mut books = self.shared.books();
        books.present -= 1;
        books.steps += 1;
        books.stays[number].went = Some(books.steps);
    }

    /// Takes one request; `None` when the connection is done with.
    async fn serve(&mut self) -> Option<()> {
        let mut request = self.read_head().await?;
        let answer = self.choose(request.path());
        if matches!(answer, Answer::Echo) {
            self.shared.books().received.push(request.clone());
            return self.echo(&request).await;
        }
        self.read_body(&mut request).await?;
        self.enter(&request);
        self.wait_at_gate(request.path()).await?;
        Box::pin(self.perform(answer, &request)).await
    }

    fn choose(&self, path: &str) -> Answer {
        let mut books = self.shared.books();
        let scripted = books.scripts.get_mut(path).and_then(VecDeque::pop_front);
        let standing = || books.standing.get(path).cloned();
        scripted.or_else(standing).unwrap_or(Answer::Orders)
    }

    async fn read_head(&mut self) -> Option<Received> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            self.fill().await?;
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.split("\r\n");
        let mut start = lines.next()?.split(' ');
        let (method, target) = (start.next()?.to_owned(), start.next()?.to_owned());
        let fields = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Some(Received { connection: self.number, method, target, fields, body: Vec::new() })
    }

    async fn read_body(&mut self, request: &mut Received) -> Option<()> {
        if request.field("transfer-encoding").is_some() {
            loop {
                let size = self.chunk_size().await?;
                let chunk = self.take(size + 2).await?;
                request.body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    return Some(());
                }
            }
        }
        let length = request.field("content-length").and_then(|length| length.parse().ok());
        request.body = self.take(length.unwrap_or(0)).await?;
        Some(())
    }

    async fn chunk_size(&mut self) -> Option<usize> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok();
            }
            self.fill().await?;
        }
    }

    async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill().await?;
        }
        Some(self.buffer.drain(..count).collect())
    }

    async fn fill(&mut self) -> Option<()> {
        (self.stream.read_buf(&mut self.buffer).await.ok()? > 0).then_some(())
    }

    /// Waits until the path is let through; `None` if the other side goes first.
    async fn wait_at_gate(&mut self, path: &str) -> Option<()> {
        let mut held = self.shared.held.subscribe();
        let gone = {
            let mut rest = Vec::new();
            tokio::select! {
                opened = held.wait_for(|held| !held.contains(path)) => opened.is_err(),
                read = self.stream.read_buf(&mut rest) => !matches!(read, Ok(1..)),
            }
        };
        self.shared.books().dropped += usize::from(gone);
        (!gone).then_some(())
    }

    async fn perform(&mut self, answer: Answer, request: &Received) -> Option<()> {
        match answer {
            Answer::Orders => {
                let reply = self.order(request);
                Box::pin(self.perform(reply, request)).await
            }
            Answer::Reply { status, fields, body } => {
                self.reply(request, status, &fields, &body).await
            }
            Answer::Never => {
                let mut rest = Vec::new();
                _ = self.stream.read_buf(&mut rest).await;
                self.shared.books().dropped += 1;
                None
            }
            Answer::Reset => {
                // Closing with a linger of nothing is what makes it a reset.
                _ = self.stream.set_zero_linger();
                None
            }
            Answer::Raw(bytes) => {
                self.write(&bytes).await?;
                _ = self.stream.shutdown().await;
                None
            }
            Answer::RawThenReset(bytes) => {
                self.write(&bytes).await?;
                _ = self.stream.set_zero_linger();
                None
            }
            Answer::Drip => self.drip().await,
            Answer::Endless => self.endless().await,
            Answer::Interim(statuses, then) => {
                for status in statuses {
                    self.write(format!("HTTP/1.1 {status} Interim\r\n\r\n").as_bytes()).await?;
                }
                Box::pin(self.perform(*then, request)).await
            }
            Answer::Slowly(by, then) => {
                time::pause(by).await;
                Box::pin(self.perform(*then, request)).await
            }
            Answer::ThenClose(then) => {
                Box::pin(self.perform(*then, request)).await;
                None
            }
            Answer::Upgrade(protocol) => self.upgrade(&protocol).await,
            // An echo was answered before its body came.
            Answer::Close | Answer::Echo => None,
        }
    }

    fn order(&self, request: &Received) -> Answer {
        if request.method != "POST" {
            return Answer::status(200).json(&json!({ "shown": request.target }));
        }
        let number = {
            let mut books = self.shared.books();
            books.orders += 1;
            books.orders
        };
        let location = format!("{}/{number}", request.path());
        Answer::status(201).field("Location", &location).json(&json!({ "order": number }))
    }

    async fn reply(
        &mut self,
        request: &Received,
        status: u16,
        fields: &[(String, String)],
        body: &[u8],
    ) -> Option<()> {
        self.leave();
        if let Some(id) = request.field("operation-id") {
            self.shared.books().answered.insert(id.to_owned());
        }
        let mut bytes = format!("HTTP/1.1 {status} Answer\r\n");
        for (name, value) in fields {
            bytes.extend([name, ": ", value, "\r\n"]);
        }
        if !matches!(status, 204 | 304) {
            bytes.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        }
        bytes += "\r\n";
        let mut bytes = bytes.into_bytes();
        if request.method != "HEAD" {
            bytes.extend_from_slice(body);
        }
        self.write(&bytes).await
    }

    async fn drip(&mut self) -> Option<()> {
        self.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await?;
        loop {
            self.write(b".").await?;
            time::pause(Duration::from_millis(5)).await;
        }
    }

    async fn endless(&mut self) -> Option<()> {
        self.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x10000], b"\r\n"].concat();
        loop {
            self.write(&chunk).await?;
        }
    }

    async fn upgrade(&mut self, protocol: &str) -> Option<()> {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        );
        self.write(head.as_bytes()).await?;
        loop {
            let echoed = std::mem::take(&mut self.buffer);
            self.write(&echoed).await?;
            self.fill().await?;
        }
    }

    async fn echo(&mut self, request: &Received) -> Option<()> {
        let mut left: usize = request.field("content-length")?.parse().ok()?;
        self.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n").as_bytes()).await?;
        while left > 0 {
            if self.buffer.is_empty() {
                self.fill().await?;
            }
            let piece = std::mem::take(&mut self.buffer);
            left = left.saturating_sub(piece.len());
            self.write(&piece).await?;
        }
        Some(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).await.ok()
    }
}
