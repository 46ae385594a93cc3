//! Callbacks: from the fields of a request to the receiver of its operation's events.
//!
//! Owns `Callback-Url`, `Callback-Events` and the preference `callback`. Its invariants:
//! where a callback goes is judged before anything is stored, and of a request that is refused
//! nothing is; and callbacks to an origin that this node has seen of a principal within a day
//! cost nothing further. It must not know how messages are sent, nor who is going to judge
//! again before anything is dialled.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use url::Url;

use super::route::Route;
use crate::api::webhooks::callback_keys;
use crate::api::{Api, Problem, UrlRejection};
use cloakroom_domain::http::expectation;
use cloakroom_domain::http::prefer::Preferences;
use cloakroom_domain::webhooks::{
    BadDestination, Callback, CallbackAllowlist, Destination, ReceiverKey, Topic, Topics,
};
use cloakroom_domain::{Principal, Timestamp};
use cloakroom_ledger::{FirstCallback, NewCallbacks, USED};

const URL: &str = "Callback-Url";
const EVENTS: &str = "Callback-Events";
/// A callback has no fields of its own, in which credentials could go.
const NO_USER: &str = "leave out what stands before the @: no credentials are sent to a callback, \
                       which is known by its signature";

/// So many receivers are remembered before they are looked up anew.
const MOST_KNOWN: usize = 10_000;

/// A callback that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallbackRequest {
    to: Destination,
    topics: Topics,
    /// The field that asked for it.
    field: &'static str,
    /// Whether the preference is what is done.
    pub(super) preferred: bool,
}

impl CallbackRequest {
    /// The callback that the head of a request asks for.
    pub(super) fn read(
        headers: &HeaderMap,
        route: &Route,
        api: &Api,
    ) -> Result<Option<Self>, Problem> {
        let url = single(headers, URL)?;
        let events = single(headers, EVENTS)?;
        let preferred = preferred(headers);
        if url.is_none() && preferred.is_none() {
            let says = "says nothing without a Callback-Url: send both, or neither";
            return match events {
                None => Ok(None),
                Some(_) => Err(Problem::malformed_field(EVENTS, format!("{EVENTS} {says}"))),
            };
        }
        if route.callbacks == CallbackAllowlist::Off {
            return Err(Problem::callbacks_off(if url.is_some() { URL } else { "Prefer" }));
        }
        let topics = events.map_or(Ok(Topics::ENDS), topics)?;
        let wished = preferred.and_then(|preferred| preferred.url);
        let (field, text) = match (url, &wished) {
            (Some(url), _) => (URL, url.to_owned()),
            (None, Some(wished)) => ("Prefer", wished.clone()),
            // A preference that cannot be read is left out.
            (None, None) => return Ok(None),
        };
        let preferred = wished.is_some_and(|wished| wished == text);
        let rules = &api.webhooks.rules;
        let to = Destination::parse(&text, rules).map_err(|bad| match bad {
            BadDestination::UserInfo => Problem::destination_refused(field, NO_USER),
            bad => UrlRejection::from(bad).refused(field),
        })?;
        let taken = Url::parse(to.as_str()).is_ok_and(|url| route.callbacks.takes(&url));
        if !taken {
            let why = "this route takes no callbacks to that url: the operator says which in the \
                       route's callbacks";
            return Err(Problem::destination_refused(field, why));
        }
        if api.settings.public.lasting().is_none() {
            return Err(Problem::no_public_url().with("field", field));
        }
        Ok(Some(Self { to, topics, field, preferred }))
    }

    /// The part of a request that a repeat must have, too.
    pub(super) fn fingerprint(&self) -> String {
        format!("{:x} {}", self.topics.bits(), self.to.as_str())
    }
}

/// The one line of a field.
fn single<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Problem> {
    let mut lines = headers.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        let detail = format!("{name} is there more than once: send it on one line");
        return Err(Problem::malformed_field(name, detail));
    }
    let text = line.to_str().map_err(|_| {
        Problem::malformed_field(name, format!("{name} has characters other than ascii"))
    })?;
    Ok(Some(text.trim()))
}

/// A callback that is preferred.
struct PreferredCallback {
    /// Where to, as far as that can be read.
    url: Option<String>,
}

