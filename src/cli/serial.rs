//! `cloakroom serial`: lists and releases serial keys of a running gateway.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::{AdminClient, GatewayArgs, strange};
use super::failure::CommandError;
use super::print;
use cloakroom_runtime::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  cloakroom serial list --blocked
  cloakroom serial release customer-7
  cloakroom serial release 5f0c1d2e3a4b5c6d7e8f901a2b3c4d5e

A key is blocked where its route says serial_on_failure = \"block\" and an operation failed. It is
released by hand, or by `cloakroom ops retry` of the operation that blocks it, whose repeat
goes first.";

const LIST_EXAMPLES: &str = "\
Examples:
  cloakroom serial list
  cloakroom serial list --blocked --json | jq -r '.keys[].blockedBy'";

const RELEASE_EXAMPLES: &str = "\
Examples:
  cloakroom serial release customer-7 customer-8
  cloakroom serial release 5f0c1d2e3a4b5c6d7e8f901a2b3c4d5e

Take the name where several keys have the same text.";

/// The longest page that is asked for.
const PAGE: usize = 500;

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct SerialArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    gateway: GatewayArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the keys that operations hold.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only keys that wait for an operator.
        #[arg(long)]
        blocked: bool,
    },
    /// Release keys that a failure blocks, so that their next operations run.
    #[command(after_help = RELEASE_EXAMPLES)]
    Release {
        /// The key as the client gave it, or its name as `serial list` shows it.
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
}

impl SerialArgs {
    /// Asks the gateway, and prints what it says.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        let admin = self.gateway.admin(clock)?;
        match self.command {
            Command::List { blocked } => list(&admin, blocked, self.gateway.json).await,
            Command::Release { keys } => release(&admin, &keys, self.gateway.json).await,
        }
    }
}

async fn list(admin: &AdminClient, blocked: bool, as_json: bool) -> Result<(), CommandError> {
    let keys = found(admin, blocked).await?;
    if as_json {
        return print::say_json(&json!({ "keys": keys }));
    }
    if keys.is_empty() {
        return print::complain(match blocked {
            true => "no serial key is blocked",
            false => "no serial key is held",
        });
    }
    let header = ["KEY", "UPSTREAM", "HOLDER", "WAITING", "BLOCKED SINCE", "BY", "NAME"];
    print::say(&print::table(header, keys.iter().map(row).collect()))
}

/// Every key, page after page.
async fn found(admin: &AdminClient, blocked: bool) -> Result<Vec<Value>, CommandError> {
    let mut found = Vec::new();
    let mut page = admin.look(&format!("serial?limit={PAGE}&blocked={blocked}")).await?;
    loop {
        let Some(Value::Array(keys)) = page.get_mut("keys").map(Value::take) else {
            return Err(strange("the answer lists no keys"));
        };
        found.extend(keys);
        match page["links"]["next"].as_str().map(str::to_owned) {
            Some(next) => page = admin.page(&next).await?,
            None => return Ok(found),
        }
    }
}

fn row(key: &Value) -> [String; 7] {
    let text = |name: &str| match &key[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    ["key", "upstream", "holder", "waiting", "blockedSince", "blockedBy", "name"].map(text)
}

async fn release(admin: &AdminClient, keys: &[String], as_json: bool) -> Result<(), CommandError> {
    let blocked = found(admin, true).await?;
    let names: Vec<_> = keys.iter().map(|key| named(&blocked, key)).collect::<Result<_, _>>()?;
    let mut released = Vec::new();
    for (key, name) in keys.iter().zip(names) {
        let answer = admin.have_done(&format!("serial/{name}/release")).await?;
        if !as_json {
            print::say(&match answer["next"].as_str() {
                Some(next) => format!("{}: {} goes next", print::plain(key), print::plain(next)),
                None => format!("{}: released; no operation waits for it", print::plain(key)),
            })?;
        }
        released.push(answer);
    }
    if as_json { print::say_json(&json!({ "released": released })) } else { Ok(()) }
}

/// The name of the one blocked key that is meant.
fn named<'k>(blocked: &'k [Value], key: &str) -> Result<&'k str, CommandError> {
    let meant = |row: &&Value| row["name"] == key || row["key"] == key;
    let names: Vec<_> =
        blocked.iter().filter(meant).filter_map(|row| row["name"].as_str()).collect();
    match names[..] {
        [name] => Ok(name),
        [] => Err(CommandError::Failed(format!(
            "no failure blocks the serial key {key}; `cloakroom serial list --blocked` shows what is"
        ))),
        _ => Err(CommandError::Usage(format!(
            "several blocked keys are called {key}: say which by its name, one of {}",
            names.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_meant_by_its_text_or_its_name_and_two_alike_by_their_names_only() {
        let row = |name: &str, key: &str| json!({ "name": name, "key": key });
        let blocked = [row("0a", "x"), row("0b", "y"), row("0c", "y")];
        assert_eq!(named(&blocked, "x").unwrap(), "0a");
        assert_eq!(named(&blocked, "0c").unwrap(), "0c");
        assert!(named(&blocked, "y").unwrap_err().to_string().contains("0b, 0c"));
        assert!(named(&blocked, "z").is_err());
    }
}
