//! `[upstreams.NAME]`: the services behind the gateway.
//!
//! Owns what is known of each before it is called. Its invariant: values of configured
//! header fields are marked sensitive and never shown.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderName, HeaderValue};
use url::{Origin, Url};

use super::{
    enums::{HeaderCase, Reuse},
    raw_value::{LocatedValue, RawTable, RawValue},
    reader::{ConfigReader, Section, variable},
    setting::{Setting, header_name, is_of_the_connection},
    units::{MOMENT, Size, hours, minutes, seconds},
    urls::OriginUrl,
};
use cloakroom_domain::http::hygiene::as_read;
use cloakroom_domain::job::JobWords;
use cloakroom_domain::limit::Rate;
use cloakroom_domain::operation::is_ambiguous;

/// A service behind the gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamConfig {
    /// Scheme, host and port; the path is always `/`.
    pub url: Url,
    /// How many attempts may be on their way to it at once.
    pub max_in_flight: u32,
    /// How many attempts may begin in a time; as many as come where there is none.
    pub rate: Option<Rate>,
    /// Whether it is sent the client's `Host` instead of its own.
    pub preserve_host: bool,
    /// Fields that every request to it gets, in place of the client's; values are marked
    /// sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Foreign origins whose monitors may be followed.
    pub follow: Vec<Origin>,
    /// Where and in which words the documents of its monitors tell how a job stands.
    pub monitor: JobWords,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long it may be silent on a request that is only passed on.
    pub response_timeout: Duration,
    /// The longest answer that is recorded, in bytes.
    pub max_response: usize,
    /// Of 502, 504 and their like, those that say here that the request was not processed.
    pub unprocessed: Vec<u16>,
    /// The longest head of an answer, in bytes.
    pub max_response_headers: usize,
    /// Whether connections are used again.
    pub reuse: Reuse,
    /// How the names of fields are written.
    pub header_case: HeaderCase,
}

/// The upstream that `--upstream` sets.
pub(super) const DEFAULT: &str = "default";

/// Reads every upstream; one whose URL is missing is a fault and nothing.
pub(super) fn read(reading: &mut ConfigReader) -> BTreeMap<String, Option<UpstreamConfig>> {
    let mut tables = reading.named_tables("upstreams");
    if reading.has_flag("upstreams.default.url") {
        tables.entry(DEFAULT.to_owned()).or_default();
    }
    for name in reading.named_by_environment("upstreams", "url") {
        let same = |known: &String| variable(known) == variable(&name);
        if !tables.keys().any(same) {
            tables.insert(name, RawTable::new());
        }
    }
    let mut upstreams = BTreeMap::new();
    for (name, table) in tables {
        let upstream = reading.table(format!("upstreams.{name}"), table, upstream);
        upstreams.insert(name, upstream);
    }
    upstreams
}

fn upstream(section: &mut Section<'_>) -> Option<UpstreamConfig> {
    let url = section.required::<OriginUrl>("url", "say where it is, like http://localhost:9000");
    // Everything is read before a missing URL ends it: each setting has faults of its own.
    let max_in_flight = section.within("max_in_flight", 64, 1..=65_536);
    let rate = section.get("rate", None);
    let preserve_host = section.get("preserve_host", false);
    let headers = headers(section);
    let follow = section.get("follow", Vec::new());
    let monitor = section.table("monitor", job_words);
    let connect_timeout = section.within("connect_timeout", seconds(10), MOMENT..=minutes(10));
    let response_timeout = section.within("response_timeout", seconds(60), MOMENT..=hours(24));
    let max_response = section.within("max_response", Size::mib(16), Size(1)..=Size::mib(1024)).0;
    let unprocessed = section.get::<Vec<AmbiguousStatus>>("unprocessed", Vec::new());
    let heads = Size::kib(8)..=Size::mib(4);
    let max_response_headers = section.within("max_response_headers", Size::kib(256), heads).0;
    let reuse = section.get("reuse", Reuse::Auto);
    let header_case = section.get("header_case", HeaderCase::Lower);
    Some(UpstreamConfig {
        url: url?.0,
        max_in_flight,
        rate,
        preserve_host,
        headers,
        follow,
        monitor,
        connect_timeout,
        response_timeout,
        max_response,
        unprocessed: unprocessed.into_iter().map(|status| status.0).collect(),
        max_response_headers,
        reuse,
        header_case,
    })
}

