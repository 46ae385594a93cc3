//! A proxy between a gateway and its PostgreSQL that cuts connections at a chosen moment.
//!
//! Owns as much of the protocol (version 3, without TLS) as it takes to tell a COMMIT and
//! its answer from everything else, whichever message brings it, a statement that commits
//! by itself included, and to tell what kind of work a transaction does. It must not know the gateway.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::time;

/// How long a wanted COMMIT may stay away.
const LONGEST: Duration = Duration::from_secs(20);
/// What asks for TLS, for encryption by GSSAPI, and for the cancelling of a statement.
const WITH_TLS: u32 = 80_877_103;
const WITH_GSSAPI: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;

/// Where at a COMMIT the connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It is not passed on.
    Before,
    /// It is passed on, and its answer is not.
    After,
}

/// What a transaction does, by what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    Accepting,
    HandingOut,
    Ending,
}

impl Work {
    const ALL: [Self; 3] = [Self::Accepting, Self::HandingOut, Self::Ending];

    const fn words(self) -> &'static str {
        match self {
            Self::Accepting => "INSERT INTO operations",
            Self::HandingOut => "INSERT INTO running",
            Self::Ending => "INSERT INTO outcomes",
        }
    }
}

#[derive(Default)]
struct State {
    wanted: Option<(Moment, Work)>,
    cut: usize,
    live: HashMap<usize, Arc<Notify>>,
    opened: usize,
}

#[derive(Default)]
struct Shared(Mutex<State>);

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is where a connection is to be cut; then it is not any more.
    fn takes(&self, at: Moment, work: &HashSet<Work>) -> bool {
        let mut state = self.state();
        let taken = state.wanted.is_some_and(|(moment, of)| moment == at && work.contains(&of));
        if taken {
            state.wanted = None;
        }
        taken
    }
}

/// Passes everything on until it is told to cut. Dropping it cuts everything for good.
pub struct Cutter {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Cutter {
    /// In front of the server on this port of the loopback.
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port to listen on");
        let address = listener.local_addr().unwrap();
        let server = SocketAddr::from(([127, 0, 0, 1], port));
        let shared = Arc::<Shared>::default();
        let accepting = time::spawn(accept(listener, server, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// The address of a database of that server, by way of this one.
    pub fn url(&self, direct: &str) -> String {
        let name = direct.rsplit('/').next().unwrap_or_default();
        format!("postgres://postgres@{}/{name}", self.address)
    }

    /// Cuts one connection, at the next COMMIT of that work; waits until it is cut.
    pub async fn cut_at_commit(&self, moment: Moment, work: Work) {
        let before = self.cuts();
        self.shared.state().wanted = Some((moment, work));
        let what = format!("a COMMIT of {work:?}");
        let cut = || async { (self.cuts() > before).then_some(()) };
        time::until_within(LONGEST, &what, cut).await;
    }

    /// Cuts the connection whose turn it is, in the middle of whatever it does.
    pub fn cut_one(&self, turn: usize) {
        let mut live: Vec<_> = self.live();
        live.sort_unstable_by_key(|(number, _)| *number);
        if !live.is_empty() {
            live.swap_remove(turn % live.len()).1.notify_one();
        }
    }

    /// Cuts every connection at once, and says how many.
    pub fn cut_all(&self) -> usize {
        let live = self.live();
        live.iter().for_each(|(_, cut)| cut.notify_one());
        live.len()
    }

    fn live(&self) -> Vec<(usize, Arc<Notify>)> {
        let state = self.shared.state();
        state.live.iter().map(|(number, cut)| (*number, Arc::clone(cut))).collect()
    }

    /// How many connections have been cut.
    pub fn cuts(&self) -> usize {
        self.shared.state().cut
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    // Connections end with their listener.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let cut = Arc::new(Notify::new());
            let number = {
                let mut state = shared.state();
                state.opened += 1;
                let number = state.opened;
                state.live.insert(number, Arc::clone(&cut));
                number
            };
            let ended = tokio::select! {
                () = cut.notified() => Ended::Cut,
                ended = pass(client, server, &shared) => ended.unwrap_or(Ended::Left),
            };
            let mut state = shared.state();
            state.live.remove(&number);
            state.cut += usize::from(ended == Ended::Cut);
        });
    }
}

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Cut,
    /// By one of the two that it connects.
    Left,
}

