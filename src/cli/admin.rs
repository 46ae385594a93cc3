//! The client of the admin listener, for commands that talk to a running gateway.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{Request, Response, Uri};
use serde_json::Value;

use super::failure::CommandError;
use super::http::{HttpClient, HttpError};
use super::print::plain;
use cloakroom_runtime::clock::Clock;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway's operators' API.
pub(super) struct AdminClient {
    http: HttpClient,
    /// How long an answer may take.
    patience: Duration,
    /// Scheme and authority, without a `/` at the end.
    origin: String,
    /// The prefix of the gateway's own resources, without a `/` at the end.
    prefix: String,
}

/// Which gateway is meant.
#[derive(Args, Debug)]
pub(super) struct GatewayAddress {
    /// The admin listener of the gateway.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    admin: String,
    /// The prefix of the gateway's own resources (`server.prefix`).
    #[arg(long, global = true, value_name = "PATH", default_value = "/-")]
    prefix: String,
}

/// Which gateway is meant, and the form in which its answers are printed.
#[derive(Args, Debug)]
pub(super) struct GatewayArgs {
    #[command(flatten)]
    place: GatewayAddress,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl GatewayAddress {
    /// The operators' API there.
    pub(super) fn admin(&self, clock: Clock) -> Result<AdminClient, CommandError> {
        AdminClient::new(clock, &self.admin, &self.prefix)
    }
}

impl GatewayArgs {
    /// Its operators' API.
    pub(super) fn admin(&self, clock: Clock) -> Result<AdminClient, CommandError> {
        self.place.admin(clock)
    }
}

impl AdminClient {
    /// The API of the gateway whose admin listener is at `url`.
    fn new(clock: Clock, url: &str, prefix: &str) -> Result<Self, CommandError> {
        let refused = |why: &str| {
            CommandError::Usage(format!(
                "--admin {url}: {why}; write it like http://127.0.0.1:8081"
            ))
        };
        let uri: Uri = url.parse().map_err(|_| refused("this is not a URL"))?;
        match (uri.scheme_str(), uri.authority(), uri.path()) {
            (None, ..) => Err(refused("this is not a URL")),
            (Some("http"), Some(authority), _) if authority.as_str().contains('@') => {
                Err(refused("the admin listener takes no credentials: leave them out"))
            }
            (Some("http"), Some(_), _) if url::Url::parse(url).is_err() => {
                Err(refused("this host or this port cannot be connected to"))
            }
            (Some("http"), Some(authority), "/") => Ok(Self {
                http: HttpClient::new(clock)?,
                patience: PATIENCE,
                origin: format!("http://{authority}"),
                prefix: prefix.trim_end_matches('/').to_owned(),
            }),
            (Some("https"), ..) => Err(refused(
                "the admin listener speaks plain http; reach a remote one through a tunnel, like \
                 ssh -L 8081:127.0.0.1:8081 HOST",
            )),
            (Some("http"), Some(_), _) => Err(refused("leave out the path (there is --prefix)")),
            _ => Err(refused("the admin listener speaks http")),
        }
    }

    /// What a probe (`/readyz`, `/livez`) says; a failure where that is not that all is well.
    pub(super) async fn probe(&self, target: &str) -> Result<String, CommandError> {
        let answer = self.asked("GET", target).await?;
        let words = plain(String::from_utf8_lossy(answer.body()).trim_end());
        if answer.status().is_success() { Ok(words) } else { Err(CommandError::Failed(words)) }
    }

    /// How queues and upstreams stand.
    pub(super) async fn queues(&self) -> Result<Value, CommandError> {
        json(self.done("GET", &self.target("queues")).await?.body())
    }

    /// Pauses a queue or resumes it (`pause`, `resume`); how it stands then.
    pub(super) async fn hold_queue(&self, queue: &str, verb: &str) -> Result<Value, CommandError> {
        let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
        if queue.is_empty() || !queue.bytes().all(plain) {
            let says = format!("`{queue}` is no queue's name; `cloakroom queues` shows them");
            return Err(CommandError::Usage(says));
        }
        let target = self.target(&format!("queues/{queue}/{verb}"));
        json(self.done("POST", &target).await?.body())
    }

    /// The same, for what takes long.
    pub(super) const fn patient(mut self) -> Self {
        self.patience = Duration::from_mins(30);
        self
    }

    /// A page of the list.
    pub(super) async fn list(&self, query: &str) -> Result<Value, CommandError> {
        json(self.done("GET", &self.target(&format!("operations?{query}"))).await?.body())
    }

    /// The nodes.
    pub(super) async fn nodes(&self) -> Result<Value, CommandError> {
        json(self.done("GET", &self.target("nodes")).await?.body())
    }

