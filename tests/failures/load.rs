//! The load: clients that post all the time, and one that reads monitors.
//!
//! Owns the pace, which is bounded, and the manners of clients: who has a key repeats what
//! was not answered by a 202 until it is; who has none goes on to the next order.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::task::JoinHandle;

use super::nodes::Doors;
use super::observations::{Books, Order, Seen};
use crate::support::time::Stopwatch;
use crate::support::{Request, Ticket, Upstream, get, post, time};

const CLIENTS: usize = 5;
/// Between two orders of a client.
const PACE: Duration = Duration::from_millis(45);
/// Between two looks, and before an unanswered request is repeated.
const BREATH: Duration = Duration::from_millis(5);
/// How long a client repeats an order.
const LONGEST: Duration = Duration::from_mins(1);

impl Order {
    /// The turns of a client's orders: each promise with and without a key, and with and
    /// without waiting for one another.
    fn of_turn(client: usize, turn: usize) -> Self {
        let clear = |bit: usize| (turn >> bit) & 1 == 0;
        let (once, keyed, serial) = (clear(0), clear(1), clear(2));
        let name = format!("{client}-{turn}");
        Self { name, once, keyed, serial: serial.then(|| format!("client-{client}")) }
    }

    fn request(&self) -> Request {
        let path = if self.once { "/once" } else { "/again" };
        let body = json!({ "name": self.name, "serial": self.serial.is_some() });
        let mut request = post(path).json(&body).field("Client-Reference", &self.name);
        if self.keyed {
            request = request.field("Idempotency-Key", &self.name);
        }
        match &self.serial {
            Some(serial) => request.field("Operation-Serial-Key", serial),
            None => request,
        }
    }
}

/// Clients and the one that looks, until [`Load::end`].
pub struct Load {
    pub books: Books,
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What each of them knows.
#[derive(Clone)]
struct Knocker {
    doors: Doors,
    books: Books,
    over: Arc<AtomicBool>,
    turns: Arc<AtomicUsize>,
}

impl Load {
    pub fn start(doors: &Doors, upstream: &Upstream) -> Self {
        let knocker = Knocker {
            doors: doors.clone(),
            books: Books::default(),
            over: Arc::default(),
            turns: Arc::default(),
        };
        let mut tasks: Vec<_> =
            (0..CLIENTS).map(|number| time::spawn(knocker.clone().client(number))).collect();
        tasks.push(time::spawn(knocker.clone().looks(upstream.answered())));
        Self { books: knocker.books, over: knocker.over, tasks }
    }

    /// Waits until that many more orders have been accepted.
    pub async fn until_more(&self, orders: usize) {
        let goal = self.books.count() + orders;
        let reached = || async { (self.books.count() >= goal).then_some(()) };
        time::until_within(LONGEST, "more accepted orders", reached).await;
    }

    /// Lets everybody finish what was begun, once a client has met a finished operation: while
    /// the permits of the dead are withheld there may be none of it for a lease.
    pub async fn end(self) -> Seen {
        let met = || async { self.books.with(|seen| (seen.finished > 0).then_some(())) };
        time::until_within(LONGEST, "a finished operation", met).await;
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let ended = time::until_done(LONGEST, "a client's end", task).await;
            ended.expect("a client that came to its end");
        }
        self.books.with(std::mem::take)
    }
}

impl Knocker {
    fn door(&self) -> Option<SocketAddr> {
        self.doors.of_turn(self.turns.fetch_add(1, Ordering::Relaxed))
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn client(self, number: usize) {
        let mut turn = 0;
        while !self.is_over() {
            let order = Order::of_turn(number, turn);
            let (begun, mut tries) = (Stopwatch::start(), 0);
            while let Err(why) = self.send(&order).await {
                tries += 1;
                assert!(begun.elapsed() < LONGEST, "{tries} times for {order:?}: {why}");
                time::pause(BREATH).await;
            }
            turn += 1;
            time::pause(PACE).await;
        }
    }

    /// Sends an order once; why it has to be sent again, if it has.
    async fn send(&self, order: &Order) -> Result<(), String> {
        let Some(door) = self.door() else { return Err("all doors are closed".into()) };
        let begun = Stopwatch::start();
        let why = match order.request().try_send(door).await {
            Ok(answer) if answer.status == 202 => {
                self.books.with(|seen| seen.accept(order, &answer, begun.elapsed()));
                return Ok(());
            }
            Ok(answer) => {
                self.books.with(|seen| seen.refuse(order, &answer));
                answer.text()
            }
            // No gateway was there: nothing was sent.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                return Err(error.to_string());
            }
            Err(error) => {
                self.books.with(|seen| seen.cut(order));
                error.to_string()
            }
        };
        if order.keyed { Err(why) } else { Ok(()) }
    }

    /// Looks at one operation after the other, mostly at new ones.
    async fn looks(self, answered: impl Fn(&str) -> bool + Send) {
        let mut rng = StdRng::seed_from_u64(rand::random());
        while !self.is_over() {
            time::pause(BREATH).await;
            let count = self.books.count();
            let newest = if rng.random_ratio(3, 4) { count.min(60) } else { count };
            if let Some(door) = self.door()
                && newest > 0
            {
                let number = count - 1 - rng.random_range(0..newest);
                let ticket = self.books.with(|seen| seen.accepted[number].1.clone());
                self.look(door, &ticket, &answered).await;
            }
        }
    }

    /// Looks at a monitor, and then at the document.
    async fn look(&self, door: SocketAddr, ticket: &Ticket, answered: impl Fn(&str) -> bool) {
        let Ok(monitor) = get(&*ticket.monitor).try_send(door).await else { return };
        let early = monitor.status == 303 && !answered(&ticket.id);
        if !matches!(monitor.status, 202 | 303) {
            self.books.with(|seen| seen.tell_when(&monitor));
        }
        let Ok(answer) = get(ticket.at("status")).try_send(door).await else { return };
        self.books.with(|seen| {
            if answer.status != 200 {
                return seen.tell_when(&answer);
            }
            let document = answer.json();
            seen.finished += usize::from(monitor.status == 303);
            if early && document["error"]["code"] != "outcome-unknown" {
                seen.wrong.push(format!("a 303 before the upstream's answer: {document}"));
            }
            seen.look(&ticket.id, document);
        });
    }
}
