//! The monitor client: polls an upstream's own monitor.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use url::Url;

use super::client::{REDIRECTS, Upstream, resolve};
use super::error::SentMarker;
use super::monitor::{Monitor, NamedBy};
use super::reply::UpstreamResponse;
use super::settings::is_web;
use cloakroom_domain::Timestamp;
use cloakroom_domain::job::{self, JobState};
use cloakroom_domain::operation::{Doubt, told_status};

/// How much of a document is read to find a state in it, in octets.
const LONGEST_DOCUMENT: usize = 1 << 20;
/// What a failure counts as that was told in the document of a 200: the status with
/// which clients are answered where the upstream's own would mislead them.
const TOLD_FAILURE: u16 = 424;
/// What is said of a document that may tell of any state.
const NO_STATE: &str = "its status document cannot be read, or tells no state within the first MiB; \
    say where the state stands in upstreams.*.monitor";
/// How long a 404 means that the monitor is not there yet: it may come to be behind the
/// answer that named it, or on one machine after the other.
const APPEARING: Duration = Duration::from_mins(1);
/// How long a `Location` is asked after its status monitor has succeeded, where asking
/// meets trouble. Then the status monitor's word alone is the end.
const SETTLING: Duration = Duration::from_mins(10);

/// The parameters of a poll.
#[derive(Clone, Copy, Debug)]
pub struct MonitorQuery<'a> {
    /// Go to the upstream's own origin only; elsewhere only `Accept` and `User-Agent` of
    /// them.
    pub fields: &'a HeaderMap,
    /// Says afterwards whether anything was sent.
    pub marker: &'a SentMarker,
    /// The URLs by which the upstream may name the gateway.
    pub public: &'a [Url],
    /// The path under which the gateway answers itself. What is there on the upstream
    /// (another gateway's result) no client can reach.
    pub prefix: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// The answer of an upstream's monitor.
#[derive(Debug)]
pub enum MonitorAnswer {
    /// The work goes on, or the monitor could not be asked.
    StillPending {
        /// `Retry-After`, as it came.
        retry_after: Option<HeaderValue>,
        /// Why it could not be asked, or which unknown word it said.
        trouble: Option<String>,
        /// What is asked from now on, where that is something else.
        next: Option<Box<Monitor>>,
    },
    /// The work has ended, and this is the answer.
    Finished {
        /// What the answer counts as: its own status, except that a failure that the
        /// document of a 200 tells is 424.
        status: u16,
        /// What the upstream created, where it says so: an absolute URL.
        created: Option<Url>,
        /// The answer, its body unread.
        reply: Box<UpstreamResponse>,
    },
}

/// An answer, and where it came from.
struct MonitorResponse {
    url: Url,
    was_redirected: bool,
    reply: UpstreamResponse,
}

/// The meaning of one answer.
enum ReplyMeaning {
    Pending { unknown: Option<String> },
    Trouble(String),
    Ended { status: u16, created: Option<Url> },
}

impl Upstream {
    /// Asks a monitor. There is no time limit beyond that of connecting.
    ///
    /// A monitor on an origin that is no longer followed is not asked: pending until the
    /// deadline, so that putting the origin back mends it.
    pub async fn ask(&self, monitor: &Monitor, query: MonitorQuery<'_>) -> MonitorAnswer {
        let mut reached = match Box::pin(self.reach(&monitor.url, query)).await {
            Ok(reached) => reached,
            Err(why) => return trouble(why),
        };
        let age = query.now.since(monitor.since);
        let (status, created) = match self.meaning(monitor.named_by, age, &mut reached).await {
            ReplyMeaning::Ended { status, created } => (status, created),
            other => return other.pending(&reached.reply.fields),
        };
        match &monitor.location {
            Some(location) if matches!(status, 200..=299) && created.is_none() => {
                Box::pin(self.ask_location(monitor, location, query, reached)).await
            }
            Some(location) if status == TOLD_FAILURE && self.is_hidden(location, query) => {
                Box::pin(self.ask_of_failure(location, query, reached)).await
            }
            None if monitor.is_creation && status == 200 && created.is_none() => {
                finished(200, Some(reached.url), reached.reply)
            }
            _ => self.finish(status, created, reached, query).await,
        }
    }

