//! A webhook receiver on a real socket that can be told to misbehave.
//!
//! Owns what deliveries look like when they arrive, and what comes back. It speaks raw
//! bytes, over TLS with any certificate where asked, so that it can also break the
//! protocol. It must not know the gateway.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::certificates::Identity;
use super::{client::find, time};

/// What becomes of one delivery.
#[derive(Clone, Debug)]
pub enum Manner {
    /// An answer as it should be.
    Answer { status: u16, fields: Vec<(String, String)>, body: Vec<u8> },
    /// The same after some real time.
    Slowly(Duration, Box<Manner>),
    /// These octets, then the connection is closed: garbage, or half an answer.
    Raw(Vec<u8>),
    /// The delivery is read, and nothing more happens.
    Silent,
    /// Not even the delivery is read.
    Deaf,
    /// These octets once the head of the delivery has come; then the connection is closed with the
    /// body unread, which resets it.
    Early(Vec<u8>),
    /// An answer's head, and then one octet after the other without end.
    Drip(u16),
    /// An answer's head, and then a body without end, as fast as it is read.
    Endless(u16),
    /// Interim answers (100) without end, as fast as they are read.
    Interim,
    /// The delivery is read, and the connection reset.
    Reset,
    /// Answers, and closes without having said so.
    ThenClose(Box<Manner>),
}

impl Manner {
    pub fn status(status: u16) -> Self {
        Self::Answer { status, fields: Vec::new(), body: Vec::new() }
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        if let Self::Answer { fields, .. } = &mut self {
            fields.push((name.into(), value.into()));
        }
        self
    }

    pub fn body(mut self, octets: impl Into<Vec<u8>>) -> Self {
        if let Self::Answer { body, .. } = &mut self {
            *body = octets.into();
        }
        self
    }

    pub fn slowly(self, by: Duration) -> Self {
        Self::Slowly(by, Box::new(self))
    }

    pub fn then_close(self) -> Self {
        Self::ThenClose(Box::new(self))
    }
}

/// A delivery as it arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When it had been read whole.
    pub at: Instant,
    pub method: String,
    pub target: String,
    /// Names as they were written, in order.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Arrival {
    pub fn all(&self, name: &str) -> Vec<&str> {
        let mine = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        mine.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that stands there exactly once.
    #[track_caller]
    pub fn field(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name} in {self:?}");
        all[0]
    }

    /// What all attempts and receivers of one event share.
    #[track_caller]
    pub fn id(&self) -> &str {
        self.field("webhook-id")
    }
}

#[derive(Default)]
struct Books {
    arrivals: Vec<Arrival>,
    scripts: HashMap<String, VecDeque<Manner>>,
    standing: HashMap<String, Manner>,
    connections: usize,
    open: usize,
}

#[derive(Default)]
struct Shared(Mutex<Books>);

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receiver. Dropping it closes its port and its connections.
pub struct Receiver {
    pub address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Receiver {
    /// A receiver on a free port that answers everything with 204.
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), None).await
    }

    /// The same over TLS, with that certificate.
    pub async fn start_tls(identity: &Identity) -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), Some(identity)).await
    }

    /// The same on a given port, for one that comes back.
    pub async fn start_on(address: SocketAddr, identity: Option<&Identity>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port to listen on");
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let tls = identity.map(|identity| TlsAcceptor::from(identity.server()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let accepting = time::spawn(accept(listener, tls, Arc::clone(&shared)));
        Self { address, scheme, shared, accepting }
    }

    /// Where it receives, by the name `localhost`, which its certificates are for.
    pub fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.address.port())
    }

    /// From now on, deliveries to this path end like this.
    pub fn on(&self, path: &str, manner: Manner) {
        self.shared.books().standing.insert(path.into(), manner);
    }

    /// The next deliveries to this path end like this, before any standing order.
    pub fn script(&self, path: &str, manners: impl IntoIterator<Item = Manner>) {
        self.shared.books().scripts.entry(path.into()).or_default().extend(manners);
    }

    /// Every delivery so far, in the order of arrival.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.shared.books().arrivals.clone()
    }

    /// How many have arrived: for those that come by the thousand.
    pub fn count(&self) -> usize {
        self.shared.books().arrivals.len()
    }

    /// Waits until that many have arrived, and gives them all.
    #[track_caller]
    pub fn until_arrived(&self, count: usize) -> impl Future<Output = Vec<Arrival>> {
        let what = format!("{count} deliveries");
        let arrived = move || async move { (self.count() >= count).then(|| self.arrivals()) };
        let place = std::panic::Location::caller();
        async move {
            let looked = time::bounded(time::until(&what, arrived)).await;
            looked.unwrap_or_else(|| panic!("{place}: {what}: only {}", self.count()))
        }
    }

    /// The only delivery so far.
    #[track_caller]
    pub fn only(&self) -> Arrival {
        let mut arrivals = self.arrivals();
        assert_eq!(arrivals.len(), 1, "{arrivals:?}");
        arrivals.remove(0)
    }

    /// Connections opened so far.
    pub fn connections(&self) -> usize {
        self.shared.books().connections
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.books().open
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    // Connections end with their listener.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Two small writes must not wait for one another's acknowledgement.
        _ = stream.set_nodelay(true);
        let (tls, counted) = (tls.clone(), Counted::new(&shared));
        connections.spawn(async move {
            match tls {
                None => serve(stream, counted).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, counted).await;
                    }
                }
            }
        });
    }
}

