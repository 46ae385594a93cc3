//! `[[routes]]`: the requests that are accepted as operations, and their guarantees.
//!
//! Its invariants: names and patterns are unique; upstream and queue exist; a route allows
//! what its own mode needs. Without any `[[routes]]`, one route takes every POST.

use std::time::Duration;

use http::HeaderName;

use super::{
    SettingSource,
    enums::{
        AcceptedForm, Allow, CallbackAllowlist, DeliveryGuarantee, LocationForm, Mode, OnFailure,
        Recheck,
    },
    pattern::RouteMatch,
    queues,
    raw_value::{LocatedValue, RawTable, RawValue},
    reader::{ConfigReader, Section, check_name, nearest},
    selector::{KeyRule, Selector},
    setting::{Setting, choose},
    units::{MOMENT, days, hours, minutes, seconds},
};
use cloakroom_domain::operation::Statuses;

/// One route, everything decided.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, named as in the file")]
pub struct RouteConfig {
    /// Unique among the routes.
    pub name: String,
    /// In capitals, or `*` for any.
    pub method: String,
    /// Segments that are literal, `{name}`, or at the end `{*rest}`; begins with `/`.
    pub path: String,
    /// Whether this is the route for every POST that stands in where none is named. It
    /// matches `/` too, and is not meant for gRPC and browser navigations.
    pub implicit: bool,
    /// The name of an upstream that exists.
    pub upstream: String,
    /// The name of a queue that exists.
    pub queue: String,
    /// The mode of a request that asks for none.
    pub mode: Mode,
    /// The modes that a request may ask for.
    pub allow: Allow,
    /// How long a hybrid answer is waited for; at most 45 s.
    pub sync_wait: Duration,
    /// The delivery guarantee; none: the one that the method calls for.
    pub delivery: Option<DeliveryGuarantee>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How long the whole may take, from acceptance or from not-before.
    pub deadline: Duration,
    /// How often and how soon another attempt is made.
    pub retry: RetryConfig,
    /// The statuses that mean success; none: the usual ones.
    pub success: Option<Statuses>,
    /// Operations with the same value here run one at a time, in the order accepted.
    pub serial_key: Option<Selector>,
    /// Where the id of the operation that gave rise to it is, when the client names none.
    pub parent: Option<Selector>,
    /// Where what the client calls it is, when the client does not say.
    pub client_reference: Option<Selector>,
    /// The policy for their serial key when one of them fails, also for a key that a client sent.
    pub serial_on_failure: OnFailure,
    /// How the upstream is asked whether an attempt took effect.
    pub recheck: Option<Recheck>,
    /// Where the key comes from when the client sends none.
    pub idempotency_key: Option<KeyRule>,
    /// Whether a request without a key is refused.
    pub idempotency_required: bool,
    /// Whether a key only counts while its operation is unfinished.
    pub unique_pending: bool,
    /// Tags that every operation of this route gets.
    pub tags: Vec<String>,
    /// How long after acceptance the first attempt is due.
    pub delay: Duration,
    /// Whether a monitor may lead straight to a foreign origin that the upstream named.
    pub foreign_location: bool,
    /// Whether a monitor that the upstream names in its own 202 is followed.
    pub follow: bool,
    /// The body of a 202.
    pub accepted: AcceptedForm,
    /// How a 202 names the monitor.
    pub location: LocationForm,
    /// Fields, besides `Authorization` and `Cookie`, whose stored values are erased when
    /// the operation settles.
    pub erase: Vec<HeaderName>,
    /// Which URLs a request may have its callbacks go to.
    pub callbacks: CallbackAllowlist,
}

/// How often and how soon another attempt is made.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryConfig {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The first step of the backoff.
    pub min: Duration,
    /// The longest step of the backoff; at least `min`.
    pub max: Duration,
    /// The statuses that are tried again at least once; none: the usual ones.
    pub statuses: Option<Statuses>,
}

/// The names that routes refer to.
pub(super) struct RouteContext<'c> {
    pub(super) upstreams: Vec<&'c str>,
    /// The upstream of a route that names none.
    pub(super) fallback: Option<&'c str>,
    pub(super) queues: Vec<&'c str>,
    // The paths that are the gateway's own; none where it shares them.
    pub(super) prefix: Option<&'c str>,
}

impl RouteConfig {
    /// The delivery guarantee; none where the method of each request decides.
    pub fn promise(&self) -> Option<DeliveryGuarantee> {
        // RFC 9110 section 9.2.2.
        const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
        match (self.delivery, &*self.method) {
            (Some(delivery), _) => Some(delivery),
            (None, "*") => None,
            (None, method) if IDEMPOTENT.contains(&method) => Some(DeliveryGuarantee::AtLeastOnce),
            (None, _) => Some(DeliveryGuarantee::AtMostOnce),
        }
    }
}

