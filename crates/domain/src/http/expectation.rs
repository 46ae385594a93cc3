//! The form of an answer: the table of `Expect` and `Prefer`.
//!
//! Owns the decision between at once, after a wait, and with the upstream's own answer.
//! The invariants: `Expect` is a must and wins over `Prefer`, which is a may; what is
//! refused (417) is refused from the head alone, before anything is stored or sent. It
//! must not know how an answer is made.
//!
//! | the request says | the decision |
//! |---|---|
//! | nothing | by the route's [`Mode`], whatever `allow` says: `allow` is about asking |
//! | `202-accepted` | [`AnswerMode::Async`]; refused unless `allow` has async; a `wait` contradicts "at once" and loses |
//! | `200-ok`, `201-created`, `204-no-content` | [`AnswerMode::Sync`]; refused unless `allow` has sync; a `wait` shortens it, `respond-async` contradicts it and loses |
//! | both families | [`AnswerMode::Hybrid`] with `wait` or else the route's wait; each family must be allowed |
//! | `100-continue` | only noted; combines with all others |
//! | anything else | refused |
//! | `respond-async` | [`AnswerMode::Async`] where allowed, else [`AnswerMode::Sync`] without complaint |
//! | `respond-async, wait=N` | [`AnswerMode::Hybrid`] with N; without async in `allow` as above, with N as limit; without sync in `allow` the wait cannot be honoured, so [`AnswerMode::Async`] |
//! | `wait=N` | on a sync route [`AnswerMode::Sync`] with N as limit; on a hybrid one [`AnswerMode::Hybrid`] with N; on an async one too, unless `allow` lacks sync: then it cannot be honoured |
//! | `return=minimal` | honoured in a 202 |
//!
//! When the time for an answer runs out, a 202 is given if the request would have
//! allowed one: always in a hybrid answer, and in a synchronous one if the request said
//! `respond-async` and no expectation spoke against it. A request that said nothing, or
//! only `wait=N`, on a sync route never spoke of 202: it gets the 424.

use std::fmt;
use std::time::Duration;

use ::http::{HeaderMap, Method};

use super::grammar::{excerpt, trim};
use super::prefer::{Preferences, applied_wait};

/// The answer to a request without preferences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 202 at once.
    Async,
    /// The upstream's answer if it comes within the route's wait, else 202.
    Hybrid,
    /// The upstream's answer.
    Sync,
}

/// What a request may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allow {
    /// A 202.
    pub asynchronous: bool,
    /// The upstream's own answer.
    pub synchronous: bool,
}

impl Allow {
    /// Everything may be asked for.
    pub const ALL: Self = Self { asynchronous: true, synchronous: true };
}

/// The answer modes that a route offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What a request gets that asks for nothing.
    pub mode: Mode,
    /// What may be asked for.
    pub allow: Allow,
    /// How long a hybrid answer waits unless the request says so.
    pub sync_wait: Duration,
    /// The longest a synchronous answer is waited for: the route's timeout.
    pub timeout: Duration,
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerMode {
    /// 202 at once.
    Async,
    /// The upstream's answer if it comes within `wait`, else 202.
    Hybrid {
        /// Zero to 45 s when the request chose it, else the route's.
        wait: Duration,
    },
    /// The upstream's answer, if it comes within `wait`.
    Sync {
        /// Never longer than the route's timeout.
        wait: Duration,
    },
}

/// The decision about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerDecision {
    /// How it is answered.
    pub answer: AnswerMode,
    /// Whether a 202 is sent without the document.
    pub minimal: bool,
    /// The preferences honoured, as `Preference-Applied` of a 202 lists them. Other
    /// answers list fewer: see [`AnswerDecision::applied_when`].
    pub applied: Vec<String>,
    /// Whether the client waits for a 100 before it sends the body.
    pub continue_expected: bool,
    /// Whether a 202 is given when the time for an answer runs out; else a 424 is.
    pub may_fall_back_to_202: bool,
}

