//! `cloakroom webhooks list` and `show`.

use clap::Args;
use serde_json::{Value, json};

use super::super::admin::AdminClient;
use super::super::failure::CommandError;
use super::super::print;
use super::{PAGE, all, cell, name, of_principal, path};

#[derive(Args, Debug)]
pub(super) struct ListSubscriptions {
    /// Only this principal's; where callers are told apart by a field, its value.
    #[arg(long)]
    principal: Option<String>,
}

impl ListSubscriptions {
    /// Prints them all.
    pub(super) async fn run(self, admin: &AdminClient, as_json: bool) -> Result<(), CommandError> {
        let whose = of_principal(self.principal.as_ref());
        let resource = format!("webhooks?limit={PAGE}&{whose}");
        let found = all(admin, resource.trim_end_matches('&'), "subscriptions").await?;
        if as_json {
            return print::say_json(&json!({ "subscriptions": found }));
        }
        if found.is_empty() {
            return print::complain(
                "there is no subscription; `cloakroom webhooks create` makes one",
            );
        }
        let header = ["ID", "STATUS", "EVENTS", "URL", "DESCRIPTION"];
        print::say(&print::table(header, found.iter().map(row).collect()))
    }
}

fn row(subscription: &Value) -> [String; 5] {
    let status = match subscription["disabledFor"].as_str() {
        Some(why) => format!("disabled ({why})"),
        None if !subscription["failingSince"].is_null() => {
            format!("{}, failing", cell(&subscription["status"]))
        }
        None => cell(&subscription["status"]),
    };
    let [id, events, url, description] =
        ["id", "events", "url", "description"].map(|member| cell(&subscription[member]));
    [id, status, events, url, description]
}

/// Prints one.
pub(super) async fn show(admin: &AdminClient, id: &str, as_json: bool) -> Result<(), CommandError> {
    let subscription = admin.look(&path(name(id)?, "")).await?;
    if as_json {
        return print::say_json(&subscription);
    }
    print::say(&print::table(["", ""], members(&subscription)))
}

/// What a subscription says, a line each; what it does not say is left out.
pub(super) fn members(subscription: &Value) -> Vec<[String; 2]> {
    let mut rows = Vec::new();
    for (name, value) in subscription.as_object().into_iter().flatten() {
        match value {
            Value::Null | Value::Object(_) => {}
            Value::Array(keys) if name == "keys" => {
                rows.extend(keys.iter().map(|key| ["key".to_owned(), line(key)]));
            }
            value if cell(value).is_empty() => {}
            value => rows.push([name.clone(), cell(value)]),
        }
    }
    rows
}

/// A key on one line.
pub(super) fn line(key: &Value) -> String {
    let [signature, public, made, retires] =
        ["signature", "publicKey", "createdAt", "retiresAt"].map(|member| cell(&key[member]));
    let mut line = format!("{signature} made {made}");
    if !public.is_empty() {
        line = format!("{signature} {public} made {made}");
    }
    if !retires.is_empty() {
        line = format!("{line}, signs until {retires}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_it_is_not_told_is_its_status() {
        let disabled = json!({ "status": "disabled", "disabledFor": "gone" });
        assert_eq!(row(&disabled)[1], "disabled (gone)");
        let failing = json!({ "status": "active", "failingSince": "2026" });
        assert_eq!(row(&failing)[1], "active, failing");
        assert_eq!(row(&json!({ "status": "active" }))[1], "active");
    }

    #[test]
    fn what_is_not_said_is_no_line() {
        let rows = members(&json!({ "id": "x", "routes": [], "description": null, "links": {} }));
        assert_eq!(rows, [["id".to_owned(), "x".to_owned()]]);
    }
}
