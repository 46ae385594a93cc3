//! `cloakroom webhooks replay`: sends the messages of a time range again.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::super::admin::{AdminClient, json as body_of};
use super::super::failure::CommandError;
use super::super::print;
use super::super::time_args::instant;
use super::{cell, name, path};
use cloakroom_runtime::clock::Clock;

pub(super) const EXAMPLES: &str = "\
Examples:
  cloakroom webhooks replay ID --since 2h
  cloakroom webhooks replay ID --since 1d --select held --follow
  cloakroom webhooks replay ID --since 1d --select pending    at once what would be tried again later
  cloakroom webhooks replay ID --since 2026-11-21T08:00:00Z --until 2026-11-21T09:00:00Z --select all

It is an operation: without --follow its id is printed, for `cloakroom ops show` and `ops cancel`.";

/// How long is waited between two looks.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub(super) struct ReplayArgs {
    /// The id of the subscription, or its URL.
    #[arg(value_name = "ID")]
    id: String,
    /// The start of the range: how long ago (2h, 7d), or an instant.
    #[arg(long, value_name = "WHEN")]
    since: String,
    /// The end of the range [default: now].
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Which deliveries: failed, pending (sent at once instead of at their next attempt), held,
    /// delivered or all.
    #[arg(long, default_value = "failed")]
    select: String,
    /// Wait for its end, show its progress, and print how many deliveries were sent.
    #[arg(long)]
    follow: bool,
}

impl ReplayArgs {
    /// Has it done; prints its id, or follows it.
    pub(super) async fn run(
        self,
        admin: &AdminClient,
        clock: &Clock,
        as_json: bool,
    ) -> Result<(), CommandError> {
        let at = |flag: &str, given: &str| {
            instant(given, clock.now())
                .map_err(|says| CommandError::Usage(format!("--{flag} {says}")))
        };
        let mut range = json!({ "since": at("since", &self.since)?, "select": self.select });
        if let Some(until) = &self.until {
            range["until"] = at("until", until)?.into();
        }
        let answer = admin.ask("POST", &path(name(&self.id)?, "/replay"), &range).await?;
        let mut document = body_of(answer.body())?;
        let id = cell(&document["id"]);
        if self.follow {
            document = followed(admin, clock, &id).await?;
            if document["status"] == "succeeded" {
                let result = admin.read(&id, "result").await?;
                document["replayed"] = result["replayed"].clone();
            }
        }
        if as_json {
            print::say_json(&document)?;
        } else if self.follow {
            print::say(&print::plain(&said(&document)))?;
        } else {
            print::say(&print::plain(&id))?;
        }
        match document["status"].as_str() {
            Some("failed" | "canceled") => Err(CommandError::Told),
            _ => Ok(()),
        }
    }
}

/// Looks until it has ended, and tells on the side how far it is.
async fn followed(admin: &AdminClient, clock: &Clock, id: &str) -> Result<Value, CommandError> {
    let mut last = String::new();
    loop {
        let document = admin.read(id, "status").await?;
        if matches!(document["status"].as_str(), Some("succeeded" | "failed" | "canceled")) {
            return Ok(document);
        }
        let now = said(&document);
        if now != last {
            print::complain(&print::plain(&now))?;
            last = now;
        }
        clock.sleep(PAUSE).await;
    }
}

/// Where it stands, on one line.
fn said(document: &Value) -> String {
    let percent = document["percentComplete"].as_u64().map(|percent| format!(" {percent}%"));
    let status = cell(&document["status"]);
    if let Some(count) = document["replayed"].as_u64() {
        return format!("{status}: {count} sent once more");
    }
    let told = match &document["error"]["message"] {
        Value::Null => cell(&document["message"]),
        why => cell(why),
    };
    let told = if told.is_empty() { told } else { format!(": {told}") };
    format!("{status}{}{told}", percent.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_stands_is_said_on_one_line() {
        let running =
            json!({ "status": "running", "percentComplete": 40, "message": "400 of 1000" });
        assert_eq!(said(&running), "running 40%: 400 of 1000");
        assert_eq!(said(&json!({ "status": "queued" })), "queued");
        let failed = json!({ "status": "failed", "error": { "message": "too late" } });
        assert_eq!(said(&failed), "failed: too late");
        let message = "200 deliveries go out once more";
        let done = json!({ "status": "succeeded", "message": message, "replayed": 204 });
        assert_eq!(said(&done), "succeeded: 204 sent once more");
    }
}