impl AnswerDecision {
    /// The value of `Preference-Applied`, if there is one: in an answer that is not a
    /// 202, `respond-async` and `return=minimal` had no effect and are left out.
    pub fn applied_when(&self, accepted: bool) -> Option<String> {
        let always = |applied: &str| applied.starts_with("wait=") || applied == CALLBACK;
        let shown = |applied: &&String| accepted || always(applied);
        let honoured: Vec<&str> = self.applied.iter().filter(shown).map(String::as_str).collect();
        (!honoured.is_empty()).then(|| honoured.join(", "))
    }
}

impl AnswerDecision {
    /// The same with a 202 at once: a wait is not honoured.
    #[must_use]
    pub fn at_once(mut self) -> Self {
        self.applied.retain(|applied| !applied.starts_with("wait="));
        Self { answer: AnswerMode::Async, ..self }
    }

    /// Whether the gateway meets the preference of that name by itself, so that it is not the
    /// upstream's to meet: one that is answered with a 202 would answer with one of its own.
    pub fn meets(&self, preference: &str) -> bool {
        let name = |applied: &String| applied.split('=').next() == Some(preference);
        preference != "return" && self.applied.iter().any(name)
    }
}

/// An expectation cannot be met (417). Nothing was stored and nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectationFailed {
    /// The expectation as the request wrote it, printable and shortened.
    pub expectation: String,
    /// The expectations that would have been met here.
    pub supported: Vec<&'static str>,
}

impl std::error::Error for ExpectationFailed {}

impl fmt::Display for ExpectationFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (expectation, supported) = (&self.expectation, self.supported.join(", "));
        write!(f, "the expectation `{expectation}` cannot be met here; supported: {supported}")
    }
}

/// The preference that asks for a callback, as `Preference-Applied` names it.
pub const CALLBACK: &str = "callback";

const CONTINUE: &str = "100-continue";
const ACCEPTED: &str = "202-accepted";
/// The expectations that ask for the upstream's own answer.
const SYNCHRONOUS: [&str; 3] = ["200-ok", "201-created", "204-no-content"];

/// Decides how a routed request is answered, from its `Expect`, `Operation-Expect` and
/// `Prefer` fields.
pub fn decide(headers: &HeaderMap, offer: &Offer) -> Result<AnswerDecision, ExpectationFailed> {
    let expected = ExpectHeader::of(headers);
    expected.check(offer.allow)?;
    let preferences = Preferences::of(headers);
    let answer = choose_answer(&expected, &preferences, offer);
    let synchronous = matches!(answer, AnswerMode::Sync { .. });
    let may_fall_back_to_202 =
        !synchronous || (preferences.respond_async() && expected.synchronous.is_none());
    Ok(AnswerDecision {
        answer,
        minimal: preferences.minimal() && may_fall_back_to_202,
        applied: applied(&preferences, answer, may_fall_back_to_202),
        continue_expected: expected.continues,
        may_fall_back_to_202,
    })
}

fn choose_answer(expected: &ExpectHeader, preferences: &Preferences, offer: &Offer) -> AnswerMode {
    match (expected.accepted.is_some(), expected.synchronous.is_some()) {
        (true, true) => AnswerMode::Hybrid { wait: preferences.wait().unwrap_or(offer.sync_wait) },
        (true, false) => AnswerMode::Async,
        (false, true) => synchronous(preferences.wait(), offer),
        (false, false) => prefer_answer(preferences, offer),
    }
}

fn prefer_answer(preferences: &Preferences, offer: &Offer) -> AnswerMode {
    let (wait, allow) = (preferences.wait(), offer.allow);
    if preferences.respond_async() {
        return match wait {
            _ if !allow.asynchronous => synchronous(wait, offer),
            Some(wait) if allow.synchronous => AnswerMode::Hybrid { wait },
            _ => AnswerMode::Async,
        };
    }
    match (offer.mode, wait) {
        (Mode::Sync, wait) => synchronous(wait, offer),
        (Mode::Hybrid, wait) => AnswerMode::Hybrid { wait: wait.unwrap_or(offer.sync_wait) },
        (Mode::Async, Some(wait)) if allow.synchronous => AnswerMode::Hybrid { wait },
        (Mode::Async, _) => AnswerMode::Async,
    }
}

