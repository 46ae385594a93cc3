//! The monitor that an upstream names in its own 202.
//!
//! Owns which field names it, where it may be polled, and the text that stores it.

use std::fmt;
use std::str::FromStr;

use http::StatusCode;
use http::header::{CONTENT_LOCATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::uri::PathAndQuery;
use serde_json::{Map, Value, json};
use url::Url;

use super::client::{Upstream, resolve};
use super::settings::is_web;
use cloakroom_domain::Timestamp;
use cloakroom_domain::http::location::{OwnOrigins, requested};

/// The longest URL of a monitor that is kept, in octets.
const LONGEST: usize = 8 * 1024;
/// So many lines of a field are looked at: each costs the length of what was requested.
const LINES: usize = 16;

/// Where an upstream tells how its work goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// The field that named it.
    pub named_by: NamedBy,
    /// Where it is asked: on the upstream's own origin, or on one that is followed.
    pub url: Url,
    /// When it was named.
    pub since: Timestamp,
    /// The `Location` that came beside a status monitor: asked once that has succeeded.
    pub location: Option<Url>,
    /// When the status monitor was first seen to have succeeded, while its `Location`
    /// could not be asked.
    pub succeeded_at: Option<Timestamp>,
    /// Whether it is the `Location` that stood beside a status monitor: a 200 there is what was
    /// created.
    pub is_creation: bool,
}

/// The field that named a monitor; it decides how the monitor's answers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// `Operation-Location`: a 200 holds a JSON document whose `status` decides.
    OperationLocation,
    /// `Azure-AsyncOperation`: the same.
    AzureAsyncOperation,
    /// `Location`: any answer but a 202 is the end.
    Location,
    /// `Content-Location`, as FHIR has it: the same.
    ContentLocation,
}

/// The monitor that an answer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedMonitor {
    /// None.
    Nothing,
    /// One that may be asked.
    Monitor(Box<Monitor>),
    /// Only such as may not be followed: the origin of the first one, or what was written
    /// where that is no URL.
    NotFollowed(String),
}

impl NamedBy {
    /// In the order in which they are looked for.
    const ALL: [Self; 4] =
        [Self::OperationLocation, Self::AzureAsyncOperation, Self::Location, Self::ContentLocation];

    /// Whether the document of a 200 holds a `status`.
    pub const fn holds_status(self) -> bool {
        matches!(self, Self::OperationLocation | Self::AzureAsyncOperation)
    }

    /// Whether what this field names tells of the work as well as the monitor that was named first
    /// and may not be followed, if there is one.
    fn may_stand_for(self, refused: Option<&(Self, String)>) -> bool {
        refused.is_none_or(|(named_by, _)| self == *named_by || self.holds_status())
    }

    const fn field(self) -> HeaderName {
        match self {
            Self::OperationLocation => HeaderName::from_static("operation-location"),
            Self::AzureAsyncOperation => HeaderName::from_static("azure-asyncoperation"),
            Self::Location => LOCATION,
            Self::ContentLocation => CONTENT_LOCATION,
        }
    }
}

/// A text does not name a monitor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an upstream's monitor")]
pub struct UnknownMonitor;

impl Monitor {
    /// A monitor that has just been named.
    pub fn new(named_by: NamedBy, url: Url, since: Timestamp) -> Self {
        let (location, succeeded_at, is_creation) = (None, None, false);
        Self { named_by, url, since, location, succeeded_at, is_creation }
    }

    /// The `Location` beside a status monitor that has succeeded, once it is asked alone.
    pub(super) fn of_creation(url: Url, since: Timestamp) -> Self {
        Self { is_creation: true, ..Self::new(NamedBy::Location, url, since) }
    }
}

impl fmt::Display for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut state = Map::new();
        state.insert("namedBy".to_owned(), json!(self.named_by.field().as_str()));
        state.insert("url".to_owned(), json!(self.url.as_str()));
        state.insert("since".to_owned(), json!(self.since.as_micros()));
        if let Some(location) = &self.location {
            state.insert("location".to_owned(), json!(location.as_str()));
        }
        if let Some(at) = self.succeeded_at {
            state.insert("succeededAt".to_owned(), json!(at.as_micros()));
        }
        if self.is_creation {
            state.insert("isCreation".to_owned(), json!(true));
        }
        write!(f, "{}", Value::Object(state))
    }
}