/// Reads the routes of the file and those of `--async`, or makes the one for every POST.
pub(super) fn read(
    reading: &mut ConfigReader,
    flags: Vec<String>,
    around: &RouteContext<'_>,
) -> Vec<RouteConfig> {
    let mut tables = reading.listed_tables("routes");
    tables.extend(flags.into_iter().map(|text| {
        let given = RawValue::Loose(text);
        RawTable::from([(
            "match".to_owned(),
            LocatedValue { given, source: SettingSource::Flag("--async") },
        )])
    }));
    let implicit = tables.is_empty();
    if implicit {
        if around.upstreams.is_empty() {
            return Vec::new();
        }
        tables.push(every_post());
    }
    let mut routes: Vec<(String, RouteMatch, RouteConfig)> = Vec::new();
    for (index, table) in tables.into_iter().enumerate() {
        let path = format!("routes[{index}]");
        let route = reading.table(path.clone(), table, |section| route(section, implicit, around));
        if let Some((pattern, route)) = route {
            check_unique(reading, &path, &pattern, &route, &routes);
            routes.push((path, pattern, route));
        }
    }
    routes.into_iter().map(|(_, _, route)| route).collect()
}

fn every_post() -> RawTable {
    let located = |text: &str| LocatedValue {
        given: RawValue::Text(text.to_owned()),
        source: SettingSource::Default,
    };
    let name = ("name".to_owned(), located("every-post"));
    RawTable::from([("match".to_owned(), located("POST /{*rest}")), name])
}

fn check_unique(
    reading: &mut ConfigReader,
    path: &str,
    pattern: &RouteMatch,
    route: &RouteConfig,
    earlier: &[(String, RouteMatch, RouteConfig)],
) {
    for (other_path, other_pattern, other) in earlier {
        if pattern.shape() == other_pattern.shape() {
            let says = format!("{other_path} matches the same requests; leave out one of them");
            reading.fault_about(format!("{path}.match"), says);
        } else if route.name == other.name {
            let says = format!("{other_path} is called {} too; give one another name", other.name);
            reading.fault_about(format!("{path}.name"), says);
        }
    }
}

/// Reads one route; none if its pattern is missing or wrong.
fn route(
    section: &mut Section<'_>,
    implicit: bool,
    around: &RouteContext<'_>,
) -> Option<(RouteMatch, RouteConfig)> {
    let pattern = section.required::<RouteMatch>("match", "write match = \"POST /orders\"");
    if let Some(prefix) = around.prefix
        && pattern.as_ref().is_some_and(|pattern| pattern.is_under(prefix))
    {
        let says = format!(
            "{prefix} is the gateway's own (server.prefix); it routes nothing unless \
             server.prefix_pass = true"
        );
        section.fault_about("match", says);
    }
    let name = pattern.as_ref().map_or_else(String::new, RouteMatch::name);
    let (mode, allow) = mode(section);
    let parameters = pattern.as_ref().map_or_else(Vec::new, RouteMatch::parameters);
    let day = MOMENT..=days(365);
    let route = RouteConfig {
        name: section.checked("name", name, |name| check_name(name)),
        method: String::new(),
        path: String::new(),
        implicit,
        upstream: upstream(section, around),
        queue: section.checked("queue", queues::DEFAULT.to_owned(), |name| {
            exists("queue", "queues", name, &around.queues)
        }),
        mode,
        allow,
        sync_wait: section.within("sync_wait", seconds(10), MOMENT..=seconds(45)),
        delivery: section.get("delivery", None),
        timeout: section.within("timeout", minutes(15), day.clone()),
        deadline: section.within("deadline", hours(24), day),
        retry: section.table("retry", retry),
        success: success(section),
        serial_key: place(section, "serial_key", &parameters),
        parent: place(section, "parent", &parameters),
        client_reference: place(section, "client_reference", &parameters),
        serial_on_failure: section.get("serial_on_failure", OnFailure::Skip),
        recheck: section.get("recheck", None),
        idempotency_key: section.get("idempotency_key", None),
        idempotency_required: section.get("idempotency_required", false),
        unique_pending: section.get::<Option<UniquePolicy>>("unique", None).is_some(),
        tags: section
            .get::<Vec<RouteTag>>("tags", Vec::new())
            .into_iter()
            .map(|tag| tag.0)
            .collect(),
        delay: section.within("delay", Duration::ZERO, Duration::ZERO..=days(365)),
        foreign_location: section.get("foreign_location", false),
        follow: section.get("follow", true),
        accepted: section.get("accepted", AcceptedForm::Document),
        location: section.get("location", LocationForm::Absolute),
        erase: section.get("erase", Vec::new()),
        callbacks: section.get("callbacks", CallbackAllowlist::Off),
    };
    let pattern = pattern?;
    let (method, path) = (pattern.method.clone(), pattern.path.clone());
    Some((pattern, RouteConfig { method, path, ..route }))
}