    /// Asks another gateway behind this one for the answer that it calls a failure.
    async fn ask_of_failure(
        &self,
        location: &Url,
        query: MonitorQuery<'_>,
        told: MonitorResponse,
    ) -> MonitorAnswer {
        let mut recorded = None;
        if let Ok(mut reached) = Box::pin(self.reach(location, query)).await
            && let ReplyMeaning::Ended { status: 303, created: Some(url) } =
                self.meaning(NamedBy::Location, Duration::MAX, &mut reached).await
            && self.is_hidden(&url, query)
        {
            recorded = Box::pin(self.reach(&url, query)).await.ok();
        }
        match recorded.filter(|recorded| recorded.reply.is_recorded()) {
            Some(MonitorResponse { reply, .. }) => {
                let recorded = reply.recorded_status();
                let doubt = told.reply.doubt.or(self.settings().doubt_of(recorded));
                let reply = UpstreamResponse { doubt, ..reply };
                // What the upstream's own word calls a failure is none by its status.
                let status = Some(recorded).filter(|status| *status >= 400);
                finished(status.unwrap_or(TOLD_FAILURE), None, reply)
            }
            None => finished(TOLD_FAILURE, None, told.reply),
        }
    }

    /// Asks the `Location` of a job whose status monitor has succeeded.
    async fn ask_location(
        &self,
        monitor: &Monitor,
        location: &Url,
        query: MonitorQuery<'_>,
        told: MonitorResponse,
    ) -> MonitorAnswer {
        let since = monitor.succeeded_at.unwrap_or(query.now);
        let age = query.now.since(since);
        let mut reached = match Box::pin(self.reach(location, query)).await {
            Ok(reached) => reached,
            Err(why) => return self.unsettled(monitor, (since, age), &why, told),
        };
        match self.meaning(NamedBy::Location, age, &mut reached).await {
            // Another gateway on the way: its monitor is followed like a first one.
            ReplyMeaning::Pending { .. } if reached.reply.status == http::StatusCode::ACCEPTED => {
                let next = Monitor::of_creation(location.clone(), query.now);
                pending(&reached.reply.fields, None, Some(next))
            }
            ReplyMeaning::Pending { .. } => {
                self.unsettled(monitor, (since, age), "it is not there yet", told)
            }
            ReplyMeaning::Trouble(why) => self.unsettled(monitor, (since, age), &why, told),
            ReplyMeaning::Ended { status: 200, created: None } => {
                finished(200, Some(reached.url.clone()), reached.reply)
            }
            ReplyMeaning::Ended { status, .. } if reached.reply.status.is_client_error() => {
                tracing::debug!(
                    upstream = &**self.name(),
                    status,
                    "what was created cannot be read"
                );
                finished(told.reply.status.as_u16(), None, told.reply)
            }
            ReplyMeaning::Ended { status, created } => {
                self.finish(status, created, reached, query).await
            }
        }
    }

    /// Asks again for what was created, for a while.
    fn unsettled(
        &self,
        monitor: &Monitor,
        (since, age): (Timestamp, Duration),
        why: &str,
        told: MonitorResponse,
    ) -> MonitorAnswer {
        if age >= SETTLING {
            tracing::warn!(
                upstream = &**self.name(),
                why,
                "what a job has created could not be asked"
            );
            return finished(told.reply.status.as_u16(), None, told.reply);
        }
        let next = Monitor { succeeded_at: Some(since), ..monitor.clone() };
        let next = (next != *monitor).then(|| Box::new(next));
        let trouble = Some(format!("the job has succeeded, and its location: {why}"));
        MonitorAnswer::StillPending { retry_after: None, trouble, next }
    }

