//! `cloakroom webhooks`: who is told of what happens, through the admin listener of a
//! running gateway.

pub(super) mod deliveries;
mod keys;
mod replay;
mod set;
mod show;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::{AdminClient, GatewayArgs, json as body_of, strange};
use super::failure::CommandError;
use super::print;
use cloakroom_runtime::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  cloakroom webhooks create --url https://hooks.example.com/orders --event operation.failed
  cloakroom webhooks list
  cloakroom webhooks ping ID
  cloakroom webhooks deliveries ID --state failed
  cloakroom webhooks replay ID --since 2h --select failed --follow

ID is what `webhooks list` shows, or the link to a subscription (`links.self`), which is not the
URL that it sends to.";

/// The longest page that is asked for.
const PAGE: usize = 200;

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct WebhooksArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    gateway: GatewayArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List subscriptions, oldest first.
    #[command(after_help = "Examples:\n  cloakroom webhooks list\n  cloakroom webhooks list \
                            --json | jq -r '.subscriptions[] | select(.status != \"active\").id'")]
    List(show::ListSubscriptions),
    /// Show a subscription.
    #[command(
        after_help = "Examples:\n  cloakroom webhooks show ID\n  cloakroom webhooks show ID --json"
    )]
    Show(SubscriptionArg),
    /// Create a subscription; prints its secret, this once.
    #[command(after_help = set::CREATE_EXAMPLES)]
    Create(Box<set::CreateArgs>),
    /// Change a subscription; settings that are not given stay as they are.
    #[command(after_help = set::UPDATE_EXAMPLES)]
    Update(Box<set::UpdateArgs>),
    /// Delete subscriptions, with their pending deliveries.
    #[command(after_help = "Examples:\n  cloakroom webhooks delete ID")]
    Delete(SubscriptionsArg),
    /// Enable subscriptions; `replay --select held` sends the deliveries that were held meanwhile.
    #[command(
        after_help = "Examples:\n  cloakroom webhooks enable ID\n  cloakroom webhooks replay \
                            ID --since 1d --select held"
    )]
    Enable(SubscriptionsArg),
    /// Disable subscriptions; new deliveries are held for 30 days.
    #[command(after_help = "Examples:\n  cloakroom webhooks disable ID")]
    Disable(SubscriptionsArg),
    /// Make a new secret; former secrets sign beside it for a grace period.
    #[command(after_help = keys::ROTATE_EXAMPLES)]
    Rotate(keys::RotateArgs),
    /// Send a test event to a subscription.
    #[command(after_help = "Examples:\n  cloakroom webhooks ping ID\n  cloakroom webhooks \
                            deliveries ID --limit 1")]
    Ping(SubscriptionArg),
    /// List the deliveries of a subscription, newest first, or show one with its attempts.
    #[command(after_help = deliveries::EXAMPLES)]
    Deliveries(deliveries::ListDeliveries),
    /// Send deliveries again, with the same id and the same octets.
    #[command(after_help = "Examples:\n  cloakroom webhooks redeliver ID 17 18")]
    Redeliver(deliveries::RedeliverArgs),
    /// Send the messages of a time range again.
    #[command(after_help = replay::EXAMPLES)]
    Replay(replay::ReplayArgs),
    /// Print the public keys that verify v1a signatures.
    #[command(
        after_help = "Examples:\n  cloakroom webhooks keys\n  cloakroom webhooks keys --json >jwks.json"
    )]
    Keys(keys::KeysArgs),
    /// Show the keys that sign callbacks, or make new ones.
    #[command(after_help = keys::CALLBACK_EXAMPLES)]
    CallbackKey(keys::CallbackKeyArgs),
}

/// The subscription that is meant.
#[derive(Args, Debug)]
struct SubscriptionArg {
    /// The id of the subscription, or its URL.
    #[arg(value_name = "ID")]
    id: String,
}