fn synchronous(wait: Option<Duration>, offer: &Offer) -> AnswerMode {
    AnswerMode::Sync { wait: wait.map_or(offer.timeout, |wait| wait.min(offer.timeout)) }
}

fn applied(preferences: &Preferences, answer: AnswerMode, may_be_202: bool) -> Vec<String> {
    let mut applied = Vec::new();
    if preferences.respond_async() && !matches!(answer, AnswerMode::Sync { .. }) {
        applied.push("respond-async".to_owned());
    }
    if let Some(wait) = preferences.wait()
        && answer != AnswerMode::Async
    {
        applied.push(applied_wait(wait));
    }
    if preferences.minimal() && may_be_202 {
        applied.push("return=minimal".to_owned());
    }
    applied
}

/// What is decided about the expectations of a request that no route takes; its
/// `Prefer` does not matter here.
///
/// Under the prefix and on GET, HEAD and OPTIONS all but `100-continue` are ignored. On
/// others `202-accepted` and unknown ones are refused, and the synchronous family is met
/// by passing the request on. Returns whether the client waits for a 100.
pub fn unrouted(
    method: &Method,
    beneath_prefix: bool,
    headers: &HeaderMap,
) -> Result<bool, ExpectationFailed> {
    let expected = ExpectHeader::of(headers);
    let reading = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
    if !beneath_prefix && !reading {
        expected.check(Allow { asynchronous: false, synchronous: true })?;
    }
    Ok(expected.continues)
}

/// How long the monitor holds its answer for `Prefer: wait=N`, at most 45 s.
pub fn monitor_wait(headers: &HeaderMap) -> Option<Duration> {
    Preferences::of(headers).wait()
}

/// The expectations of a request: of each kind the first, as it was written.
#[derive(Debug, Default)]
struct ExpectHeader {
    continues: bool,
    accepted: Option<String>,
    synchronous: Option<String>,
    unknown: Option<String>,
}

impl ExpectHeader {
    /// Those of all `Expect` and `Operation-Expect` lines. A line that is not text is an
    /// expectation too, and not one that is known.
    fn of(headers: &HeaderMap) -> Self {
        let mut expected = Self::default();
        let fields = ["expect", "operation-expect"];
        for value in fields.iter().flat_map(|name| headers.get_all(*name)) {
            let line = String::from_utf8_lossy(value.as_bytes());
            line.split([',', '/']).map(trim).for_each(|member| expected.note(member));
        }
        expected
    }

    fn note(&mut self, member: &str) {
        let place = match member.to_ascii_lowercase().as_str() {
            "" => return,
            CONTINUE => return self.continues = true,
            ACCEPTED => &mut self.accepted,
            known if SYNCHRONOUS.contains(&known) => &mut self.synchronous,
            _ => &mut self.unknown,
        };
        place.get_or_insert_with(|| excerpt(member));
    }

    fn check(&self, allow: Allow) -> Result<(), ExpectationFailed> {
        let refused = (self.unknown.as_ref())
            .or(self.accepted.as_ref().filter(|_| !allow.asynchronous))
            .or(self.synchronous.as_ref().filter(|_| !allow.synchronous));
        match refused {
            Some(expectation) => Err(ExpectationFailed {
                expectation: expectation.clone(),
                supported: supported(allow),
            }),
            None => Ok(()),
        }
    }
}

fn supported(allow: Allow) -> Vec<&'static str> {
    let mut supported = vec![CONTINUE];
    if allow.asynchronous {
        supported.push(ACCEPTED);
    }
    if allow.synchronous {
        supported.extend(SYNCHRONOUS);
    }
    supported
}

#[cfg(test)]
mod tests;
