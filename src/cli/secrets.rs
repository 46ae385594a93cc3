//! `cloakroom secrets`: makes a running gateway reseal its ledger's secrets.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::{AdminClient, GatewayArgs, strange};
use super::failure::CommandError;
use super::print;
use cloakroom_runtime::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  cloakroom secrets reseal            after secrets.key was set or changed, on every node
  cloakroom secrets reseal --json | jq .previousCanGo";
const RESEALING: &str = "\
Examples:
  cloakroom secrets reseal
  cloakroom secrets reseal --json | jq .previousCanGo

To change the key: put the new one into secrets.previous of every node, then make it secrets.key
and the old one secrets.previous, on every node; then run this. It walks the ledger in small
steps beside all other work. If it is cut off, run it again: what is sealed is passed over. When
it says so, the old key can be removed from secrets.previous. The exit code is 1 until then.";

/// Walks until one finds nothing left; more are not made in one run.
const WALKS: u32 = 5;
/// Answers between two lines about how far it is.
const QUIET: u32 = 10;

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct SecretsArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    gateway: GatewayArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Seal secrets with the current key that are unsealed or sealed with an earlier key.
    #[command(after_help = RESEALING)]
    Reseal,
}

/// What all walks came to.
#[derive(Default)]
struct ResealTotal {
    key: String,
    walks: u32,
    looked_at: u64,
    resealed: u64,
    unopened: u64,
    reasons: Vec<Value>,
    /// The last walk found nothing left.
    done: bool,
    /// Keys that other nodes still seal with.
    others: Vec<Value>,
}

impl SecretsArgs {
    /// Has it done, and prints what came of it.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        let Command::Reseal = self.command;
        let admin = self.gateway.admin(clock)?.patient();
        let mut total = ResealTotal::default();
        while !total.done && total.unopened == 0 && total.walks < WALKS {
            total.walk(&admin, !self.gateway.json).await?;
        }
        if self.gateway.json {
            print::say_json(&total.shown())?;
        } else {
            total.tell()?;
        }
        if total.previous_can_go() { Ok(()) } else { Err(CommandError::Told) }
    }
}

impl ResealTotal {
    async fn walk(&mut self, admin: &AdminClient, tells: bool) -> Result<(), CommandError> {
        let (mut left, mut after, mut answers) = (0, String::new(), 0);
        self.walks += 1;
        loop {
            let part = admin.have_done(&format!("secrets/reseal{after}")).await?;
            let count = |name: &str| part[name].as_u64();
            let known = "the answer does not say what was sealed";
            let resealed = count("resealed").ok_or_else(|| strange(known))?;
            let unopened = count("unopened").unwrap_or_default();
            self.looked_at += count("lookedAt").unwrap_or_default();
            self.resealed += resealed;
            self.unopened += unopened;
            self.reasons.extend(part["reasons"].as_array().into_iter().flatten().cloned());
            part["key"].as_str().unwrap_or_default().clone_into(&mut self.key);
            left += resealed + unopened + count("missed").unwrap_or_default();
            answers += 1;
            if tells && answers % QUIET == 0 {
                let (looked_at, resealed) = (self.looked_at, self.resealed);
                print::complain(&format!("{looked_at} rows looked at, {resealed} values sealed"))?;
            }
            if let Some(others) = part["otherKeys"].as_array() {
                self.others.clone_from(others);
            }
            match part["next"].as_str() {
                Some(next) => after = format!("?after={next}"),
                None => break,
            }
        }
        self.done = left == 0;
        Ok(())
    }

    fn previous_can_go(&self) -> bool {
        self.done && self.others.is_empty()
    }

    fn shown(&self) -> Value {
        json!({
            "key": self.key,
            "walks": self.walks,
            "lookedAt": self.looked_at,
            "resealed": self.resealed,
            "unopened": self.unopened,
            "reasons": self.reasons,
            "otherKeys": self.others,
            "previousCanGo": self.previous_can_go(),
        })
    }

    fn tell(&self) -> Result<(), CommandError> {
        let Self { key, looked_at, resealed, .. } = self;
        print::say(&format!(
            "{looked_at} rows looked at, {resealed} values sealed with key {key}"
        ))?;
        for reason in self.reasons.iter().filter_map(Value::as_str) {
            print::complain(&print::plain(reason))?;
        }
        let others: Vec<_> = self.others.iter().filter_map(Value::as_str).collect();
        print::complain(&match (self.done, self.unopened) {
            (true, _) if !others.is_empty() => format!(
                "nodes seal with other keys, or did within the last minute ({}): give every node \
                 the same secrets.key, then run this again",
                print::plain(&others.join(", "))
            ),
            (true, _) => "nothing is left under another key: secrets.previous can be removed on \
                          every node"
                .to_owned(),
            (false, 0) => "values still come to lie under another key: give every node the same \
                           secrets.key, then run this again"
                .to_owned(),
            (false, unopened) => format!(
                "{unopened} values cannot be opened: put their keys into secrets.previous, then run \
                 this again; keep secrets.previous until then"
            ),
        })
    }
}