/// The callback that is preferred, if one is.
fn preferred(headers: &HeaderMap) -> Option<PreferredCallback> {
    if !headers.contains_key("prefer") {
        return None;
    }
    let preferences = Preferences::of(headers);
    let callback = preferences.get(expectation::CALLBACK)?;
    Some(PreferredCallback { url: callback.parameter("url").map(str::to_owned) })
}

fn topics(list: &str) -> Result<Topics, Problem> {
    let known = Topic::ALL.into_iter().filter(|topic| topic.is_of_operation());
    let known: Vec<Topic> = known.collect();
    let names = || known.iter().map(|topic| topic.as_str()).collect::<Vec<_>>().join(", ");
    let topic = |name: &str| {
        let found = known.iter().find(|topic| topic.as_str() == name);
        found.copied().ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            let detail = format!("{shown:?} is no event of an operation; there are {}", names());
            Problem::malformed_field(EVENTS, detail)
        })
    };
    let members = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let topics: Topics = members.map(topic).collect::<Result<_, _>>()?;
    if topics.is_empty() {
        let detail = format!("name what to be told of: {}", names());
        return Err(Problem::malformed_field(EVENTS, detail));
    }
    Ok(topics)
}

/// Receivers of callbacks that this node has read, with the time of the read.
#[derive(Debug, Default)]
pub(super) struct CallbackReceivers(Mutex<HashMap<(Principal, String), (ReceiverKey, Timestamp)>>);

impl CallbackReceivers {
    fn find(&self, key: &(Principal, String), now: Timestamp) -> Option<ReceiverKey> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (receiver, at) = known.get(key)?;
        // The ledger forgets those that are not asked for.
        (now.since(*at) < USED).then_some(*receiver)
    }

    fn keep(&self, key: (Principal, String), receiver: ReceiverKey, now: Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(key, (receiver, now));
    }

    /// Judges where a callback goes with what its name stands for now, unless that is known.
    pub(super) async fn judge(
        &self,
        asked: &CallbackRequest,
        principal: &Principal,
        api: &Api,
    ) -> Result<(), Problem> {
        let key = (principal.clone(), asked.to.origin());
        if self.find(&key, api.clock.now()).is_some() {
            return Ok(());
        }
        let judged = api.webhooks.probe.judge(asked.to.as_str(), principal).await;
        judged.map_err(|why| why.refused(asked.field))?;
        Ok(())
    }

    /// Where a callback goes, as the ledger keeps it; or what it is to make with the operation,
    /// because no callback has gone there lately.
    pub(super) async fn callback(
        &self,
        asked: CallbackRequest,
        principal: &Principal,
        api: &Api,
    ) -> Result<(Option<Callback>, Option<FirstCallback>), Problem> {
        let CallbackRequest { to, topics, .. } = asked;
        let (origin, url) = (to.origin(), to.as_str().to_owned());
        let key = (principal.clone(), origin.clone());
        let now = api.clock.now();
        let mut receiver = self.find(&key, now);
        if receiver.is_none() {
            receiver = api.ledger.callbacks(principal, &origin, now).await?;
            receiver.into_iter().for_each(|receiver| self.keep(key.clone(), receiver, now));
        }
        if let Some(receiver) = receiver {
            return Ok((Some(Callback { receiver, url, topics }), None));
        }
        let public_base = api.settings.public.lasting().unwrap_or_default().to_owned();
        let callbacks = NewCallbacks {
            principal: principal.clone(),
            origin,
            public_base,
            keys: callback_keys(&api.webhooks, principal)?,
            at: now,
        };
        Ok((None, Some(FirstCallback { callbacks, url, topics })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_named_and_only_those_of_operations() {
        let read = |list: &str| topics(list).map_err(|problem| problem.status().as_u16());
        let both = read("operation.started, operation.failed,").unwrap();
        assert!(both.has(Topic::Started) && both.has(Topic::Failed) && !both.has(Topic::Accepted));
        for list in ["", ",", "operation.exploded", "webhook.disabled", "webhook.ping", "failed"] {
            assert_eq!(read(list), Err(400), "{list}");
        }
    }
}
