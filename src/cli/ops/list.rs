//! `cloakroom ops list`: operations, newest first.

use clap::Args;
use serde_json::{Value, json};

use super::super::admin::{AdminClient, strange};
use super::super::counts::count;
use super::super::failure::CommandError;
use super::super::print;
use super::super::time_args::instant;
use cloakroom_runtime::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  cloakroom ops list
  cloakroom ops list --status failed --since 1h
  cloakroom ops list --route orders --tag account:121 --limit 500 --json | jq '.operations[].id'";

/// The longest page that is asked for.
const PAGE: usize = 100;

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListOperations {
    /// Only those with this status: queued, running, waiting, succeeded, failed, canceled.
    #[arg(long)]
    status: Option<String>,
    /// Only those whose outcome is unknown and that have no verdict.
    #[arg(long)]
    unknown: bool,
    /// Only those of this route.
    #[arg(long)]
    route: Option<String>,
    /// Only those in this queue.
    #[arg(long)]
    queue: Option<String>,
    /// Only those with this tag.
    #[arg(long)]
    tag: Option<String>,
    /// Only those accepted since then: how long ago (2h, 7d), or an instant.
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// The largest number of operations to print.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = count::<usize>,
        allow_negative_numbers = true)]
    limit: usize,
}

impl ListOperations {
    /// Follows the pages until there are enough, and prints them.
    pub(super) async fn run(
        self,
        admin: &AdminClient,
        clock: &Clock,
        json: bool,
    ) -> Result<(), CommandError> {
        let found = self.found(admin, clock).await?;
        if json {
            return print::say_json(&json!({ "operations": found }));
        }
        if found.is_empty() {
            return print::complain("no operations match");
        }
        let header = ["ID", "STATUS", "REQUEST", "ROUTE", "ATTEMPTS", "ANSWER", "CREATED"];
        print::say(&print::table(header, found.iter().map(row).collect()))
    }

    async fn found(&self, admin: &AdminClient, clock: &Clock) -> Result<Vec<Value>, CommandError> {
        let mut found = Vec::new();
        let mut page = admin.list(&self.query(clock)?).await?;
        loop {
            let Some(Value::Array(operations)) = page.get_mut("operations").map(Value::take) else {
                return Err(strange("the answer lists no operations"));
            };
            let empty = operations.is_empty();
            found.extend(operations);
            let next = page["links"]["next"].as_str().map(str::to_owned);
            match next.filter(|_| !empty && found.len() < self.limit) {
                Some(next) => page = admin.page(&next).await?,
                None => break,
            }
        }
        found.truncate(self.limit);
        Ok(found)
    }

    fn query(&self, clock: &Clock) -> Result<String, CommandError> {
        let since = self.since.as_deref().map(|given| instant(given, clock.now())).transpose();
        let since = since.map_err(|says| CommandError::Usage(format!("--since {says}")))?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("status", &self.status),
            ("route", &self.route),
            ("queue", &self.queue),
            ("tag", &self.tag),
            ("since", &since),
        ] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if self.unknown {
            query.append_pair("unknown", "true");
        }
        query.append_pair("limit", &self.limit.min(PAGE).to_string());
        Ok(query.finish())
    }
}

fn row(document: &Value) -> [String; 7] {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let request = &document["request"];
    let answer = match &document["error"]["code"] {
        Value::Null => text(&document["responseStatus"]),
        code => text(code),
    };
    [
        text(&document["id"]),
        text(&document["status"]),
        format!("{} {}", text(&request["method"]), text(&request["url"])),
        text(&document["route"]),
        text(&document["attempts"]),
        answer,
        text(&document["createdAt"]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_become_a_query_and_pages_stay_within_bounds() {
        let list = ListOperations {
            status: Some("failed".into()),
            unknown: true,
            route: None,
            queue: None,
            tag: Some("account:1 2".into()),
            since: None,
            limit: 5_000,
        };
        let query = list.query(&Clock::system()).unwrap();
        assert_eq!(query, "status=failed&tag=account%3A1+2&unknown=true&limit=100");
    }

    #[test]
    fn a_failure_shows_its_code_and_a_success_its_status() {
        let failed = json!({ "id": "0192", "status": "failed", "attempts": 1,
            "request": { "method": "POST", "url": "/orders" }, "route": "orders",
            "responseStatus": 500, "error": { "code": "upstream-status" } });
        let row = row(&failed);
        assert_eq!(row[2], "POST /orders");
        assert_eq!(row[5], "upstream-status");
        assert_eq!(super::row(&json!({ "responseStatus": 201 }))[5], "201");
    }
}