    /// What a `links.next` leads to: its host is the gateway's idea of itself, which need
    /// not be ours.
    pub(super) async fn page(&self, link: &str) -> Result<Value, CommandError> {
        let target = link.parse::<Uri>().ok().and_then(|uri| uri.path_and_query().cloned());
        let target = target.ok_or_else(|| strange("the link to the next page is no URL"))?;
        json(self.done("GET", target.as_str()).await?.body())
    }

    /// A resource of one operation, as JSON.
    pub(super) async fn read(&self, which: &str, resource: &str) -> Result<Value, CommandError> {
        json(self.done("GET", &self.path(which, resource)?).await?.body())
    }

    /// A resource of one operation, whatever its status.
    pub(super) async fn fetch(
        &self,
        which: &str,
        resource: &str,
    ) -> Result<Response<Bytes>, CommandError> {
        self.asked("GET", &self.path(which, resource)?).await
    }

    /// Has something done to one operation.
    pub(super) async fn act(
        &self,
        which: &str,
        verb: &str,
    ) -> Result<Response<Bytes>, CommandError> {
        self.done("POST", &self.path(which, verb)?).await
    }

    /// Has something done to one operation, in the way that is wished for.
    pub(super) async fn wish(
        &self,
        which: &str,
        verb: &str,
        wish: &Value,
    ) -> Result<Response<Bytes>, CommandError> {
        let body = Bytes::from(wish.to_string());
        let answer = self.sent("POST", &self.path(which, verb)?, body).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(&answer)) }
    }

    /// Tells the gateway something about one operation.
    pub(super) async fn tell(
        &self,
        which: &str,
        what: &str,
        told: &Value,
    ) -> Result<Value, CommandError> {
        json(self.wish(which, what, told).await?.body())
    }

    /// Another resource of the gateway's, as JSON.
    pub(super) async fn look(&self, resource: &str) -> Result<Value, CommandError> {
        json(self.done("GET", &self.target(resource)).await?.body())
    }

    /// Has something else done.
    pub(super) async fn have_done(&self, resource: &str) -> Result<Value, CommandError> {
        json(self.done("POST", &self.target(resource)).await?.body())
    }

    /// Asks for something with a body, of which no answer but success will do.
    pub(super) async fn ask(
        &self,
        method: &str,
        resource: &str,
        body: &Value,
    ) -> Result<Response<Bytes>, CommandError> {
        let body = Bytes::from(body.to_string());
        let answer = self.sent(method, &self.target(resource), body).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(&answer)) }
    }

    /// The path of one of the gateway's own resources.
    fn target(&self, resource: &str) -> String {
        format!("{}/{resource}", self.prefix)
    }

    fn path(&self, which: &str, resource: &str) -> Result<String, CommandError> {
        Ok(self.target(&format!("operations/{}/{resource}", name_in(which)?)))
    }

    async fn done(&self, method: &str, target: &str) -> Result<Response<Bytes>, CommandError> {
        let answer = self.asked(method, target).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(&answer)) }
    }

    async fn asked(&self, method: &str, target: &str) -> Result<Response<Bytes>, CommandError> {
        let body = Bytes::from_static(if method == "POST" { b"{}" } else { b"" });
        self.sent(method, target, body).await
    }

    async fn sent(
        &self,
        method: &str,
        target: &str,
        body: Bytes,
    ) -> Result<Response<Bytes>, CommandError> {
        let request = Request::builder().method(method).uri(format!("{}{target}", self.origin));
        // What it says is JSON, so that the listener knows it is not a page's form.
        let request = request.header(CONTENT_TYPE, "application/json");
        let request = request.body(body).map_err(|error| CommandError::Usage(error.to_string()))?;
        let answer = self.http.send(self.patience, request).await;
        answer.map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &HttpError) -> CommandError {
        CommandError::Failed(format!(
            "no gateway answers at {}: {error}; start one with `cloakroom serve`, or say where \
             its admin listener is (it is printed at start) with --admin http://HOST:PORT",
            self.origin
        ))
    }
}

/// The id or ticket in an argument, which may be a whole URL.
fn name_in(which: &str) -> Result<&str, CommandError> {
    let rest = which.rsplit_once("/operations/").map_or(which, |(_, rest)| rest);
    let name = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.~".contains(&octet);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(CommandError::Usage(format!(
            "`{which}` is not an operation's id; take one from `cloakroom ops list`, or from \
             Operation-Id or Location of a 202"
        )));
    }
    Ok(name)
}

