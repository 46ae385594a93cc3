//! The verification of a run: every promise is counted.
//!
//! Owns the promises: nothing lost for which a 202 was read; what goes at most once went
//! at most once; one end for each operation; serial keys in the order accepted; one
//! operation for each key; and a ledger that adds up. It must not know what failed.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::AT_ONCE;
use super::observations::{Order, Seen};
use crate::support::gateway::{Front, is_final, next_page, operations_of};
use crate::support::upstream::Stay;
use crate::support::{Connection, Ticket, Upstream, get, post, time};

/// How long what was accepted may take to end, with rescues that wait.
const LONGEST: Duration = Duration::from_mins(2);
/// How long a look through the ledger may take: it watches counts over many beats.
const RECONCILING: Duration = Duration::from_mins(1);
/// Readers of timelines.
const READERS: usize = 3;

/// What was counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Orders of which a 202 was read, and how they ended.
    pub accepted: usize,
    pub succeeded: usize,
    pub outcome_unknown: usize,
    /// Operations whose 202 no client has read, and the requests that may have made them.
    pub unread: usize,
    unanswered: usize,
    /// Requests that were refused, and those whose answer never came.
    pub refused: usize,
    pub cut: usize,
    /// Of the keyed orders that were not answered at first, the ones found stored.
    pub stored: usize,
    /// Operations that were taken over from a dead owner, and handed back.
    pub rescued: usize,
    pub resumed: usize,
    /// Operations that arrived more than once, and of those the ones that may not.
    pub repeated: usize,
    doubled: usize,
    lost: usize,
    ended_otherwise_than_once: usize,
    out_of_order: usize,
    /// Orders that came while another one of their serial key was at the upstream.
    beside_another: usize,
    several_of_a_name: usize,
    findings: Vec<String>,
    /// Lanes whose depth a node had not told in time, which reconciling has put right.
    pub recounted: usize,
    wrong: usize,
    looks: usize,
    slowest: Duration,
    /// The most that were at the upstream at once.
    pub at_once: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "accepted {} = succeeded {} + outcome unknown {} + lost {}, the slowest in {} ms; refused {}, cut off {}, \
             keys found stored {}, unread {} of {}; rescued {}, handed back {}, sent again {}; \
             at-most-once sent twice {}, ended twice {}, out of order {}, beside another of its key {}, keys with several {}, \
             went back {} in {} looks; at most {} of {AT_ONCE} at once; reconcile: {}, recounted {}",
            self.accepted,
            self.succeeded,
            self.outcome_unknown,
            self.lost,
            self.slowest.as_millis(),
            self.refused,
            self.cut,
            self.stored,
            self.unread,
            self.unanswered,
            self.rescued,
            self.resumed,
            self.repeated,
            self.doubled,
            self.ended_otherwise_than_once,
            self.out_of_order,
            self.beside_another,
            self.several_of_a_name,
            self.wrong,
            self.looks,
            self.at_once,
            if self.findings.is_empty() { "adds up" } else { "does not add up" },
            self.recounted,
        )
    }
}

impl Counts {
    /// Fails unless every promise was kept.
    pub fn assert_kept(&self, seen: &Seen) {
        assert!(seen.wrong.is_empty(), "{:#?}", seen.wrong);
        assert!(self.findings.is_empty(), "{:#?}", self.findings);
        let broken = [
            self.lost,
            self.doubled,
            self.ended_otherwise_than_once,
            self.out_of_order,
            self.beside_another,
            self.several_of_a_name,
        ];
        assert_eq!(broken, [0; 6], "{self}");
        assert_eq!(self.accepted, self.succeeded + self.outcome_unknown, "{self}");
        assert!(self.at_once <= AT_ONCE, "{self}");
        assert!(self.unread <= self.unanswered, "operations from nowhere: {self}");
        assert!(seen.finished > 0 && self.accepted > 20, "hardly any load: {self}");
    }
}

