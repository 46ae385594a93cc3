//! Hints between nodes, by NOTIFY and LISTEN.
//!
//! Owns their form and the connection that listens. NOTIFY goes through any pooler, in a
//! transaction of its own; LISTEN needs a session, so it goes past the pooler or nowhere.

use std::fmt::Write;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, Executor};

use crate::db::postgres::catalog::Book;
use crate::db::postgres::pool::PATIENCE;
use crate::db::statements::statements;
use crate::model::Hint;
use cloakroom_domain::OperationId;
use cloakroom_domain::webhooks::ReceiverKey;
use cloakroom_runtime::clock::Clock;

statements! {
    const PROBE: &str = r"SELECT 1";
}

/// Where nodes tell each other.
pub(crate) const CHANNEL: &str = "cloakroom";
/// How long after the connection was lost it is made again.
const AGAIN: Duration = Duration::from_secs(1);
/// After so long a silence the connection is asked whether it is still one.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest hint that the server takes is 8000 octets.
const LONGEST: usize = 7_900;

/// A hint as it is sent: who sends it, then what is hinted at, word by word.
pub(crate) fn written(hint: &Hint, book: &Book) -> String {
    let mut text = book.incarnation.to_string();
    let lanes = hint.lanes.iter().filter_map(|lane| book.number(lane).ok());
    let flags = [(hint.permits, " p"), (hint.receivers_changed, " r")];
    let words = flags
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, word)| word.to_owned())
        .chain(lanes.map(|lane| format!(" l{lane}")))
        .chain(hint.receivers.iter().map(|receiver| format!(" d{}", receiver.0)))
        .chain(hint.called_off.iter().map(|id| word('c', *id)))
        .chain(hint.changed.iter().map(|id| word('f', *id)));
    for word in words {
        if text.len() + word.len() > LONGEST {
            break;
        }
        text.push_str(&word);
    }
    text
}

fn word(kind: char, id: OperationId) -> String {
    let mut word = format!(" {kind}");
    for octet in id.as_bytes() {
        // A String takes everything.
        let _ = write!(word, "{octet:02x}");
    }
    word
}

/// A hint as it was sent by another node; what is not understood is passed over.
pub(crate) fn read(text: &str, book: &Book) -> Option<Hint> {
    let mut words = text.split(' ');
    if words.next()?.parse() == Ok(book.incarnation) {
        return None;
    }
    let mut hint = Hint::default();
    for word in words {
        match word.split_at_checked(1)? {
            ("p", "") => hint.permits = true,
            ("r", "") => hint.receivers_changed = true,
            ("l", lane) => hint.lanes.extend(lane.parse().ok().and_then(|it| book.lane(it).ok())),
            ("d", receiver) => hint.receivers.extend(receiver.parse().ok().map(ReceiverKey)),
            ("c", id) => hint.called_off.extend(id_of(id)),
            ("f", id) => hint.changed.extend(id_of(id)),
            _ => {}
        }
    }
    Some(hint)
}

fn id_of(hex: &str) -> Option<OperationId> {
    u128::from_str_radix(hex, 16).ok().map(|id| OperationId::from_bytes(id.to_be_bytes()))
}

/// Listens for hints, and goes on by itself after the connection was lost.
pub(crate) struct Ears {
    options: PgConnectOptions,
    listener: tokio::sync::Mutex<Option<PgListener>>,
    clock: Clock,
}

impl Ears {
    pub(crate) fn new(options: PgConnectOptions) -> Self {
        let options = options.disable_statement_logging();
        Self { options, listener: tokio::sync::Mutex::default(), clock: Clock::system() }
    }

    /// The next hint of another node.
    pub(crate) async fn hear(&self, book: &Book) -> Hint {
        let mut listener = self.listener.lock().await;
        loop {
            match self.next(&mut listener).await {
                Ok(Some(text)) => {
                    if let Some(hint) = read(&text, book) {
                        return hint;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "no hints from other nodes for the moment");
                    *listener = None;
                    self.clock.sleep(AGAIN).await;
                }
            }
        }
    }

    /// What came next; none after a silence in which the connection stood.
    async fn next(&self, listener: &mut Option<PgListener>) -> Result<Option<String>, sqlx::Error> {
        let ears = match listener {
            Some(ears) => ears,
            None => listener.insert(self.bounded(self.listen()).await?),
        };
        match self.clock.timeout(SILENCE, ears.try_recv()).await {
            Ok(Ok(Some(told))) => Ok(Some(told.payload().to_owned())),
            Ok(Ok(None)) => Err(sqlx::Error::PoolClosed),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let asked = ears.execute(PROBE);
                self.bounded(asked).await?;
                Ok(None)
            }
        }
    }

    async fn listen(&self) -> Result<PgListener, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .connect_with(self.options.clone())
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }

    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let late = |_| sqlx::Error::PoolTimedOut;
        self.clock.timeout(PATIENCE, work).await.map_err(late)?
    }
}