fn job_words(section: &mut Section<'_>) -> JobWords {
    let status = section.checked("status", None::<String>, |pointer| match pointer {
        Some(text) if !text.starts_with('/') => {
            Err(format!("`{text}` is not a JSON pointer; write one like /status or /job/state"))
        }
        _ => Ok(()),
    });
    let succeeded: Vec<String> = section.get("succeeded", Vec::new());
    let failed: Vec<String> = section.get("failed", Vec::new());
    if status.is_none() && !(succeeded.is_empty() && failed.is_empty()) {
        let says = "is missing; say where the words stand, like status = \"/status\"";
        section.fault_about("status", says);
    }
    if let Some(both) = succeeded.iter().find(|word| failed.contains(word)) {
        section.fault_about("failed", format!("`{both}` is in succeeded too; leave out one"));
    }
    JobWords { status, succeeded, failed }
}

/// A status that leaves open whether the request was processed.
#[derive(Clone, Debug, PartialEq)]
struct AmbiguousStatus(u16);

impl Setting for AmbiguousStatus {
    fn read(given: &RawValue) -> Result<Self, String> {
        let number = given.whole()?;
        let status = u16::try_from(number).ok().filter(|status| is_ambiguous(*status));
        status.map(Self).ok_or_else(|| {
            format!("only 502, 504, 520, 522, 524 and 527 can be listed; {number} counts as it is")
        })
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

fn headers(section: &mut Section<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let path = section.dotted("headers");
    let mut headers = Vec::new();
    for (name, located) in section.entries("headers") {
        let dotted = format!("{path}.{name}");
        let source = located.source.clone();
        match header(section.reading, &name, &located) {
            Ok((name, value, shown)) => {
                section.reading.row(dotted, shown, source);
                headers.push((name, value));
            }
            Err(says) => section.reading.fault(dotted, source, says),
        }
    }
    headers
}

/// Reads one field, and what may be shown of it.
fn header(
    reading: &mut ConfigReader,
    name: &str,
    located: &LocatedValue,
) -> Result<(HeaderName, HeaderValue, String), String> {
    let name = header_name(name)?;
    if let Some(why) = not_settable(&name) {
        return Err(format!("cannot be set: {why}"));
    }
    let text = located.given.text()?;
    let (value, shown) = match text.strip_prefix("env:") {
        None => (text.to_owned(), "(hidden)".to_owned()),
        Some(variable) => {
            let value = reading.borrow_variable(variable).ok_or_else(|| {
                format!("the environment variable {variable} is not set, or empty; set it")
            })?;
            (value, text.to_owned())
        }
    };
    let mut value = HeaderValue::from_str(&value)
        .map_err(|_| "a field's value is one line of printable ASCII".to_owned())?;
    value.set_sensitive(true);
    Ok((name, value, shown))
}

/// Why a field is not the user's to set.
fn not_settable(name: &HeaderName) -> Option<&'static str> {
    let text = &*as_read(name.as_str());
    if text == "host" {
        return Some("the upstream gets its own host, or the client's with preserve_host = true");
    }
    if is_of_the_connection(name) {
        return Some("it belongs to the connection");
    }
    let gateways = text.starts_with("operation-")
        || matches!(text, "idempotency-key" | "forwarded" | "via" | "traceparent" | "cdn-loop")
        || text.starts_with("x-forwarded-");
    gateways.then_some("the gateway sets it itself")
}

#[cfg(test)]
mod tests {
    use super::super::{
        Config,
        enums::{HeaderCase, Reuse},
        testing::{faults, load, load_with, read, rows},
    };

