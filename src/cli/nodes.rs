//! `cloakroom nodes`: lists the nodes that share the ledger, as one of them sees them.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::Value;

use super::admin::{GatewayArgs, strange};
use super::failure::CommandError;
use super::print;
use cloakroom_runtime::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  cloakroom nodes
  cloakroom nodes --admin http://127.0.0.1:9081 --json | jq '.nodes[] | select(.state == \"dead\")'

State: alive (it beats), silent (some beats are missing), dead (none for a whole lease: others
take over what it held), ended (it stopped in good order). Those that are gone are shown for a day.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct NodesArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
}

impl NodesArgs {
    /// Asks a node, and prints what it says.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        let told = self.gateway.admin(clock)?.nodes().await?;
        let Some(nodes) = told["nodes"].as_array() else {
            return Err(strange("the answer lists no nodes"));
        };
        if self.gateway.json {
            print::say_json(&told)?;
        } else {
            let header = [
                "NAME", "ROLE", "STATE", "VERSION", "QUEUES", "SLOTS", "RUNNING", "BEAT", "CONFIG",
            ];
            print::say(&print::table(header, nodes.iter().map(row).collect()))?;
        }
        match differing(nodes) {
            0 | 1 => Ok(()),
            several => print::complain(&format!(
                "warning: the nodes go by {several} different configurations: the same request is \
                 treated differently by different nodes; compare `cloakroom config print` of each"
            )),
        }
    }
}

/// How many configurations those go by that are not gone.
fn differing(nodes: &[Value]) -> usize {
    let lives = |node: &&Value| matches!(node["state"].as_str(), Some("alive" | "silent"));
    let fingerprints: BTreeSet<_> =
        nodes.iter().filter(lives).filter_map(|node| node["fingerprint"].as_str()).collect();
    // One that has just started has not told yet.
    fingerprints.into_iter().filter(|fingerprint| !fingerprint.is_empty()).count()
}

fn row(node: &Value) -> [String; 9] {
    let text = |name: &str| match &node[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let queues: Vec<_> = node["queues"].as_array().into_iter().flatten().collect();
    let queues: Vec<_> = queues.into_iter().filter_map(Value::as_str).collect();
    let age = node["beatAge"].as_f64().unwrap_or_default();
    [
        format!("{}#{}", text("name"), text("incarnation")),
        text("role"),
        text("state"),
        text("version"),
        if queues.is_empty() { "all".to_owned() } else { queues.join(",") },
        text("slots"),
        text("running"),
        format!("{age:.1}s"),
        text("fingerprint"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_nodes_that_are_there_can_differ() {
        let node =
            |state: &str, fingerprint: &str| json!({ "state": state, "fingerprint": fingerprint });
        assert_eq!(differing(&[node("alive", "a"), node("alive", "")]), 1);
        assert_eq!(differing(&[node("alive", "a"), node("dead", "b"), node("ended", "c")]), 1);
        assert_eq!(differing(&[node("alive", "a"), node("silent", "b")]), 2);
    }

    #[test]
    fn a_node_is_one_line() {
        let row = row(&json!({ "name": "w1", "incarnation": 7, "queues": [], "beatAge": 0.25 }));
        assert_eq!((&*row[0], &*row[4], &*row[7]), ("w1#7", "all", "0.2s"));
    }
}