/// Members that are not known are passed over: a later release may have written them.
impl FromStr for Monitor {
    type Err = UnknownMonitor;

    fn from_str(text: &str) -> Result<Self, UnknownMonitor> {
        let state: Map<String, Value> = serde_json::from_str(text).map_err(|_| UnknownMonitor)?;
        let text = |name: &str| state.get(name).and_then(Value::as_str);
        let url = |name: &str| text(name).and_then(|it| Url::parse(it).ok());
        let time = |name: &str| state.get(name).and_then(Value::as_i64).map(Timestamp::from_micros);
        let field = text("namedBy").ok_or(UnknownMonitor)?;
        let named_by = NamedBy::ALL.into_iter().find(|one| one.field() == field);
        Ok(Self {
            named_by: named_by.ok_or(UnknownMonitor)?,
            url: url("url").ok_or(UnknownMonitor)?,
            since: time("since").ok_or(UnknownMonitor)?,
            location: url("location"),
            succeeded_at: time("succeededAt"),
            is_creation: state.get("isCreation").and_then(Value::as_bool).unwrap_or_default(),
        })
    }
}

impl Upstream {
    /// The monitor that an answer to a request for `target` names; only a 202 does. One that may not
    /// be followed is passed over where the same field, or another one for status monitors, names
    /// one that may: what tells of the work is not replaced by what only tells of a place.
    /// `public` is what the upstream may call the gateway.
    pub fn monitor_of(
        &self,
        (status, fields): (StatusCode, &HeaderMap),
        target: &PathAndQuery,
        public: &[Url],
        now: Timestamp,
    ) -> NamedMonitor {
        if status != StatusCode::ACCEPTED {
            return NamedMonitor::Nothing;
        }
        let here = self.url_of(target);
        let mut refused: Option<(NamedBy, String)> = None;
        let mut found: Option<Monitor> = None;
        for named_by in NamedBy::ALL {
            for value in fields.get_all(named_by.field()).iter().take(LINES) {
                let Some(place) = self.place(value, &here, public) else { continue };
                match (place, &mut found) {
                    // The answer describes what was asked for, not how the work goes.
                    (Ok(url), _) if named_by == NamedBy::ContentLocation && url == here => {}
                    (Ok(url), None) if named_by.may_stand_for(refused.as_ref()) => {
                        found = Some(Monitor::new(named_by, url, now));
                    }
                    (Ok(_), None) => {}
                    (Ok(url), Some(monitor)) => beside(monitor, named_by, url),
                    (Err(what), _) => refused = refused.or(Some((named_by, what))),
                }
            }
        }
        match (found, refused) {
            (Some(monitor), _) => NamedMonitor::Monitor(Box::new(monitor)),
            (None, Some((_, what))) => NamedMonitor::NotFollowed(what),
            (None, None) => NamedMonitor::Nothing,
        }
    }

    /// Where a value leads to that may be asked, or what it names otherwise; none where it
    /// is empty.
    fn place(
        &self,
        value: &HeaderValue,
        here: &Url,
        public: &[Url],
    ) -> Option<Result<Url, String>> {
        if value.as_bytes().trim_ascii().is_empty() {
            return None;
        }
        let Some(url) = resolve(here, value) else {
            return Some(Err(String::from_utf8_lossy(value.as_bytes()).chars().take(80).collect()));
        };
        let asked = self.asked_at(&url, public).filter(|url| url.as_str().len() <= LONGEST);
        Some(asked.ok_or_else(|| url.origin().ascii_serialization()))
    }

    /// Where a URL is asked, if it may be: what is the gateway's own, at the upstream.
    pub(super) fn asked_at(&self, url: &Url, public: &[Url]) -> Option<Url> {
        if self.is_followed(url) {
            return Some(url.clone());
        }
        let upstream = &self.settings().origin;
        let path = OwnOrigins { upstream, public }.path_of(url).filter(|_| is_web(url))?;
        Some(requested(upstream, &path))
    }
}

/// Takes note of a `Location` beside a status monitor.
fn beside(monitor: &mut Monitor, named_by: NamedBy, url: Url) {
    let is_new = monitor.location.is_none() && url != monitor.url;
    if named_by == NamedBy::Location && monitor.named_by.holds_status() && is_new {
        monitor.location = Some(url);
    }
}