/// Waits until nothing is pending any more, and counts.
pub async fn judge(front: &Front, upstream: &Upstream, seen: &Seen) -> Counts {
    let all = all_ended(front).await;
    let mut counts = Counts {
        accepted: seen.accepted.len(),
        unread: all.len().saturating_sub(seen.accepted.len()),
        unanswered: seen.unknown,
        refused: seen.refused,
        cut: seen.cut,
        stored: seen.stored.len(),
        wrong: seen.wrong.len(),
        looks: seen.looks,
        slowest: seen.slowest,
        at_once: upstream.most_at_once(),
        ..Counts::default()
    };
    for (order, ticket) in &seen.accepted {
        match all.get(&ticket.id).map(|document| end_of(order, document)) {
            Some(End::Succeeded) => counts.succeeded += 1,
            Some(End::Unknown) => counts.outcome_unknown += 1,
            None | Some(End::Broken) => {
                eprintln!("lost: {order:?} {ticket:?}: {:?}", all.get(&ticket.id));
                counts.lost += 1;
            }
        }
    }
    changed_since(&all, seen, &mut counts);
    totals(&all, &mut counts);
    sends(upstream, &all, &mut counts);
    counts.out_of_order = out_of_order(upstream);
    counts.beside_another = beside_another(upstream);
    counts.ended_otherwise_than_once = not_ended_once(front, &seen.accepted).await;
    (counts.findings, counts.recounted) = findings(front, &all).await;
    counts
}

enum End {
    Succeeded,
    Unknown,
    Broken,
}

/// Whether an order came to an end that its promise allows.
fn end_of(order: &Order, document: &Value) -> End {
    match (document["status"].as_str(), document["error"]["code"].as_str()) {
        (Some("succeeded"), _) => End::Succeeded,
        (Some("failed"), Some("outcome-unknown")) if order.once => End::Unknown,
        _ => End::Broken,
    }
}

/// Every document of the ledger, by its id.
async fn all(front: &Front) -> HashMap<String, Value> {
    let mut all = HashMap::new();
    let mut page = Some("/-/operations?limit=200".to_owned());
    while let Some(target) = page {
        let list = front.get(&target).await.expect(200).json();
        for document in operations_of(&list) {
            all.insert(document["id"].as_str().expect("an id").to_owned(), document);
        }
        page = next_page(&list);
    }
    all
}

async fn all_ended(front: &Front) -> HashMap<String, Value> {
    time::until_within(LONGEST, "the end of all", || async {
        for status in ["queued", "running", "waiting"] {
            let pending = front.get(&format!("/-/operations?limit=1&status={status}")).await;
            if !operations_of(&pending.expect(200).json()).is_empty() {
                return None;
            }
        }
        let all = all(front).await;
        all.values().all(is_final).then_some(all)
    })
    .await
}

/// An operation that a client saw ended ends as it did then.
fn changed_since(all: &HashMap<String, Value>, seen: &Seen, counts: &mut Counts) {
    for (id, document) in seen.documents.iter().filter(|(_, document)| is_final(document)) {
        let now = all.get(id).map(|now| (&now["status"], &now["finishedAt"], &now["error"]));
        let then = (&document["status"], &document["finishedAt"], &document["error"]);
        if now != Some(then) {
            eprintln!("changed after its end: {document} is now {:?}", all.get(id));
            counts.wrong += 1;
        }
    }
}

fn totals(all: &HashMap<String, Value>, counts: &mut Counts) {
    let mut names = HashMap::<_, usize>::new();
    for document in all.values() {
        *names.entry(&document["clientReference"]).or_default() += 1;
        counts.rescued += usize::from(document["rescues"].as_u64() > Some(0));
        counts.resumed += usize::from(document["resumes"].as_u64() > Some(0));
    }
    // No client sends an order without a key twice.
    counts.several_of_a_name = names.values().filter(|&&count| count > 1).count();
}

/// Counts what arrived more often than it may, or never, though it succeeded.
fn sends(upstream: &Upstream, all: &HashMap<String, Value>, counts: &mut Counts) {
    let mut arrivals = HashMap::<(bool, String), usize>::new();
    for received in upstream.received() {
        let id = received.expect_field("operation-id").to_owned();
        *arrivals.entry((received.path() == "/once", id)).or_default() += 1;
    }
    counts.repeated = arrivals.values().filter(|&&count| count > 1).count();
    // Also of those whose 202 no client has read.
    counts.doubled = arrivals.iter().filter(|((once, _), count)| *once && **count > 1).count();
    for (id, document) in all {
        let came = [true, false].iter().any(|once| arrivals.contains_key(&(*once, id.clone())));
        if document["status"] == "succeeded" && !came {
            eprintln!("succeeded and never arrived: {document}");
            counts.lost += 1;
        }
    }
    counts.lost += arrivals.keys().filter(|(_, id)| !all.contains_key(id)).count();
}

