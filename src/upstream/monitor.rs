//! The monitor that an upstream names in its own 202.

use std::fmt;
use std::str::FromStr;

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, LOCATION};
use http::uri::PathAndQuery;
use url::Url;

use super::client::{Upstream, resolve};

/// The longest URL of a monitor that is kept, in octets.
const LONGEST: usize = 8 * 1024;
const OPERATION_LOCATION: HeaderName = HeaderName::from_static("operation-location");
const TELLS_BY_DOCUMENT: &str = "operation-location ";

/// Where an upstream tells how its work goes. Written as a text it is the URL, behind
/// `operation-location ` where that field named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// The field that named it.
    pub named_by: NamedBy,
    /// Where it is.
    pub url: Url,
}

/// The field that named a monitor; it decides how the monitor's answers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// `Location`: any answer but a 202 is the end.
    Location,
    /// `Operation-Location`: a 200 holds a JSON document whose `status` decides.
    OperationLocation,
}

/// A text does not name a monitor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an upstream's monitor")]
pub struct UnknownMonitor;

impl fmt::Display for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.named_by == NamedBy::OperationLocation {
            f.write_str(TELLS_BY_DOCUMENT)?;
        }
        f.write_str(self.url.as_str())
    }
}

impl FromStr for Monitor {
    type Err = UnknownMonitor;

    fn from_str(text: &str) -> Result<Self, UnknownMonitor> {
        let (named_by, url) = match text.strip_prefix(TELLS_BY_DOCUMENT) {
            Some(url) => (NamedBy::OperationLocation, url),
            None => (NamedBy::Location, text),
        };
        Ok(Self { named_by, url: Url::parse(url).map_err(|_| UnknownMonitor)? })
    }
}

impl Upstream {
    /// The monitor that an answer to a request for `target` names: only a 202 does, by
    /// `Location` or else `Operation-Location`, and only on the upstream's own origin or
    /// one that is followed.
    pub fn monitor_of(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        target: &PathAndQuery,
    ) -> Option<Monitor> {
        if status != StatusCode::ACCEPTED {
            return None;
        }
        let named = |field: &HeaderName, named_by| {
            let url = resolve(&self.url_of(target), fields.get(field)?)?;
            let kept = self.is_followed(&url) && url.as_str().len() <= LONGEST;
            kept.then_some(Monitor { named_by, url })
        };
        named(&LOCATION, NamedBy::Location)
            .or_else(|| named(&OPERATION_LOCATION, NamedBy::OperationLocation))
    }
}