/// What the gateway says about why not; where its words are for clients, ours are for
/// operators.
pub(super) fn refusal(answer: &Response<Bytes>) -> CommandError {
    let problem: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    match problem["type"].as_str() {
        Some("urn:cloakroom:problem:no-such-operation") => {
            return CommandError::Failed(
                "no operation has this id: it was never accepted here, or its retention has \
                 passed; `cloakroom ops list` shows what there is"
                    .to_owned(),
            );
        }
        Some("urn:cloakroom:problem:no-such-subscription") => {
            let says = "no subscription has this id; `cloakroom webhooks list` shows them";
            return CommandError::Failed(says.to_owned());
        }
        Some("urn:cloakroom:problem:ledger-unavailable") => {
            let says = "the gateway does not reach its ledger at present: see that its database \
                        runs, or that its disk has room (its log says more), then ask again; \
                        look first whether what was to be done has been done";
            return CommandError::Failed(says.to_owned());
        }
        Some("urn:cloakroom:problem:already-retried") => {
            let successor = problem["retriedBy"].as_str().map(plain).unwrap_or_default();
            return CommandError::Failed(format!(
                "it has been retried as {successor}, which has not failed: see what becomes of \
                 that one, or send it once more with --again"
            ));
        }
        Some("urn:cloakroom:problem:no-such-resource") => {
            return strange("the gateway has nothing there");
        }
        _ => {}
    }
    let told = ["detail", "title"].iter().find_map(|name| problem[*name].as_str());
    let told = told.map_or_else(|| "it gives no reason".to_owned(), plain);
    CommandError::Failed(format!("the gateway says {}: {told}", answer.status()))
}

/// The answer is not what a gateway says.
pub(super) fn strange(what: &str) -> CommandError {
    CommandError::Failed(format!(
        "{what}; is this the admin listener of a cloakroom? see --admin and --prefix"
    ))
}

/// A body that has to be JSON.
pub(super) fn json(body: &[u8]) -> Result<Value, CommandError> {
    serde_json::from_slice(body).map_err(|_| strange("the answer is not JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_named_by_id_ticket_or_url() {
        for which in [
            "0192-ab",
            "http://localhost:8080/-/operations/0192-ab",
            "https://api.example.com/-/operations/0192-ab/status?x=1",
        ] {
            assert_eq!(name_in(which).unwrap(), "0192-ab", "{which}");
        }
        for which in ["", "a b", "../metrics", "http://localhost/-/operations/", "ä"] {
            assert!(name_in(which).is_err(), "{which}");
        }
    }

    #[test]
    fn what_is_no_admin_listener_is_refused_with_an_example() {
        for (url, says) in [
            ("localhost:8081", "not a URL"),
            ("nonsense", "not a URL"),
            ("/x", "not a URL"),
            ("a b", "not a URL"),
            ("http://", "not a URL"),
            ("ftp://localhost", "speaks http"),
            ("https://localhost", "tunnel"),
            ("http://localhost/x", "--prefix"),
            ("http://localhost:99999", "port"),
            ("http://admin:password@localhost", "credentials"),
        ] {
            let refused = AdminClient::new(Clock::system(), url, "/-").err().unwrap().to_string();
            assert!(refused.contains("http://127.0.0.1:8081"), "{refused}");
            assert!(refused.contains(says), "{refused}");
        }
        assert!(AdminClient::new(Clock::system(), "http://localhost:8081/", "/-").is_ok());
    }

    #[test]
    fn words_for_clients_about_keys_are_not_repeated_to_operators() {
        let body =
            br#"{"type":"urn:cloakroom:problem:ledger-unavailable","detail":"Idempotency-Key"}"#;
        let answer = Response::builder().status(503).body(Bytes::from_static(body)).unwrap();
        let says = refusal(&answer).to_string();
        assert!(says.contains("ledger") && !says.contains("Idempotency-Key"), "{says}");
    }

    #[test]
    fn a_refusal_repeats_the_problem_s_words() {
        let body = Bytes::from_static(br#"{"title":"conflict","detail":"it has succeeded"}"#);
        let answer = Response::builder().status(409).body(body).unwrap();
        assert_eq!(refusal(&answer).to_string(), "the gateway says 409 Conflict: it has succeeded");
    }

    #[test]
    fn where_there_is_no_such_subscription_the_command_that_lists_them_is_named() {
        let problem = br#"{"type":"urn:cloakroom:problem:no-such-subscription","detail":"above"}"#;
        let body = Bytes::from_static(problem);
        let answer = Response::builder().status(404).body(body).unwrap();
        assert!(refusal(&answer).to_string().contains("`cloakroom webhooks list`"));
    }
}