async fn pass(mut client: TcpStream, server: SocketAddr, shared: &Shared) -> io::Result<Ended> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    if !greet(&mut client, &mut server).await? {
        return Ok(Ended::Left);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Set while the answer to a COMMIT is not to be passed on.
    let awaited = Mutex::new(false);
    tokio::select! {
        ended = ask(from_client, to_server, shared, &awaited) => ended,
        ended = answer(from_server, to_client, &awaited) => ended,
    }
}

/// What comes before the first message with a type; whether a session follows.
async fn greet(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<bool> {
    loop {
        let length = client.read_u32().await?;
        let mut rest = vec![0; (length as usize).saturating_sub(4)];
        client.read_exact(&mut rest).await?;
        server.write_all(&length.to_be_bytes()).await?;
        server.write_all(&rest).await?;
        match rest.first_chunk().map(|code| u32::from_be_bytes(*code)) {
            Some(WITH_TLS | WITH_GSSAPI) => {
                let said = server.read_u8().await?;
                assert_eq!(said, b'N', "the tests' server has no encryption");
                client.write_u8(said).await?;
            }
            Some(CANCEL) | None => return Ok(false),
            Some(_) => return Ok(true),
        }
    }
}

/// Messages, as far as they have come in.
struct Messages {
    stream: OwnedReadHalf,
    buffer: Vec<u8>,
}

impl Messages {
    const fn of(stream: OwnedReadHalf) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The next whole message with its type and length; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(length) = self.buffer.get(1..5).and_then(|octets| octets.first_chunk()) {
                let whole = u32::from_be_bytes(*length) as usize + 1;
                if self.buffer.len() >= whole {
                    return Ok(Some(self.buffer.drain(..whole).collect()));
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// What a client said on a connection, as far as it matters.
#[derive(Default)]
pub(super) struct Session {
    statements: HashMap<Vec<u8>, String>,
    work: HashSet<Work>,
    /// Whether a transaction was begun: without one, each statement commits by itself.
    open: bool,
}

impl Session {
    /// Takes a message in; whether it has a transaction committed.
    pub(super) fn commits(&mut self, message: &[u8]) -> bool {
        let (kind, body) = (message[0], &message[5..]);
        let mut words = body.split(|octet| *octet == 0);
        let mut word = || words.next().unwrap_or_default();
        match kind {
            b'Q' => {
                let text = String::from_utf8_lossy(word()).into_owned();
                self.runs(&text)
            }
            b'P' => {
                let (name, text) = (word().to_vec(), String::from_utf8_lossy(word()).into_owned());
                self.statements.insert(name, text);
                false
            }
            b'B' => {
                word();
                let text = self.statements.get(word()).cloned().unwrap_or_default();
                self.runs(&text)
            }
            // What ran without a transaction takes effect here.
            b'S' => !self.open && !self.work.is_empty(),
            _ => false,
        }
    }

    fn runs(&mut self, text: &str) -> bool {
        if has_word(text, "BEGIN") {
            self.work.clear();
            self.open = true;
        }
        self.work.extend(Work::ALL.into_iter().filter(|work| text.contains(work.words())));
        let commits = has_word(text, "COMMIT");
        self.open &= !commits;
        commits
    }
}

fn has_word(text: &str, wanted: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.any(|word| word.eq_ignore_ascii_case(wanted))
}

async fn ask(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    awaited: &Mutex<bool>,
) -> io::Result<Ended> {
    let (mut messages, mut session) = (Messages::of(from), Session::default());
    while let Some(message) = messages.next().await? {
        if session.commits(&message) {
            if shared.takes(Moment::Before, &session.work) {
                return Ok(Ended::Cut);
            }
            if shared.takes(Moment::After, &session.work) {
                *awaited.lock().unwrap_or_else(PoisonError::into_inner) = true;
            }
            session.work.clear();
        }
        to.write_all(&message).await?;
    }
    Ok(Ended::Left)
}

async fn answer(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    awaited: &Mutex<bool>,
) -> io::Result<Ended> {
    let mut messages = Messages::of(from);
    while let Some(message) = messages.next().await? {
        // That a statement has run is said before it is committed, that all is done after.
        let committed = message[0] == b'C' && message[5..].starts_with(b"COMMIT\0");
        let done = message[0] == b'Z' && message[5..] == *b"I";
        if (committed || done) && *awaited.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Ended::Cut);
        }
        to.write_all(&message).await?;
    }
    Ok(Ended::Left)
}