/// The subscriptions that are meant.
#[derive(Args, Debug)]
struct SubscriptionsArg {
    /// The ids of the subscriptions, or their URLs.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl WebhooksArgs {
    /// Asks the gateway, and prints what it says.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        let admin = self.gateway.admin(clock.clone())?;
        let json = self.gateway.json;
        match self.command {
            Command::List(list) => list.run(&admin, json).await,
            Command::Show(which) => show::show(&admin, &which.id, json).await,
            Command::Create(create) => create.run(&admin, json).await,
            Command::Update(update) => update.run(&admin, json).await,
            Command::Delete(several) => {
                each(&admin, &several, SubscriptionVerb::Delete, json).await
            }
            Command::Enable(several) => {
                each(&admin, &several, SubscriptionVerb::Enable, json).await
            }
            Command::Disable(several) => {
                each(&admin, &several, SubscriptionVerb::Disable, json).await
            }
            Command::Rotate(rotate) => rotate.run(&admin, json).await,
            Command::Ping(which) => deliveries::ping(&admin, &which.id, json).await,
            Command::Deliveries(deliveries) => deliveries.run(&admin, json).await,
            Command::Redeliver(redeliver) => redeliver.run(&admin, json).await,
            Command::Replay(replay) => replay.run(&admin, &clock, json).await,
            Command::Keys(keys) => keys.run(&admin, json).await,
            Command::CallbackKey(key) => key.run(&admin, json).await,
        }
    }
}

/// What is done to subscriptions as a whole.
#[derive(Clone, Copy)]
enum SubscriptionVerb {
    Delete,
    Enable,
    Disable,
}

async fn each(
    admin: &AdminClient,
    several: &SubscriptionsArg,
    verb: SubscriptionVerb,
    as_json: bool,
) -> Result<(), CommandError> {
    let ids: Vec<_> = several.ids.iter().map(|id| name(id)).collect::<Result<_, _>>()?;
    for id in ids {
        let (method, resource, done) = match verb {
            SubscriptionVerb::Delete => ("DELETE", path(id, ""), "deleted"),
            SubscriptionVerb::Enable => ("POST", path(id, "/enable"), "enabled"),
            SubscriptionVerb::Disable => ("POST", path(id, "/disable"), "disabled"),
        };
        let answer = admin.ask(method, &resource, &json!({})).await?;
        match verb {
            _ if !as_json => print::say(&format!("{id}: {done}"))?,
            // Nothing is left that could be shown.
            SubscriptionVerb::Delete => print::say_json(&json!({ "id": id, "deleted": true }))?,
            SubscriptionVerb::Enable | SubscriptionVerb::Disable => {
                print::say_json(&body_of(answer.body())?)?;
            }
        }
    }
    Ok(())
}

/// The id in an argument, which may be a whole URL.
fn name(which: &str) -> Result<&str, CommandError> {
    let rest = which.rsplit_once("/webhooks/").map_or(which, |(_, rest)| rest);
    let name = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = |octet: u8| octet.is_ascii_hexdigit() || octet == b'-';
    if name.len() < 32 || !name.bytes().all(plain) {
        return Err(CommandError::Usage(format!(
            "`{which}` is not a subscription's id; `cloakroom webhooks list` shows them"
        )));
    }
    Ok(name)
}

fn path(id: &str, resource: &str) -> String {
    format!("webhooks/{id}{resource}")
}

/// `principal=…` for a query, where one was named.
fn of_principal(principal: Option<&String>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(principal) = principal {
        query.append_pair("principal", principal);
    }
    query.finish()
}

/// Every item of a list, page after page.
async fn all(admin: &AdminClient, resource: &str, items: &str) -> Result<Vec<Value>, CommandError> {
    let mut found = Vec::new();
    let mut page = admin.look(resource).await?;
    loop {
        let Some(Value::Array(some)) = page.get_mut(items).map(Value::take) else {
            return Err(strange(&format!("the answer lists no {items}")));
        };
        found.extend(some);
        match page["links"]["next"].as_str().map(str::to_owned) {
            Some(next) => page = admin.page(&next).await?,
            None => return Ok(found),
        }
    }
}

/// A member as a cell shows it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_named_by_id_or_url() {
        let id = "5f0c1d2e-3a4b-4c6d-8e8f-901a2b3c4d5e";
        for which in [
            id.to_owned(),
            format!("http://localhost:8081/-/webhooks/{id}"),
            format!("https://api.example.com/-/webhooks/{id}/deliveries/7?x=1"),
        ] {
            assert_eq!(name(&which).unwrap(), id, "{which}");
        }
        for which in ["", "7", "../metrics", "keys", "http://localhost/-/webhooks/"] {
            assert!(name(which).is_err(), "{which}");
        }
    }
}
