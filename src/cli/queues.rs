//! `cloakroom queues`: shows queues and upstreams of a running gateway, and pauses and
//! resumes queues.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::admin::{AdminClient, GatewayArgs, strange};
use super::failure::CommandError;
use super::print;
use cloakroom_runtime::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  cloakroom queues
  cloakroom queues --json | jq '.queues[] | select(.late).name'
  cloakroom queues pause reports      begin nothing of it, on any node; nothing is lost
  cloakroom queues resume reports     go on where it was

STATE is late where the oldest has waited longer than the queue's target_wait, and down
where an upstream does not answer: its operations then wait without using up attempts.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct QueuesArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    gateway: GatewayArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pause queues on all nodes: running attempts go on, new operations are accepted and wait.
    #[command(after_help = "Examples:\n  cloakroom queues pause reports exports")]
    Pause(QueueNames),
    /// Resume paused queues.
    #[command(after_help = "Examples:\n  cloakroom queues resume reports")]
    Resume(QueueNames),
}

/// The queues that are meant.
#[derive(Args, Debug)]
struct QueueNames {
    /// The names of the queues.
    #[arg(value_name = "QUEUE", required = true)]
    names: Vec<String>,
}

impl QueuesArgs {
    /// Asks the gateway, and prints what it says.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        let admin = self.gateway.admin(clock)?;
        match &self.command {
            None => self.show(&admin).await,
            Some(Command::Pause(which)) => self.hold(&admin, which, "pause").await,
            Some(Command::Resume(which)) => self.hold(&admin, which, "resume").await,
        }
    }

    async fn hold(
        &self,
        admin: &AdminClient,
        which: &QueueNames,
        verb: &str,
    ) -> Result<(), CommandError> {
        for name in &which.names {
            let standing = admin.hold_queue(name, verb).await?;
            if self.gateway.json {
                print::say_json(&standing)?;
            } else {
                let depth = text(&standing["depth"]);
                print::say(&format!("{name}: {verb}d, {depth} waiting"))?;
            }
        }
        Ok(())
    }

    async fn show(&self, admin: &AdminClient) -> Result<(), CommandError> {
        let standing = admin.queues().await?;
        if self.gateway.json {
            return print::say_json(&standing);
        }
        let header = [
            "QUEUE", "PRIORITY", "DEPTH", "OLDEST", "TARGET", "RUNNING", "LIMIT", "RATE",
            "STARTED", "STATE",
        ];
        print::say(&print::table(header, rows(&standing["queues"], queue)?))?;
        print::say("")?;
        let header = ["UPSTREAM", "DEPTH", "OLDEST", "RUNNING", "LIMIT", "RATE", "STATE"];
        print::say(&print::table(header, rows(&standing["upstreams"], upstream)?))
    }
}

fn rows<const N: usize>(
    list: &Value,
    row: impl Fn(&Value) -> [String; N],
) -> Result<Vec<[String; N]>, CommandError> {
    let list = list.as_array().ok_or_else(|| strange("the answer lists no queues"))?;
    Ok(list.iter().map(row).collect())
}

fn queue(document: &Value) -> [String; 10] {
    let state = match (&document["paused"], &document["late"]) {
        (Value::Bool(true), _) => "paused",
        (_, Value::Bool(true)) => "late",
        _ => "ok",
    };
    [
        text(&document["name"]),
        text(&document["priority"]),
        text(&document["depth"]),
        span(&document["oldestAgeSeconds"]),
        span(&document["targetWaitSeconds"]),
        text(&document["running"]),
        text(&document["maxInFlight"]),
        text(&document["rate"]),
        per_second(&document["startedPerSecond"]),
        state.to_owned(),
    ]
}

fn upstream(document: &Value) -> [String; 7] {
    let breaker = &document["breaker"];
    let state = match (breaker["state"].as_str(), breaker["nextProbeAt"].as_str()) {
        (Some("open"), Some(next)) => format!("down, tried again at {next}"),
        (Some("half-open"), _) => "down, being tried".to_owned(),
        _ => "ok".to_owned(),
    };
    [
        text(&document["name"]),
        text(&document["depth"]),
        span(&document["oldestAgeSeconds"]),
        text(&document["running"]),
        text(&document["maxInFlight"]),
        text(&document["rate"]),
        state,
    ]
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// How much begins in a second.
fn per_second(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.1}/s"),
        Some(rate) => format!("{rate:.0}/s"),
    }
}

/// A number of seconds as one says it.
fn span(value: &Value) -> String {
    let Some(span) = value.as_f64().and_then(|it| Duration::try_from_secs_f64(it).ok()) else {
        return "-".to_owned();
    };
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", span.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_told_as_precisely_as_they_matter() {
        for (seconds, said) in
            [(0.04, "0.0s"), (1.26, "1.3s"), (59.9, "59s"), (61.0, "1m01s"), (90_000.0, "25h00m")]
        {
            assert_eq!(span(&json!(seconds)), said);
        }
        assert_eq!(span(&Value::Null), "-");
    }

    #[test]
    fn what_holds_a_queue_up_is_its_state() {
        for (paused, late, state) in
            [(true, true, "paused"), (false, true, "late"), (false, false, "ok")]
        {
            assert_eq!(queue(&json!({ "paused": paused, "late": late }))[9], state);
        }
        let open = json!({ "breaker": { "state": "open", "nextProbeAt": "2026" } });
        assert_eq!(upstream(&open)[6], "down, tried again at 2026");
    }
}
