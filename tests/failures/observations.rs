//! The clients' observations: their tickets, and the documents that they read.
//!
//! Owns what may never be seen: a document that goes back, a final one that changes, a 303
//! before the upstream has answered, a key with two operations, a refusal that does not
//! say when to come back.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::support::gateway::is_final;
use crate::support::{Response, Ticket};

/// A request as clients send it: its name is in its body and its client's reference, and
/// is its key where it has one.
#[derive(Clone, Debug)]
pub struct Order {
    pub name: String,
    pub once: bool,
    pub keyed: bool,
    pub serial: Option<String>,
}

/// All of it. Clones share it.
#[derive(Clone, Default)]
pub struct Books(Arc<Mutex<Seen>>);

#[derive(Default)]
pub struct Seen {
    /// Every order of which a 202 was read, and its operation.
    pub accepted: Vec<(Order, Ticket)>,
    /// Which of them it is, by the name.
    told: HashMap<String, Ticket>,
    /// Answers 503 that said when to come back.
    pub refused: usize,
    /// Requests whose answer was never read.
    pub cut: usize,
    /// Requests without a key that were not answered by a 202: they may have been stored.
    pub unknown: usize,
    /// Names of keyed orders that were not answered at first, and of those the ones that
    /// the repeat found stored.
    unanswered: HashSet<String>,
    pub stored: HashSet<String>,
    /// How long the slowest 202 took.
    pub slowest: Duration,
    /// How often a client looked, and how often a 303 was met.
    pub looks: usize,
    pub finished: usize,
    /// The latest document of each operation, by its id.
    pub documents: HashMap<String, Value>,
    /// Whatever may not be, in words.
    pub wrong: Vec<String>,
}

impl Books {
    pub fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many orders have been accepted.
    pub fn count(&self) -> usize {
        self.with(|seen| seen.accepted.len())
    }
}

impl Seen {
    /// An order was accepted, after so long.
    pub fn accept(&mut self, order: &Order, answer: &Response, took: Duration) {
        self.slowest = self.slowest.max(took);
        let ticket = Ticket::of(answer);
        if self.unanswered.contains(&order.name)
            && answer.field("idempotency-replayed") == Some("true")
        {
            self.stored.insert(order.name.clone());
        }
        match self.told.get(&order.name) {
            None => {
                self.told.insert(order.name.clone(), ticket.clone());
                self.accepted.push((order.clone(), ticket));
            }
            Some(first) if *first == ticket => {}
            Some(first) => self.wrong.push(format!("{order:?}: first {first:?}, then {ticket:?}")),
        }
    }

    /// A request was refused for now.
    pub fn refuse(&mut self, order: &Order, answer: &Response) {
        self.refused += 1;
        self.tell_when(answer);
        self.unanswer(order);
    }

    /// The answer to a request never came.
    pub fn cut(&mut self, order: &Order) {
        self.cut += 1;
        self.unanswer(order);
    }

    fn unanswer(&mut self, order: &Order) {
        if order.keyed {
            self.unanswered.insert(order.name.clone());
        } else {
            self.unknown += 1;
        }
    }

    /// A client looked at an operation and was refused, or not told.
    pub fn tell_when(&mut self, answer: &Response) {
        let seconds = answer.field("retry-after").and_then(|value| value.parse().ok());
        if answer.status != 503 || !seconds.is_some_and(|seconds: u64| (1..=60).contains(&seconds))
        {
            self.wrong.push(format!("neither an answer nor a refusal: {answer:?}"));
        }
    }

    /// A client looked at a document.
    pub fn look(&mut self, id: &str, document: Value) {
        self.looks += 1;
        if let Some(before) = self.documents.get(id)
            && let Some(how) = went_back(before, &document)
        {
            self.wrong.push(format!("{how}: {before} became {document}"));
        }
        self.documents.insert(id.to_owned(), document);
    }
}

/// How a document went back to an earlier one, if it did. An operation may be queued again
/// after it ran, but then it tells of one more attempt, resume or rescue.
fn went_back(before: &Value, after: &Value) -> Option<&'static str> {
    if is_final(before) {
        return (before != after).then_some("what had ended changed");
    }
    let counts = ["attempts", "resumes", "rescues"];
    if counts.iter().any(|count| after[count].as_u64() < before[count].as_u64()) {
        return Some("what had been counted was forgotten");
    }
    let same = counts.iter().all(|count| after[count] == before[count]);
    let place = |document: &Value| match document["status"].as_str() {
        Some("waiting") => 0,
        Some("queued") => 1,
        Some("running") => 2,
        _ => 3,
    };
    // Handed back, it is queued with the attempt counted as it was.
    (same && place(after) < place(before)).then_some("the state went back")
}