    /// Gets a URL, or what it is redirected to. A monitor's redirect is never the end of
    /// the work, only a 303 is.
    async fn reach(&self, url: &Url, query: MonitorQuery<'_>) -> Result<MonitorResponse, String> {
        let mut url = self
            .asked_at(url, query.public)
            .ok_or("the monitor's origin is not followed; list it in follow")?;
        let mut redirects = 0;
        loop {
            let reply = self.get(&url, query.fields, query.marker).await;
            let reply = reply.map_err(|broken| broken.to_string())?;
            let status = reply.status.as_u16();
            if !matches!(status, 301 | 302 | 307 | 308) {
                return Ok(MonitorResponse { url, was_redirected: redirects > 0, reply });
            }
            let next = reply.fields.get(header::LOCATION).and_then(|it| resolve(&url, it));
            let next = next.ok_or_else(|| format!("it answered {status} without a location"))?;
            if redirects == REDIRECTS {
                return Err(format!("it answered {status} again and again"));
            }
            let origin = next.origin().ascii_serialization();
            url = self.asked_at(&next, query.public).ok_or_else(|| {
                format!("it answered {status} to {origin}, which is not followed: a login page?")
            })?;
            redirects += 1;
        }
    }

    async fn meaning(
        &self,
        named_by: NamedBy,
        age: Duration,
        reached: &mut MonitorResponse,
    ) -> ReplyMeaning {
        let status = reached.reply.status.as_u16();
        let ended = ReplyMeaning::Ended { status, created: None };
        match status {
            202 => ReplyMeaning::Pending { unknown: None },
            404 if age < APPEARING => ReplyMeaning::Pending { unknown: None },
            401 | 403 | 407 => ReplyMeaning::Trouble(format!(
                "it answered {status}: see which credentials it wants in upstreams.*.headers"
            )),
            300 | 304..=399 | 408 | 425 | 429 | 500.. => {
                ReplyMeaning::Trouble(format!("it answered {status}"))
            }
            200 => self.document(named_by, reached).await,
            201 | 303 => {
                let named = reached.reply.fields.get(header::LOCATION);
                let named = named.and_then(|it| resolve(&reached.url, it)).filter(is_web);
                match named {
                    Some(url) if status == 303 && job::is_login_path(url.path()) => {
                        ReplyMeaning::Trouble("it answered with a login page".to_owned())
                    }
                    created => ReplyMeaning::Ended { status, created },
                }
            }
            _ => ended,
        }
    }

    async fn document(&self, named_by: NamedBy, reached: &mut MonitorResponse) -> ReplyMeaning {
        let ended = ReplyMeaning::Ended { status: 200, created: None };
        let is_page = is_html(&reached.reply.fields);
        let document = match reached.reply.body.peek(LONGEST_DOCUMENT).await {
            Ok(document) => document,
            Err(broken) => return ReplyMeaning::Trouble(broken.to_string()),
        };
        if is_login_page(reached, is_page, &document) {
            return ReplyMeaning::Trouble("it answered with a login page".to_owned());
        }
        if is_page && named_by.holds_status() {
            return ReplyMeaning::Trouble(
                "it answered with a page, where a status belongs".to_owned(),
            );
        }
        match self.settings().job_words.read(&document, named_by.holds_status()) {
            None if named_by.holds_status() && may_hide(&reached.reply.fields, &document) => {
                ReplyMeaning::Trouble(NO_STATE.to_owned())
            }
            None | Some(JobState::Succeeded) => ended,
            Some(JobState::Failed) => {
                if reached.reply.is_of_a_gateway() {
                    let status = told_status(&document);
                    let recorded = status.map(|status| self.settings().doubt_of(status));
                    let told = Doubt::of_gateway(&document);
                    reached.reply.doubt = told.or(recorded.unwrap_or_default());
                }
                ReplyMeaning::Ended { status: TOLD_FAILURE, created: None }
            }
            Some(JobState::Pending) => ReplyMeaning::Pending { unknown: None },
            Some(JobState::Unknown(word)) => ReplyMeaning::Pending { unknown: Some(word) },
        }
    }

