//! `cloakroom webhooks create` and `update`: the settings of a subscription.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::super::admin::{AdminClient, json as body_of};
use super::super::failure::CommandError;
use super::super::print;
use super::super::secret_input;
use super::keys::{REVEALED, reveal};
use super::show::members;
use super::{cell, name, path};

pub(super) const CREATE_EXAMPLES: &str = "\
Examples:
  cloakroom webhooks create --url https://hooks.example.com/orders
  cloakroom webhooks create --url https://hooks.example.com/x --event operation.failed \\
      --event webhook.disabled --route orders --tag account:121
  cloakroom webhooks create --url https://hooks.example.com/x --header-file headers
  cloakroom webhooks create --url https://hooks.example.com/x --json | jq -r .secret

The secret is printed this once, bare on the last line. `cloakroom listen` is a receiver to try it
with.";

pub(super) const UPDATE_EXAMPLES: &str = "\
Examples:
  cloakroom webhooks update ID --url https://hooks.example.com/elsewhere
  cloakroom webhooks update ID --event operation.failed --any-route
  cloakroom webhooks update ID --header 'X-Env: test' --header 'X-Old:'
  printf 'X-Api-Key: %s' \"$KEY\" | cloakroom webhooks update ID --header-file -";

/// What a subscription is told of unless it says so.
const USUAL_EVENTS: [&str; 4] =
    ["operation.succeeded", "operation.failed", "operation.canceled", "operation.reconciled"];

#[derive(Args, Debug)]
struct SubscriptionArgs {
    /// An event to send, like operation.failed; may be repeated.
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<String>,
    /// Only events of this route; may be repeated.
    #[arg(long = "route", value_name = "NAME")]
    routes: Vec<String>,
    /// Only events of operations with this tag; may be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A header of every delivery, like 'Name: value'; may be repeated. All users of this machine can
    /// see it while the command runs: use --header-file for secrets.
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// A file of headers, one per line; - for standard input.
    #[arg(long = "header-file", value_name = "FILE")]
    header_files: Vec<PathBuf>,
    /// What it is for.
    #[arg(long)]
    description: Option<String>,
    /// How messages are wrapped: standard or cloudevents.
    #[arg(long)]
    format: Option<String>,
}

impl SubscriptionArgs {
    /// What was said, as members.
    fn members(self) -> Result<Map<String, Value>, CommandError> {
        let mut members = Map::new();
        let lists = [("events", self.events), ("routes", self.routes), ("tags", self.tags)];
        for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            members.insert(name.to_owned(), json!(list));
        }
        let mut headers = Map::new();
        for text in &self.headers {
            let (name, value) = header(text).ok_or_else(|| {
                CommandError::Usage(format!("--header `{text}`: write it like 'X-Api-Key: value'"))
            })?;
            headers.insert(name, value);
        }
        for file in &self.header_files {
            for (line, text) in (1..).zip(secret_input::lines(file)?) {
                // What stands there may be a secret.
                let (name, value) = header(&text).ok_or_else(|| {
                    let file = file.display();
                    CommandError::Usage(format!(
                        "--header-file {file}: write header {line} like 'X-Api-Key: value'"
                    ))
                })?;
                headers.insert(name, value);
            }
        }
        if !headers.is_empty() {
            members.insert("headers".to_owned(), Value::Object(headers));
        }
        for (name, text) in [("description", self.description), ("format", self.format)] {
            members.extend(text.map(|text| (name.to_owned(), Value::String(text))));
        }
        Ok(members)
    }
}

/// A header's name and value; one without a value is to go.
fn header(text: &str) -> Option<(String, Value)> {
    let (name, value) = text.split_once(':')?;
    let value = Some(value.trim()).filter(|value| !value.is_empty());
    Some((name.trim().to_owned(), value.map_or(Value::Null, Value::from)))
}