    #[test]
    fn an_upstream_needs_nothing_but_its_url() {
        let upstream = &read("").upstreams["default"];
        assert_eq!(upstream.url.as_str(), "http://localhost:9000/");
        assert_eq!((upstream.max_in_flight, upstream.preserve_host), (64, false));
        assert!(upstream.headers.is_empty() && upstream.follow.is_empty());
        assert_eq!(upstream.connect_timeout.as_secs(), 10);
        assert_eq!(upstream.response_timeout.as_secs(), 60);
        assert_eq!(upstream.max_response, 16 << 20);
        assert!(faults("[upstreams.orders]").contains("upstreams.orders.url"));
    }

    #[test]
    fn an_upstream_without_a_url_still_has_its_other_mistakes_named() {
        let says = faults("[upstreams.orders]\nmax_in_flight = 0\nurll = \"http://a\"");
        assert!(says.contains("upstreams.orders.max_in_flight: 0"), "{says}");
        assert!(
            says.contains("upstreams.orders.urll: there is no such setting; did you mean url?")
        );
        assert!(!says.contains("upstreams.orders.max_in_flight: there is no"), "{says}");
    }

    #[test]
    fn an_upstream_is_an_origin() {
        let says = faults("[upstreams.orders]\nurl = \"http://a:9000/base\"");
        assert!(says.contains("upstreams.orders.url: leave out the path"), "{says}");
    }

    #[test]
    fn a_field_takes_its_value_from_the_environment() {
        let text = "[upstreams.default]\nheaders = { Authorization = \"env:CLOAKROOM_TOKEN\" }";
        let token = [("CLOAKROOM_TOKEN", "Bearer x")];
        let loaded = load_with(text, &token).unwrap();
        let (name, value) = &loaded.config.upstreams["default"].headers[0];
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer x"));
        assert!(!format!("{:?}", loaded.config).contains("Bearer x"));
        let shown = rows(&loaded);
        assert_eq!(shown["upstreams.default.headers.Authorization"].value, "env:CLOAKROOM_TOKEN");
        let says = load(text).unwrap_err().to_string();
        assert!(says.contains("CLOAKROOM_TOKEN is not set"), "{says}");
    }

    #[test]
    fn a_field_that_stands_in_the_file_is_not_shown() {
        let loaded = load("[upstreams.default.headers]\nX-Key = \"hunter2\"").unwrap();
        assert_eq!(loaded.config.upstreams["default"].headers[0].1.to_str().unwrap(), "hunter2");
        assert!(!format!("{:?}", loaded.sources).contains("hunter2"));
    }

    #[test]
    fn fields_of_the_gateway_and_the_connection_cannot_be_set() {
        let refused = |name: &str| {
            let says = faults(&format!("[upstreams.default.headers]\n\"{name}\" = \"x\""));
            assert!(says.contains(&format!("upstreams.default.headers.{name}")), "{name}: {says}");
            says
        };
        for name in ["Host", "Content-Length", "Expect", "Operation-Id", "X-Forwarded-For", "a b"] {
            refused(name);
        }
        // Many servers read other signs as `-`.
        for (name, says) in [
            ("Content_Length", "belongs to the connection"),
            ("transfer.encoding", "belongs to the connection"),
            ("Operation_Id", "the gateway sets it itself"),
            ("IDEMPOTENCY_KEY", "the gateway sets it itself"),
            ("X_Forwarded_For", "the gateway sets it itself"),
            ("cdn~loop", "the gateway sets it itself"),
        ] {
            assert!(refused(name).contains(says), "{name}: {}", refused(name));
        }
        for name in ["X_Api_Key", "x.tenant", "Api-Key"] {
            let config = read(&format!("[upstreams.default.headers]\n\"{name}\" = \"x\""));
            assert_eq!(config.upstreams["default"].headers.len(), 1, "{name}");
        }
        let says = faults("[upstreams.default.headers]\nX-Key = \"a\\nb\"");
        assert!(says.contains("one line"), "{says}");
    }