    /// The end. What only another gateway behind this one can show is got from there: no
    /// client could.
    async fn finish(
        &self,
        status: u16,
        created: Option<Url>,
        reached: MonitorResponse,
        query: MonitorQuery<'_>,
    ) -> MonitorAnswer {
        match &created {
            Some(url) if status == 303 && self.is_hidden(url, query) => {
                match Box::pin(self.reach(url, query)).await {
                    Ok(MonitorResponse { reply, .. }) if reply.is_recorded() => {
                        self.recorded(reply).await
                    }
                    Ok(MonitorResponse { reply, .. }) if reply.status.is_server_error() => {
                        trouble(format!("its result answered {}", reply.status.as_u16()))
                    }
                    Ok(_) => finished(status, created, reached.reply),
                    Err(why) => trouble(why),
                }
            }
            _ => finished(status, created, reached.reply),
        }
    }

    /// What another gateway has of the work, and leaves open.
    async fn recorded(&self, mut reply: UpstreamResponse) -> MonitorAnswer {
        let status = reply.recorded_status();
        match reply.gateway_doubt().await {
            Err(broken) => return trouble(broken.to_string()),
            Ok(told) => reply.doubt = told.or(self.settings().doubt_of(status)),
        }
        finished(status, None, reply)
    }

    fn is_hidden(&self, url: &Url, query: MonitorQuery<'_>) -> bool {
        let asked = self.asked_at(url, query.public).filter(|url| self.is_own(url));
        asked.is_some_and(|url| {
            let below = url.path().strip_prefix(query.prefix);
            below.is_some_and(|rest| rest.starts_with("/operations/"))
        })
    }
}

/// Whether a document in which no state was found may tell of any.
fn may_hide(fields: &HeaderMap, document: &[u8]) -> bool {
    let text = |name| fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let says_json = text(header::CONTENT_TYPE).to_ascii_lowercase().contains("json");
    let is_packed = !matches!(text(header::CONTENT_ENCODING), "" | "identity");
    job::hides_state(document, says_json, is_packed, document.len() <= LONGEST_DOCUMENT)
}

fn is_html(fields: &HeaderMap) -> bool {
    let kind = fields.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.trim_ascii_start().to_ascii_lowercase();
    kind.starts_with(b"text/html") || kind.starts_with(b"application/xhtml")
}

fn is_login_page(reached: &MonitorResponse, is_page: bool, document: &[u8]) -> bool {
    let (url, moved) = (&reached.url, reached.was_redirected);
    (moved && job::is_login_path(url.path()))
        || (is_page && job::asks_for_password(document))
        || (is_page && moved && job::is_login_address(url.path(), url.query()))
}

impl ReplyMeaning {
    fn pending(self, fields: &HeaderMap) -> MonitorAnswer {
        match self {
            Self::Trouble(why) => pending(fields, Some(why), None),
            Self::Pending { unknown: Some(word) } => {
                let trouble = format!(
                    "it says {word:?}, which is taken for pending; name it, or where the state stands, \
                     in upstreams.*.monitor"
                );
                pending(fields, Some(trouble), None)
            }
            Self::Pending { unknown: None } | Self::Ended { .. } => pending(fields, None, None),
        }
    }
}

fn pending(fields: &HeaderMap, trouble: Option<String>, next: Option<Monitor>) -> MonitorAnswer {
    let retry_after = fields.get(header::RETRY_AFTER).cloned();
    MonitorAnswer::StillPending { retry_after, trouble, next: next.map(Box::new) }
}

const fn trouble(why: String) -> MonitorAnswer {
    MonitorAnswer::StillPending { retry_after: None, trouble: Some(why), next: None }
}

fn finished(status: u16, created: Option<Url>, reply: UpstreamResponse) -> MonitorAnswer {
    MonitorAnswer::Finished { status, created, reply: Box::new(reply) }
}