#[derive(Args, Debug)]
pub(super) struct CreateArgs {
    /// Where messages go.
    #[arg(long)]
    url: String,
    #[command(flatten)]
    settings: SubscriptionArgs,
    /// How messages are signed: v1 (HMAC-SHA256) or v1a (Ed25519).
    #[arg(long)]
    signature: Option<String>,
    /// A file that holds the secret to sign with, - for the standard input; a new one is made
    /// without it.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Ask the receiver first whether it wants deliveries, as CloudEvents do.
    #[arg(long)]
    verify: bool,
    /// Whose it is, where callers are told apart by a field: its value.
    #[arg(long)]
    principal: Option<String>,
}

impl CreateArgs {
    /// Makes it, and prints what it is.
    pub(super) async fn run(self, admin: &AdminClient, as_json: bool) -> Result<(), CommandError> {
        let mut members = self.settings.members()?;
        members.entry("events").or_insert_with(|| json!(USUAL_EVENTS));
        members.insert("url".to_owned(), self.url.into());
        let secret = self.secret_file.as_deref().map(secret_input::secret).transpose()?;
        let further = [
            ("signature", self.signature),
            ("secret", secret),
            ("verification", self.verify.then(|| "cloudevents".to_owned())),
            ("principal", self.principal),
        ];
        for (name, text) in further {
            members.extend(text.map(|text| (name.to_owned(), Value::String(text))));
        }
        let answer = admin.ask("POST", "webhooks", &Value::Object(members)).await?;
        let made = body_of(answer.body())?;
        if as_json {
            return print::say_json(&made);
        }
        let mut rows = super::show::members(&made);
        rows.retain(|[name, _]| !REVEALED.contains(&name.as_str()));
        print::say(&print::table(["", ""], rows))?;
        print::say("")?;
        reveal(&made)?;
        told(&made)
    }
}

/// What has to be done about what was just made, on the side.
fn told(made: &Value) -> Result<(), CommandError> {
    if made["status"] == "unverified" {
        let id = print::plain(&cell(&made["id"]));
        return print::complain(&format!(
            "\nthe receiver has not agreed, so nothing is sent to it yet; once it does: cloakroom \
             webhooks enable {id}"
        ));
    }
    Ok(())
}

#[derive(Args, Debug)]
pub(super) struct UpdateArgs {
    /// Its id, or the link to it.
    #[arg(value_name = "ID")]
    id: String,
    /// Where messages go.
    #[arg(long)]
    url: Option<String>,
    #[command(flatten)]
    settings: SubscriptionArgs,
    /// Of every route.
    #[arg(long, conflicts_with = "routes")]
    any_route: bool,
    /// With and without tags.
    #[arg(long, conflicts_with = "tags")]
    any_tag: bool,
}

impl UpdateArgs {
    /// Changes it, and prints what it is now.
    pub(super) async fn run(self, admin: &AdminClient, as_json: bool) -> Result<(), CommandError> {
        let mut changes = self.settings.members()?;
        changes.extend(self.url.map(|url| ("url".to_owned(), url.into())));
        for (any, name) in [(self.any_route, "routes"), (self.any_tag, "tags")] {
            if any {
                changes.insert(name.to_owned(), json!([]));
            }
        }
        if changes.is_empty() {
            let says = "say what is to be changed; see cloakroom webhooks update --help";
            return Err(CommandError::Usage(says.to_owned()));
        }
        let resource = path(name(&self.id)?, "");
        let answer = admin.ask("PATCH", &resource, &Value::Object(changes)).await?;
        let now = body_of(answer.body())?;
        if as_json {
            return print::say_json(&now);
        }
        print::say(&print::table(["", ""], members(&now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_a_name_and_a_value_and_goes_without_one() {
        assert_eq!(header("X-A: b: c ").unwrap(), ("X-A".to_owned(), json!("b: c")));
        assert_eq!(header("X-A:").unwrap(), ("X-A".to_owned(), Value::Null));
        assert!(header("X-A").is_none());
    }
}
