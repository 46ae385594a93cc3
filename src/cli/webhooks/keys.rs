//! `cloakroom webhooks rotate`, `keys` and `callback-key`: signing keys.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::super::admin::{AdminClient, json as body_of};
use super::super::failure::CommandError;
use super::super::print;
use super::super::secret_input;
use super::super::time_args::span;
use super::show::line;
use super::{PAGE, all, cell, name, of_principal, path};

pub(super) const ROTATE_EXAMPLES: &str = "\
Examples:
  cloakroom webhooks rotate ID
  cloakroom webhooks rotate ID --grace 0s           a former secret is in wrong hands
  cloakroom webhooks rotate ID --signature v1a      go over to v1a, and leave v1 with the grace
  cloakroom webhooks rotate ID --signature v1a --beside      sign with both from now on
  cloakroom webhooks rotate ID --json | jq -r .secret

What was made is printed bare, a line each. It signs at once, and all former ones beside it until
the grace is over (24h), or until their own is, so that receivers can change theirs in between;
with 0s none does. At most 5 sign at once.";

pub(super) const CALLBACK_EXAMPLES: &str = "\
Examples:
  cloakroom webhooks callback-key
  cloakroom webhooks callback-key --rotate
  cloakroom webhooks callback-key --rotate --signature v1 --grace 0s
  cloakroom webhooks callback-key --rotate --signature v1a --principal ann

Callbacks are signed with both kinds, and both are made anew unless one is said.";

/// What is said about a new key.
#[derive(Args, Debug)]
struct NewKeyArgs {
    /// How long former keys go on signing at most, like 24h or 7d.
    #[arg(long, value_name = "SPAN")]
    grace: Option<String>,
    /// The kind of the new key: v1 (HMAC-SHA256) or v1a (Ed25519) [default: every kind that signs].
    #[arg(long)]
    signature: Option<String>,
    /// A file that holds the secret to sign with, - for the standard input; a new one is made
    /// without it.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl NewKeyArgs {
    fn members(self) -> Result<Map<String, Value>, CommandError> {
        let mut members = Map::new();
        if let Some(grace) = &self.grace {
            let says =
                || CommandError::Usage(format!("--grace `{grace}`: write it like 0s, 24h or 7d"));
            members.insert("grace".to_owned(), span(grace).ok_or_else(says)?.as_secs().into());
        }
        let secret = self.secret_file.as_deref().map(secret_input::secret).transpose()?;
        for (name, text) in [("signature", self.signature), ("secret", secret)] {
            members.extend(text.map(|text| (name.to_owned(), Value::String(text))));
        }
        Ok(members)
    }
}

#[derive(Args, Debug)]
pub(super) struct RotateArgs {
    /// The id of the subscription, or its URL.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    wish: NewKeyArgs,
    /// Let the other kind go on signing beside a new kind.
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    beside: Option<bool>,
}

impl RotateArgs {
    /// Makes a new key, and prints it.
    pub(super) async fn run(self, admin: &AdminClient, as_json: bool) -> Result<(), CommandError> {
        let resource = path(name(&self.id)?, "/rotate");
        let mut members = self.wish.members()?;
        members.extend(self.beside.map(|beside| ("beside".to_owned(), beside.into())));
        rotated(admin, &resource, members, as_json).await
    }
}

async fn rotated(
    admin: &AdminClient,
    resource: &str,
    members: Map<String, Value>,
    as_json: bool,
) -> Result<(), CommandError> {
    let answer = admin.ask("POST", resource, &Value::Object(members)).await?;
    let made = body_of(answer.body())?;
    if as_json {
        return print::say_json(&made);
    }
    reveal(&made)
}

/// Members of what was made that are shown this once, or that a receiver needs.
pub(super) const REVEALED: [&str; 2] = ["secret", "publicKey"];

/// Prints these, each bare on a line of its own, so that a script can take it.
pub(super) fn reveal(made: &Value) -> Result<(), CommandError> {
    let shown = REVEALED.map(|member| cell(&made[member]));
    shown
        .iter()
        .filter(|text| !text.is_empty())
        .try_for_each(|text| print::say(&print::plain(text)))?;
    match made["secret"].is_null() {
        true => Ok(()),
        false => print::complain("keep the secret now: it is not shown again"),
    }
}

#[derive(Args, Debug)]
pub(super) struct KeysArgs {
    /// Only this principal's, and those of its callbacks.
    #[arg(long)]
    principal: Option<String>,
}

impl KeysArgs {
    /// Prints them all; for machines as a JWK set.
    pub(super) async fn run(self, admin: &AdminClient, as_json: bool) -> Result<(), CommandError> {
        let whose = of_principal(self.principal.as_ref());
        let resource = format!("webhooks/keys?limit={PAGE}&{whose}");
        let keys = all(admin, resource.trim_end_matches('&'), "keys").await?;
        if as_json {
            return print::say_json(&json!({ "keys": keys }));
        }
        if keys.is_empty() {
            return print::complain("nothing is signed with v1a");
        }
        let row = |key: &Value| {
            let subscription = match key["subscription"].as_str() {
                Some(id) => id.to_owned(),
                None => "callbacks".to_owned(),
            };
            [
                subscription,
                cell(&key["kid"]),
                cell(&key["publicKey"]),
                cell(&key["createdAt"]),
                cell(&key["retiresAt"]),
            ]
        };
        let header = ["SUBSCRIPTION", "KEY", "PUBLIC KEY", "MADE", "SIGNS UNTIL"];
        print::say(&print::table(header, keys.iter().map(row).collect()))
    }
}

#[derive(Args, Debug)]
pub(super) struct CallbackKeyArgs {
    /// Make new keys, and print them; former keys sign beside them for a grace period.
    #[arg(long)]
    rotate: bool,
    #[command(flatten)]
    wish: NewKeyArgs,
    /// The principal of the callbacks, where a header field names the principal: its value.
    #[arg(long)]
    principal: Option<String>,
}

impl CallbackKeyArgs {
    /// Prints what there is, or what was made.
    pub(super) async fn run(self, admin: &AdminClient, as_json: bool) -> Result<(), CommandError> {
        let mut members = self.wish.members()?;
        if self.rotate {
            members.extend(self.principal.map(|whose| ("principal".to_owned(), whose.into())));
            return rotated(admin, "webhooks/callback-key", members, as_json).await;
        }
        if !members.is_empty() {
            return Err(CommandError::Usage("say --rotate to make a new key".to_owned()));
        }
        let whose = of_principal(self.principal.as_ref());
        let there = admin.look(&format!("webhooks/callback-key?{whose}")).await?;
        if as_json {
            return print::say_json(&there);
        }
        let keys = there["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        if keys.is_empty() {
            return print::complain(
                "there is none yet; --rotate makes one, as the first callback does",
            );
        }
        keys.iter().try_for_each(|key| print::say(&print::plain(&line(key))))
    }
}