/// A connection in the books, for as long as it is open.
struct Counted {
    shared: Arc<Shared>,
}

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        let mut books = shared.books();
        books.connections += 1;
        books.open += 1;
        Self { shared: Arc::clone(shared) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.books().open -= 1;
    }
}

/// What a connection is made of.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes closing it a reset.
    fn reset(&self);
}

impl Wire for TcpStream {
    fn reset(&self) {
        _ = self.set_zero_linger();
    }
}

impl Wire for tokio_rustls::server::TlsStream<TcpStream> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

async fn serve<W: Wire>(wire: W, counted: Counted) {
    let mut connection = Served { wire, buffer: Vec::new(), counted };
    while connection.next().await.is_some() {}
}

struct Served<W> {
    wire: W,
    buffer: Vec<u8>,
    counted: Counted,
}

impl<W: Wire> Served<W> {
    /// Takes one delivery; `None` when the connection is done with.
    async fn next(&mut self) -> Option<()> {
        let mut arrival = self.head().await?;
        let manner = self.choose(&arrival.target);
        if matches!(manner, Manner::Deaf) {
            return std::future::pending().await;
        }
        if let Manner::Early(octets) = manner {
            self.counted.shared.books().arrivals.push(arrival);
            self.write(&octets).await;
            return None;
        }
        let length = arrival.all("content-length").first().and_then(|length| length.parse().ok());
        arrival.body = self.take(length.unwrap_or(0)).await?;
        arrival.at = time::instant();
        self.counted.shared.books().arrivals.push(arrival);
        self.perform(manner).await
    }

    fn choose(&self, target: &str) -> Manner {
        let mut books = self.counted.shared.books();
        let scripted = books.scripts.get_mut(target).and_then(VecDeque::pop_front);
        let standing = || books.standing.get(target).cloned();
        scripted.or_else(standing).unwrap_or_else(|| Manner::status(204))
    }

    async fn head(&mut self) -> Option<Arrival> {
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
        Some(Arrival { at: time::instant(), method, target, fields, body: Vec::new() })
    }

    async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill().await?;
        }
        Some(self.buffer.drain(..count).collect())
    }

    async fn fill(&mut self) -> Option<()> {
        (self.wire.read_buf(&mut self.buffer).await.ok()? > 0).then_some(())
    }

    async fn perform(&mut self, manner: Manner) -> Option<()> {
        match manner {
            Manner::Answer { status, fields, body } => self.answer(status, &fields, &body).await,
            Manner::Slowly(by, then) => {
                time::pause(by).await;
                Box::pin(self.perform(*then)).await
            }
            Manner::Raw(octets) => {
                self.write(&octets).await?;
                _ = self.wire.shutdown().await;
                None
            }
            Manner::Silent | Manner::Deaf | Manner::Early(_) => {
                // Until the other side has had enough.
                while self.fill().await.is_some() {}
                None
            }
            Manner::Drip(status) => {
                self.write(&head(status, "Content-Length: 1000000\r\n")).await?;
                loop {
                    self.write(b".").await?;
                    time::pause(Duration::from_millis(5)).await;
                }
            }
            Manner::Endless(status) => {
                self.write(&head(status, "Transfer-Encoding: chunked\r\n")).await?;
                self.repeat(&[b"10000\r\n", &vec![b'x'; 0x10000][..], b"\r\n"].concat()).await
            }
            Manner::Interim => self.repeat(b"HTTP/1.1 100 Continue\r\n\r\n").await,
            Manner::Reset => {
                self.wire.reset();
                None
            }
            Manner::ThenClose(then) => {
                Box::pin(self.perform(*then)).await;
                None
            }
        }
    }

    async fn repeat(&mut self, octets: &[u8]) -> Option<()> {
        loop {
            self.write(octets).await?;
        }
    }

    async fn answer(
        &mut self,
        status: u16,
        fields: &[(String, String)],
        body: &[u8],
    ) -> Option<()> {
        let mut rest = String::new();
        for (name, value) in fields {
            rest.extend([name, ": ", value, "\r\n"]);
        }
        if !matches!(status, 204 | 304) {
            rest.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        }
        let mut octets = head(status, &rest);
        octets.extend_from_slice(body);
        self.write(&octets).await
    }

    async fn write(&mut self, octets: &[u8]) -> Option<()> {
        self.wire.write_all(octets).await.ok()?;
        self.wire.flush().await.ok()
    }
}

fn head(status: u16, fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Answer\r\n{fields}\r\n").into_bytes()
}
