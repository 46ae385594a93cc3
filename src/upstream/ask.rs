//! Asking an upstream's own monitor how the work goes.

use http::header::{self, HeaderMap, HeaderValue};
use serde_json::{Map, Value};
use url::Url;

use super::broken::SentMarker;
use super::client::{REDIRECTS, Upstream, resolve};
use super::monitor::{Monitor, NamedBy};
use super::reply::Reply;
use super::settings::is_web;

/// How much of a document is read to find its `status`, in octets.
const LONGEST_DOCUMENT: usize = 64 * 1024;
/// What a failure counts as that was told in the document of a 200: the status with
/// which clients are answered where the upstream's own would mislead them.
const TOLD_FAILURE: u16 = 424;

/// What an upstream's monitor says.
#[derive(Debug)]
pub enum Asked {
    /// The work goes on, or the monitor could not be asked.
    StillPending {
        /// `Retry-After`, as it came.
        retry_after: Option<HeaderValue>,
        /// Why it could not be asked, for logs.
        trouble: Option<String>,
    },
    /// The work has ended, and this is the answer.
    Finished {
        /// What the answer counts as: its own status, except that a failure that the
        /// document of a 200 tells is 424. With `redirect_is_success`, an `Answer` of
        /// this status decides success.
        status: u16,
        /// What the upstream created, where a 201, 301, 302 or 303 says so: an absolute URL.
        created: Option<String>,
        /// The answer, its body unread.
        reply: Box<Reply>,
    },
}

impl Upstream {
    /// Asks a monitor. `fields` go to the upstream's own origin only; elsewhere only
    /// `Accept` and `User-Agent` of them. There is no time limit beyond that of
    /// connecting.
    ///
    /// A monitor on an origin that is no longer followed is not asked: pending until the
    /// deadline, so that putting the origin back mends it.
    pub async fn ask(&self, monitor: &Monitor, fields: &HeaderMap, marker: &SentMarker) -> Asked {
        let mut url = monitor.url.clone();
        let mut redirects = 0;
        loop {
            if !self.is_followed(&url) {
                return trouble("the monitor's origin is not followed; list it in follow".into());
            }
            let reply = match self.get(&url, fields, marker).await {
                Ok(reply) => reply,
                Err(broken) => return trouble(broken.to_string()),
            };
            match self.moved(&url, &reply) {
                Some(next) if redirects < REDIRECTS => url = next,
                _ => return judge(monitor.named_by, &url, reply).await,
            }
            redirects += 1;
        }
    }

    /// Where else the monitor is, if the answer says so.
    fn moved(&self, url: &Url, reply: &Reply) -> Option<Url> {
        if !matches!(reply.status.as_u16(), 307 | 308) {
            return None;
        }
        let next = resolve(url, reply.fields.get(header::LOCATION)?)?;
        self.is_followed(&next).then_some(next)
    }
}

async fn judge(named_by: NamedBy, url: &Url, mut reply: Reply) -> Asked {
    let status = reply.status.as_u16();
    match status {
        202 | 408 | 425 | 429 | 500..=599 => pending(&reply.fields),
        200 if named_by == NamedBy::OperationLocation => {
            match reply.body.peek(LONGEST_DOCUMENT).await {
                Ok(document) => match document.as_deref().and_then(told) {
                    Some(Told::Pending) => pending(&reply.fields),
                    Some(Told::Failed) => finished(TOLD_FAILURE, None, reply),
                    Some(Told::Succeeded) | None => finished(status, None, reply),
                },
                Err(broken) => trouble(broken.to_string()),
            }
        }
        201 | 301..=303 => {
            let created = reply.fields.get(header::LOCATION).and_then(|it| resolve(url, it));
            let created = created.filter(is_web).map(String::from);
            finished(status, created, reply)
        }
        _ => finished(status, None, reply),
    }
}

fn pending(fields: &HeaderMap) -> Asked {
    let retry_after = fields.get(header::RETRY_AFTER).cloned();
    Asked::StillPending { retry_after, trouble: None }
}

const fn trouble(why: String) -> Asked {
    Asked::StillPending { retry_after: None, trouble: Some(why) }
}

fn finished(status: u16, created: Option<String>, reply: Reply) -> Asked {
    Asked::Finished { status, created, reply: Box::new(reply) }
}

#[derive(Clone, Copy)]
enum Told {
    Pending,
    Succeeded,
    Failed,
}

/// What a document says of the work; none if it is not an object with a `status`. As
/// clients of such documents do, an unknown status is taken for pending.
fn told(document: &[u8]) -> Option<Told> {
    let document: Map<String, Value> = serde_json::from_slice(document).ok()?;
    let status = document.get("status")?.as_str()?;
    Some(match status.to_ascii_lowercase().as_str() {
        "succeeded" | "completed" => Told::Succeeded,
        "failed" | "canceled" | "cancelled" => Told::Failed,
        _ => Told::Pending,
    })
}
