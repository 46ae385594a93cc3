//! `cloakroom webhooks ping`, `deliveries` and `redeliver`.

use clap::Args;
use serde_json::{Value, json};

use super::super::admin::{AdminClient, json as body_of, strange};
use super::super::counts::count;
use super::super::failure::CommandError;
use super::super::print;
use super::{cell, name, path};

pub(super) const EXAMPLES: &str = "\
Examples:
  cloakroom webhooks deliveries ID
  cloakroom webhooks deliveries ID --state failed --limit 500
  cloakroom webhooks deliveries ID 17              with every attempt
  cloakroom webhooks deliveries ID --json | jq '.deliveries[].attempts'";

/// The longest page that is asked for.
const PAGE: usize = 200;

#[derive(Args, Debug)]
pub(super) struct ListDeliveries {
    /// The id of the subscription, or its URL.
    #[arg(value_name = "ID")]
    id: String,
    /// One delivery, by its number.
    #[arg(value_name = "NUMBER", conflicts_with_all = ["state", "limit"])]
    number: Option<u64>,
    /// Only deliveries in this state: pending (waiting or being sent), held, failed (exhausted or
    /// gone), delivered, all.
    #[arg(long)]
    state: Option<String>,
    /// The largest number of deliveries to print.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = count::<usize>,
        allow_negative_numbers = true)]
    limit: usize,
}

impl ListDeliveries {
    /// Prints them, or the one.
    pub(super) async fn run(self, admin: &AdminClient, as_json: bool) -> Result<(), CommandError> {
        let id = name(&self.id)?;
        if let Some(number) = self.number {
            let delivery = admin.look(&path(id, &format!("/deliveries/{number}"))).await?;
            return one(&delivery, as_json);
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &self.limit.min(PAGE).to_string());
        if let Some(state) = &self.state {
            query.append_pair("state", state);
        }
        let page = admin.look(&path(id, &format!("/deliveries?{}", query.finish()))).await?;
        list(&found(admin, page, self.limit).await?, as_json)
    }
}

/// The deliveries on a page and those behind it, so many at most.
pub(in crate::cli) async fn found(
    admin: &AdminClient,
    mut page: Value,
    most: usize,
) -> Result<Vec<Value>, CommandError> {
    let mut found = Vec::new();
    loop {
        let Some(Value::Array(some)) = page.get_mut("deliveries").map(Value::take) else {
            return Err(strange("the answer lists no deliveries"));
        };
        found.extend(some);
        match page["links"]["next"].as_str().map(str::to_owned) {
            Some(next) if found.len() < most => page = admin.page(&next).await?,
            _ => break,
        }
    }
    found.truncate(most);
    Ok(found)
}

/// Prints deliveries.
pub(in crate::cli) fn list(found: &[Value], as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return print::say_json(&json!({ "deliveries": found }));
    }
    if found.is_empty() {
        return print::complain("there is no such delivery");
    }
    let header = ["NUMBER", "CREATED", "EVENT", "STATUS", "ATTEMPTS", "LAST", "NEXT", "OPERATION"];
    print::say(&print::table(header, found.iter().map(row).collect()))
}

fn row(delivery: &Value) -> [String; 8] {
    let last = delivery["attempts"].as_array().and_then(|attempts| attempts.last());
    let [number, created, event, status, attempts, next, operation] =
        ["number", "createdAt", "event", "status", "attemptsBegun", "nextAttemptAt", "operation"]
            .map(|member| cell(&delivery[member]));
    [
        number,
        created,
        event,
        status,
        attempts,
        last.map(outcome).unwrap_or_default(),
        next,
        operation,
    ]
}

/// What an attempt came to, in a few words.
fn outcome(attempt: &Value) -> String {
    let [status, code] = ["status", "code"].map(|member| cell(&attempt[member]));
    [status, code].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn one(delivery: &Value, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return print::say_json(delivery);
    }
    let shown = ["number", "message", "event", "operation", "cause", "status", "createdAt"];
    let further = ["nextAttemptAt", "heldAt", "endedAt"];
    let rows = shown.iter().chain(&further).filter(|member| !delivery[**member].is_null());
    let rows = rows.map(|member| [(*member).to_owned(), cell(&delivery[*member])]).collect();
    print::say(&print::table(["", ""], rows))?;
    let attempt = |attempt: &Value| {
        let took = format!("{} ms", cell(&attempt["durationMs"]));
        [cell(&attempt["number"]), cell(&attempt["at"]), took, outcome(attempt)]
    };
    let attempts: Vec<_> =
        delivery["attempts"].as_array().into_iter().flatten().map(attempt).collect();
    if attempts.is_empty() {
        return Ok(());
    }
    print::say("")?;
    print::say(&print::table(["ATTEMPT", "WHEN", "TOOK", "CAME TO"], attempts))
}

/// Sends a test event.
pub(super) async fn ping(admin: &AdminClient, id: &str, as_json: bool) -> Result<(), CommandError> {
    let answer = admin.ask("POST", &path(name(id)?, "/ping"), &json!({})).await?;
    let made = body_of(answer.body())?;
    if as_json {
        return print::say_json(&made);
    }
    let (id, number) = (name(id)?, print::plain(&cell(&made["number"])));
    print::say(&number)?;
    print::complain(&format!("what becomes of it: cloakroom webhooks deliveries {id} {number}"))
}

#[derive(Args, Debug)]
pub(super) struct RedeliverArgs {
    /// The id of the subscription, or its URL.
    #[arg(value_name = "ID")]
    id: String,
    /// The numbers of the deliveries.
    #[arg(value_name = "NUMBER", required = true)]
    numbers: Vec<u64>,
}

impl RedeliverArgs {
    /// Has them sent, and prints the numbers of the new ones.
    pub(super) async fn run(self, admin: &AdminClient, as_json: bool) -> Result<(), CommandError> {
        let id = name(&self.id)?;
        for number in self.numbers {
            let resource = path(id, &format!("/deliveries/{number}/redeliver"));
            let answer = admin.ask("POST", &resource, &json!({})).await?;
            let made = body_of(answer.body())?;
            match as_json {
                true => print::say_json(&made)?,
                false => print::say(&print::plain(&cell(&made["number"])))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_attempt_came_to_is_a_status_a_code_or_both() {
        assert_eq!(outcome(&json!({ "status": 204, "code": null })), "204");
        assert_eq!(outcome(&json!({ "status": 500, "code": "status" })), "500 status");
        assert_eq!(outcome(&json!({ "status": null, "code": "timeout" })), "timeout");
    }
}