/// Arrivals with a serial key behind one that was accepted later.
fn out_of_order(upstream: &Upstream) -> usize {
    let mut latest = HashMap::<String, u64>::new();
    let mut late = 0;
    for received in upstream.received() {
        let body: Value = serde_json::from_slice(&received.body).expect("an order");
        let (client, turn) = body["name"].as_str().and_then(|name| name.split_once('-')).unwrap();
        if body["serial"] != true {
            continue;
        }
        let turn: u64 = turn.parse().unwrap();
        let latest = latest.entry(client.to_owned()).or_default();
        late += usize::from(turn < *latest);
        *latest = turn.max(*latest);
    }
    late
}

/// Orders that came while another one of their serial key had not been answered.
fn beside_another(upstream: &Upstream) -> usize {
    let mut stays = HashMap::<String, Vec<(usize, usize, String)>>::new();
    for Stay { request, came, went } in upstream.stays() {
        let body: Value = serde_json::from_slice(&request.body).expect("an order");
        if body["serial"] == true {
            let (client, _) = body["name"].as_str().and_then(|it| it.split_once('-')).unwrap();
            let id = request.expect_field("operation-id").to_owned();
            let went = went.unwrap_or(usize::MAX);
            stays.entry(client.to_owned()).or_default().push((came, went, id));
        }
    }
    let beside = |stays: &[(usize, usize, String)], (came, _, id): &(usize, usize, String)| {
        stays.iter().any(|(from, to, other)| other != id && from < came && came < to)
    };
    stays.values().map(|of| of.iter().filter(|stay| beside(of, stay)).count()).sum()
}

/// Operations whose timeline does not tell of exactly one end, behind all else.
async fn not_ended_once(front: &Front, accepted: &[(Order, Ticket)]) -> usize {
    let size = accepted.len().div_ceil(READERS).max(1);
    let readers = accepted.chunks(size).map(|part| {
        let (front, part) = (front.public, part.to_vec());
        time::spawn(async move {
            let mut connection = Connection::open(front).await;
            let mut amiss = 0;
            for (_, ticket) in part {
                let answer = connection.send(&get(ticket.at("events"))).await;
                if answer.status != 200 || ends_in(&answer.json()) != 1 {
                    eprintln!("not one end: {answer:?}");
                    amiss += 1;
                }
            }
            amiss
        })
    });
    let mut amiss = 0;
    for reader in readers.collect::<Vec<_>>() {
        amiss += reader.await.expect("a reader that came to its end");
    }
    amiss
}

/// How many ends a timeline tells of.
fn ends_in(timeline: &Value) -> usize {
    let ends = ["operation.succeeded", "operation.failed", "operation.canceled"];
    let is_end = |event: &&Value| event["type"].as_str().is_some_and(|name| ends.contains(&name));
    timeline["events"].as_array().map_or(0, |events| events.iter().filter(is_end).count())
}

/// What reconciling finds, but for the unknown outcomes that the documents tell of, and how
/// many lanes it counted again.
async fn findings(front: &Front, all: &HashMap<String, Value>) -> (Vec<String>, usize) {
    let mut operator = Connection::open(front.admin).await.patient(RECONCILING);
    let asked = post("/-/reconcile").json(&Value::Null);
    let report = operator.send(&asked).await.expect(200).json();
    let unknown = |document: &&Value| document["error"]["code"] == "outcome-unknown";
    let unknown = all.values().filter(unknown).count();
    let found = report["findings"].as_array().expect("findings");
    let of = |kind: &str| -> u64 {
        let of_kind = found.iter().filter(|it| it["kind"] == kind);
        of_kind.filter_map(|it| it["count"].as_u64()).sum()
    };
    let (told, recounted) = (of("outcome-unknown"), of("miscounted-depth"));
    let explained =
        |it: &&Value| it["kind"] == "outcome-unknown" || is_repaired(it, "miscounted-depth");
    let mut amiss: Vec<_> =
        found.iter().filter(|it| !explained(it)).map(ToString::to_string).collect();
    if told != unknown as u64 {
        amiss.push(format!("{told} unknown outcomes, and {unknown} documents say so"));
    }
    if report["operations"] != all.len() {
        amiss.push(format!("{} operations, and {} listed", report["operations"], all.len()));
    }
    (amiss, usize::try_from(recounted).unwrap())
}

fn is_repaired(finding: &Value, kind: &str) -> bool {
    finding["kind"] == kind && finding["repaired"] == true
}
