//! The counts in a gateway's `/metrics`.

use std::ops::{AddAssign, Sub};

use hyper::Uri;

use crate::Failure;
use crate::client::{Client, path};

const FINISHED: &str = "cloakroom_operations_finished_total";

/// Counts since a start, or between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Operations that were accepted.
    pub accepted: f64,
    /// Operations that reached a final state.
    pub finished: f64,
    /// Of these, those that succeeded.
    pub succeeded: f64,
    /// Deliveries that their receivers took.
    pub delivered: f64,
    /// Statements that went to the database; 0 where the ledger is a file.
    pub statements: f64,
    /// Commits of the ledger.
    pub commits: f64,
}

impl Counted {
    /// What the admin listeners with these URLs of `/metrics` tell, added up.
    pub async fn read(all: &[Uri]) -> Result<Self, Failure> {
        let mut sum = Self::default();
        for metrics in all {
            let answer = Client::connect(metrics).await?.get(path(metrics)).await?;
            sum += Self::told(std::str::from_utf8(answer.body())?);
        }
        Ok(sum)
    }

    fn told(text: &str) -> Self {
        Self {
            accepted: sum(text, "cloakroom_operations_accepted_total", ""),
            finished: sum(text, FINISHED, ""),
            succeeded: sum(text, FINISHED, "outcome=\"succeeded\""),
            delivered: sum(text, "cloakroom_deliveries_total", "outcome=\"delivered\""),
            statements: sum(text, "cloakroom_ledger_statements_total", ""),
            commits: sum(text, "cloakroom_ledger_commit_seconds_count", ""),
        }
    }
}

impl AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.finished += other.finished;
        self.succeeded += other.succeeded;
        self.delivered += other.delivered;
        self.statements += other.statements;
        self.commits += other.commits;
    }
}

impl Sub for Counted {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            accepted: self.accepted - before.accepted,
            finished: self.finished - before.finished,
            succeeded: self.succeeded - before.succeeded,
            delivered: self.delivered - before.delivered,
            statements: self.statements - before.statements,
            commits: self.commits - before.commits,
        }
    }
}

/// The sum of a metric's samples that carry a label.
fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    let of_name = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
    };
    let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    metrics.lines().filter(of_name).filter_map(value).sum()
}