    #[test]
    fn the_environment_alone_can_name_an_upstream() {
        let orders = ("CLOAKROOM_UPSTREAMS_ORDERS_URL", "http://a:1");
        let config = load_with("", &[orders]).unwrap().config;
        assert_eq!(config.upstreams["orders"].url.as_str(), "http://a:1/");
        let both = "[upstreams.Orders]\nurl = \"http://b:2\"";
        let config = Config::from_toml(both).unwrap();
        assert_eq!(config.upstreams["Orders"].url.as_str(), "http://b:2/");
        let config = load_with(both, &[orders]).unwrap().config;
        assert_eq!(config.upstreams["Orders"].url.as_str(), "http://a:1/");
        assert!(!config.upstreams.contains_key("orders"));
    }

    #[test]
    fn a_rate_is_kept_as_it_is_written() {
        assert_eq!(read("").upstreams["default"].rate, None);
        let rate = read("[upstreams.default]\nrate = \"500/s\"").upstreams["default"].rate;
        assert_eq!(rate.unwrap().to_string(), "500/s");
        assert!(faults("[upstreams.default]\nrate = \"fast\"").contains("upstreams.default.rate"));
        assert!(faults("[upstreams.default]\nrates = \"5/s\"").contains("did you mean rate?"));
    }

    #[test]
    fn a_monitor_may_have_a_place_and_words_of_its_own() {
        assert_eq!(read("").upstreams["default"].monitor.status, None);
        let text = "[upstreams.default]\nmonitor = { status = \"/job/state\", failed = [\"KO\"] }";
        let words = &read(text).upstreams["default"].monitor;
        assert_eq!(words.status.as_deref(), Some("/job/state"));
        assert_eq!((&words.succeeded[..], &words.failed[..]), (&[][..], &["KO".to_owned()][..]));
        for (inside, says) in [
            ("status = \"state\"", "upstreams.default.monitor.status: `state`"),
            ("succeeded = [\"OK\"]", "upstreams.default.monitor.status"),
            ("status = \"/a\", succeeded = [\"x\"], failed = [\"x\"]", "monitor.failed"),
            ("state = \"/a\"", "did you mean status?"),
        ] {
            let faults = faults(&format!("[upstreams.default]\nmonitor = {{ {inside} }}"));
            assert!(faults.contains(says), "{inside}: {faults}");
        }
    }

    #[test]
    fn only_statuses_that_leave_it_open_can_be_called_unprocessed() {
        assert_eq!(read("").upstreams["default"].unprocessed, Vec::<u16>::new());
        let text = "[upstreams.default]\nunprocessed = [502, 504]";
        assert_eq!(read(text).upstreams["default"].unprocessed, [502, 504]);
        let says = faults("[upstreams.default]\nunprocessed = [503]");
        assert!(says.contains("upstreams.default.unprocessed: only 502, 504"), "{says}");
    }

    #[test]
    fn how_connections_are_used_and_names_written_are_words() {
        let upstream = &read("").upstreams["default"];
        assert_eq!((upstream.reuse, upstream.header_case), (Reuse::Auto, HeaderCase::Lower));
        assert_eq!(upstream.max_response_headers, 256 << 10);
        let text = "reuse = \"never\"\nheader_case = \"title\"\nmax_response_headers = \"1MiB\"";
        let upstream = &read(&format!("[upstreams.default]\n{text}")).upstreams["default"];
        assert_eq!((upstream.reuse, upstream.header_case), (Reuse::Never, HeaderCase::Title));
        assert_eq!(upstream.max_response_headers, 1 << 20);
        for (wrong, says) in [
            ("reuse = \"allways\"", "did you mean always?"),
            ("header_case = \"upper\"", "possible: lower, title"),
            ("max_response_headers = \"1KiB\"", "upstreams.default.max_response_headers"),
        ] {
            let found = faults(&format!("[upstreams.default]\n{wrong}"));
            assert!(found.contains(says), "{wrong}: {found}");
        }
    }

    #[test]
    fn origins_to_follow_are_origins() {
        let text = "[upstreams.default]\nfollow = [\"https://jobs.example:8443\"]";
        let follow = &read(text).upstreams["default"].follow;
        assert_eq!(follow[0].ascii_serialization(), "https://jobs.example:8443");
        let says = faults("[upstreams.default]\nfollow = [\"https://jobs.example/x\"]");
        assert!(says.contains("upstreams.default.follow"), "{says}");
    }
}