fn upstream(section: &mut Section<'_>, around: &RouteContext<'_>) -> String {
    let left_out = !section.holds("upstream");
    let fallback = around.fallback.unwrap_or_default().to_owned();
    let name = section.checked("upstream", fallback, |name| {
        exists("upstream", "upstreams", name, &around.upstreams)
    });
    // Having none at all is one fault of its own, not one more of each route.
    if left_out && around.fallback.is_none() && !around.upstreams.is_empty() {
        let known = around.upstreams.join(", ");
        section.fault_about(
            "upstream",
            format!(
                "there are several upstreams; add [[routes]] that say which one with upstream = \
                 (one of {known}), or call one of them default"
            ),
        );
    }
    name
}

fn exists(what: &str, section: &str, name: &str, known: &[&str]) -> Result<(), String> {
    if known.contains(&name) {
        return Ok(());
    }
    let hint = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("add [{section}.{name}], or use one of: {}", known.join(", ")),
    };
    Err(format!("there is no {what} {name}; {hint}"))
}

fn mode(section: &mut Section<'_>) -> (Mode, Allow) {
    let mode = section.get("mode", Mode::Async);
    let both = Allow::ALL;
    let allow = section.get("allow", both);
    let needed = match mode {
        Mode::Async if !allow.asynchronous => "async",
        Mode::Sync if !allow.synchronous => "sync",
        Mode::Hybrid if allow != both => "both async and sync",
        _ => return (mode, allow),
    };
    section.fault_about("allow", format!("mode = \"{}\" needs {needed} in it", mode.show()));
    (mode, allow)
}

fn retry(section: &mut Section<'_>) -> RetryConfig {
    let attempts = section.within("attempts", 10, 1..=1000);
    let min = section.within("min", seconds(1), MOMENT..=hours(24));
    let max = section.within("max", minutes(5), MOMENT..=hours(24));
    if max < min {
        section.fault_about("max", "must not be less than min");
    }
    let statuses = section.get::<Option<Vec<ErrorStatus>>>("statuses", None);
    let statuses = statuses.map(|listed| listed.into_iter().map(|status| status.0).collect());
    RetryConfig { attempts, min, max, statuses }
}

fn success(section: &mut Section<'_>) -> Option<Statuses> {
    let listed = section.checked("success", None::<Vec<SuccessStatus>>, |listed| match listed {
        Some(listed) if listed.is_empty() => {
            Err("nothing would ever succeed; list statuses, like [201, 303]".to_owned())
        }
        _ => Ok(()),
    });
    Some(listed?.into_iter().map(|status| status.0).collect())
}

/// A status that can mean success.
#[derive(Clone)]
struct SuccessStatus(u16);

impl Setting for SuccessStatus {
    fn read(given: &RawValue) -> Result<Self, String> {
        match u16::read_within(given, &(200..=599))? {
            status @ (200..=299 | 302 | 303 | 400..=599) => Ok(Self(status)),
            status => {
                Err(format!("{status} never means that a request was carried out; 302 and 303 can"))
            }
        }
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// A status that says that something went wrong.
#[derive(Clone)]
struct ErrorStatus(u16);

impl Setting for ErrorStatus {
    fn read(given: &RawValue) -> Result<Self, String> {
        u16::read_within(given, &(400..=599)).map(Self)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

fn place(section: &mut Section<'_>, key: &'static str, parameters: &[&str]) -> Option<Selector> {
    section.checked(key, None, |place| match place {
        Some(Selector::Path(name)) if !parameters.contains(&name.as_str()) => {
            Err(format!("match has no {{{name}}}; put it there, or name another place"))
        }
        _ => Ok(()),
    })
}

struct UniquePolicy;

impl Setting for UniquePolicy {
    fn read(given: &RawValue) -> Result<Self, String> {
        choose(given, &[("pending", ())]).map(|()| Self)
    }

    fn show(&self) -> String {
        "pending".to_owned()
    }
}

struct RouteTag(String);

impl Setting for RouteTag {
    fn read(given: &RawValue) -> Result<Self, String> {
        let text = given.text()?;
        let plain = text.chars().all(|c| c.is_ascii_graphic() && c != ',');
        if plain && (1..=256).contains(&text.len()) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("`{text}` is not a tag: 1 to 256 ASCII characters without spaces and commas"))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests;
