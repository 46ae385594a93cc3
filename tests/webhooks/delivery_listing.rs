//! The list of a subscription's deliveries, against the messages that arrived.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::{Front, path_of};
use crate::support::{Arrival, Receiver, get, post, time};

/// How long nothing may be open any more.
const LONGEST: Duration = Duration::from_mins(2);

/// What a gateway needs so that it may send to that receiver.
pub fn open_to(receiver: &Receiver) -> String {
    format!(
        "allow = [\"127.0.0.0/8\", \"::1/128\"]\nallow_http = true\nports = [{}]",
        receiver.address.port()
    )
}

/// Where a new subscription to all ends of operations is.
pub async fn subscribed(front: &Front, receiver: &Receiver) -> String {
    let events = ["operation.succeeded", "operation.failed", "operation.canceled"];
    let wanted = json!({ "url": receiver.url("/hooks"), "events": events });
    let made = front.send(post("/-/webhooks").json(&wanted)).await.expect(201);
    path_of(made.expect_field("location")).to_owned()
}

/// Every delivery of a subscription, once all of them are over.
async fn deliveries(front: &Front, subscription: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut page = format!("{subscription}/deliveries?limit=100");
    loop {
        let list = time::until_within(LONGEST, "the end of all deliveries", || {
            let page = page.clone();
            async move {
                let list = front.get(&page).await.expect(200).json();
                let over = |delivery: &Value| delivery["status"] == "delivered";
                list["deliveries"].as_array().unwrap().iter().all(over).then_some(list)
            }
        })
        .await;
        all.extend(list["deliveries"].as_array().unwrap().iter().cloned());
        let Some(next) = list["links"]["next"].as_str() else { return all };
        page = String::from(path_of(next));
    }
}

/// The operation that a message is about.
fn operation_of(arrival: &Arrival) -> String {
    let rest = arrival.id().strip_prefix("msg_").unwrap();
    rest.rsplit_once('_').unwrap().0.to_owned()
}

/// Waits until the ends of all these operations have arrived.
pub async fn until_told(front: &Front, subscription: &str, receiver: &Receiver, ids: &[String]) {
    let untold = || {
        let told: HashSet<_> = receiver.arrivals().iter().map(operation_of).collect();
        ids.iter().filter(|id| !told.contains(*id)).cloned().collect::<Vec<_>>()
    };
    let told = || async { untold().is_empty().then_some(()) };
    if time::looked_for(LONGEST, told).await.is_none() {
        for id in untold() {
            let found = front.admin(get(format!("/-/operations/{id}/status"))).await;
            eprintln!("no delivery about {}", found.text());
        }
        let page = format!("{subscription}/deliveries?state=pending&limit=100");
        panic!("these wait: {}", front.get(&page).await.text());
    }
}

/// What became of the messages of a subscription.
#[derive(Debug)]
pub struct Told {
    /// Messages that were to be delivered.
    events: usize,
    /// Of those, how many did not arrive.
    lost: usize,
    /// Messages that did not arrive with the same octets each time.
    changed: usize,
    /// Messages that arrived and are listed nowhere.
    unlisted: usize,
    /// How often a message arrived that had arrived before.
    doubled: u64,
    /// Attempts whose end was not written down.
    pub cut_off: u64,
}

impl Told {
    /// Waits until all deliveries are over, and counts.
    pub async fn of(front: &Front, subscription: &str, receiver: &Receiver) -> Self {
        let deliveries = deliveries(front, subscription).await;
        let arrivals = receiver.arrivals();
        let mut by_message: HashMap<_, Vec<_>> = HashMap::new();
        for arrival in &arrivals {
            by_message.entry(arrival.id()).or_default().push(&arrival.body);
        }
        let listed: HashSet<_> =
            deliveries.iter().map(|delivery| delivery["message"].as_str().unwrap()).collect();
        let lost = listed.iter().filter(|message| !by_message.contains_key(*message)).count();
        let unlisted = by_message.keys().filter(|message| !listed.contains(*message)).count();
        let changes = |same: &&Vec<&Vec<u8>>| same.iter().any(|body| *body != same[0]);
        let changed = by_message.values().filter(changes).count();
        let cut_off = |delivery: &Value| {
            let recorded = delivery["attempts"].as_array().unwrap().len() as u64;
            delivery["attemptsBegun"].as_u64().unwrap() - recorded
        };
        Self {
            events: deliveries.len(),
            lost,
            changed,
            unlisted,
            doubled: by_message.values().map(|same| same.len() as u64 - 1).sum(),
            cut_off: deliveries.iter().map(cut_off).sum(),
        }
    }

    /// Every event arrived, always as the same message, and again only where an attempt was
    /// cut off.
    #[track_caller]
    pub fn assert_kept(&self) {
        assert_eq!((self.lost, self.changed, self.unlisted), (0, 0, 0), "{self}");
        assert!(self.doubled <= self.cut_off, "{self}");
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "events: {}, lost: {}, changed messages: {}, sent again: {}, attempts cut off: {}",
            self.events, self.lost, self.changed, self.doubled, self.cut_off
        )
    }
}
