//! The state of an upstream's own job, read from the documents of its monitor.
//!
//! Owns the state words of known protocols, where a document holds such a word, and the signs of a
//! login page. It must not know how a monitor is requested.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It goes on.
    Pending,
    /// It goes on, for all that is known: the document's word means nothing here.
    Unknown(String),
    /// It has been done.
    Succeeded,
    /// It has ended otherwise.
    Failed,
}

impl JobState {
    /// Whether its word is one that is understood.
    const fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

/// Words for what goes on: Azure, OGC API Processes, openEO, Redfish, and this gateway.
const PENDING: [&str; 27] = [
    "notstarted",
    "inprogress",
    "running",
    "accepted",
    "creating",
    "created",
    "updating",
    "deleting",
    "provisioning",
    "validating",
    "resolvingtemplate",
    "queued",
    "waiting",
    "pending",
    "new",
    "starting",
    "started",
    "suspended",
    "interrupted",
    "stopping",
    "service",
    "cancelling",
    "canceling",
    "processing",
    "scheduled",
    "submitted",
    "active",
];
const SUCCEEDED: [&str; 4] = ["succeeded", "successful", "completed", "finished"];
const FAILED: [&str; 7] =
    ["failed", "canceled", "cancelled", "dismissed", "error", "exception", "killed"];

/// Where a document tells how a job stands, and in which words, as an upstream was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobWords {
    /// The place of the state in each monitor's document, a JSON pointer.
    pub status: Option<String>,
    /// Words for success, beside the known ones.
    pub succeeded: Vec<String>,
    /// Words for failure, beside the known ones.
    pub failed: Vec<String>,
}

impl JobWords {
    /// What a document says of the job; none if it does not say. `holds_status` where the
    /// protocol puts a `status` into it, which may be within another member; a Redfish task is
    /// known by its type anywhere. Of a document that is cut off, what comes before the cut counts.
    pub fn read(&self, document: &[u8], holds_status: bool) -> Option<JobState> {
        let document = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
        let configured = self.status.as_deref().and_then(|pointer| scalar(document, pointer));
        let word = configured
            .or_else(|| redfish(document))
            .or_else(|| scalar(document, "/status").filter(|_| holds_status));
        match (word, &self.status) {
            // A number is no state unless the configuration says that it is one.
            (None | Some(Scalar { is_text: false, .. }), None) | (None, Some(_))
                if holds_status =>
            {
                self.bare(document).or_else(|| self.within(document))
            }
            (None | Some(Scalar { is_text: false, .. }), None) | (None, Some(_)) => None,
            (Some(word), _) => Some(self.state(word.text)),
        }
    }

    /// The state that a document is which is no more than a known word.
    fn bare(&self, document: &[u8]) -> Option<JobState> {
        let text = match serde_json::from_slice::<String>(document) {
            Ok(text) => text,
            Err(_) => std::str::from_utf8(document).ok()?.trim().to_owned(),
        };
        Some(self.state(text)).filter(JobState::is_known)
    }

    /// The state that stands in the shapes in which services wrap it: another name than `status`, a
    /// `status` with members, or a member that holds either. Of several the one that is not done
    /// counts, and then the one that failed. An unknown word counts unless a known one stands as near
    /// to the top: further in, it may be a piece of what came of the work.
    fn within(&self, document: &[u8]) -> Option<JobState> {
        let members: Map<String, Value> = serde_json::from_slice(document).ok()?;
        let status = members.get("status").and_then(Value::as_object);
        if let Some(word) = status.and_then(|status| words_of(status).next()) {
            return Some(self.state(word.to_owned()));
        }
        let top: Vec<_> = self.states_of(&members).collect();
        let is_unknown_at_top = !top.is_empty() && !top.iter().any(JobState::is_known);
        let inner = members.values().filter_map(|member| self.state_in(member.as_object()?));
        let mut states: Vec<_> = top.into_iter().chain(inner).collect();
        // A job that is none of these says so by a mark (AIP-151).
        let is_marked = |mark| named(&members, "done").any(|done| *done == Value::Bool(mark));
        states.extend(is_marked(false).then_some(JobState::Pending));
        let known = [JobState::Pending, JobState::Failed, JobState::Succeeded]
            .into_iter()
            .find(|state| states.contains(state));
        // Where the upstream has been said to put it elsewhere, other words mean other things.
        let may_be_unknown = self.status.is_none() && !is_marked(true);
        let unknown = states.into_iter().find(|state| may_be_unknown && !state.is_known());
        match known {
            Some(JobState::Pending) => known,
            Some(_) if is_unknown_at_top => unknown.or(known),
            _ => known.or(unknown),
        }
    }

    /// The states that stand in an object, known or not.
    fn states_of<'m>(&'m self, members: &'m Map<String, Value>) -> impl Iterator<Item = JobState> {
        words_of(members).map(|word| self.state(word.to_owned()))
    }

    /// The state that an object holds: the first known one, else the first word.
    fn state_in(&self, members: &Map<String, Value>) -> Option<JobState> {
        let mut states = self.states_of(members);
        let first = states.next()?;
        match first.is_known() {
            true => Some(first),
            false => states.find(JobState::is_known).or(Some(first)),
        }
    }

    fn state(&self, word: String) -> JobState {
        let plain = plain(&word);
        let is_of = |words: &[String]| words.iter().any(|word| self::plain(word) == plain);
        let is_known = |words: &[&str]| words.contains(&plain.as_str());
        if is_of(&self.failed) {
            JobState::Failed
        } else if is_of(&self.succeeded) {
            JobState::Succeeded
        } else if is_known(&FAILED) {
            JobState::Failed
        } else if is_known(&SUCCEEDED) {
            JobState::Succeeded
        } else if is_known(&PENDING) {
            JobState::Pending
        } else {
            JobState::Unknown(word)
        }
    }
}

/// The names of members that hold a state.
const STATE_NAMES: [&str; 4] = ["status", "state", "provisioningState", "phase"];

/// The words that stand where a state does.
fn words_of(members: &Map<String, Value>) -> impl Iterator<Item = &str> {
    STATE_NAMES.iter().flat_map(move |name| named(members, name)).filter_map(Value::as_str)
}

/// The members of that name in any case: the serializers of Go and .NET write `Status` unless they
/// are told otherwise.
fn named<'m>(members: &'m Map<String, Value>, name: &str) -> impl Iterator<Item = &'m Value> {
    let is_named = move |(written, _): &(&String, _)| written.eq_ignore_ascii_case(name);
    members.iter().filter(is_named).map(|(_, value)| value)
}

/// Whether a document that tells no state, at a monitor whose documents hold one, may still hold
/// one: it is JSON, and a list, packed, cut off, broken, or has a `status` that is no word; or it
/// says that it is JSON, and is empty. Anything else is what came of the work.
pub fn hides_state(document: &[u8], says_json: bool, is_packed: bool, is_whole: bool) -> bool {
    let document = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document).trim_ascii();
    let may_be_json = says_json || matches!(document.first(), Some(b'{' | b'['));
    if !may_be_json {
        return false;
    }
    if is_packed || !is_whole {
        return true;
    }
    match serde_json::from_slice::<Value>(document) {
        Err(_) => says_json,
        Ok(Value::Object(members)) => {
            members.contains_key("status")
                || named(&members, "status").any(|status| !status.is_string())
        }
        Ok(_) => true,
    }
}

/// A word without what services differ in: `In_Progress` is `inprogress`.
fn plain(word: &str) -> String {
    let letters = word.chars().filter(|letter| !matches!(letter, ' ' | '-' | '_'));
    letters.collect::<String>().to_lowercase()
}

/// The state of a Redfish task (DSP2046), if the document is one.
fn redfish(document: &[u8]) -> Option<Scalar> {
    let kind = scalar(document, "/@odata.type")?;
    kind.text.starts_with("#Task.").then(|| scalar(document, "/TaskState")).flatten()
}

#[derive(Debug)]
struct Scalar {
    text: String,
    is_text: bool,
}

/// The scalar that a JSON pointer leads to. Of several members of one name the last counts, as most
/// parsers have it.
fn scalar(document: &[u8], pointer: &str) -> Option<Scalar> {
    let steps: Vec<String> = match pointer.strip_prefix('/') {
        None => Vec::new(),
        Some(rest) => rest.split('/').map(|it| it.replace("~1", "/").replace("~0", "~")).collect(),
    };
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(document);
    // Being cut off is an error of the reader's only.
    let _ = StateSearch { steps: &steps, found: &mut found }.deserialize(&mut reader);
    found
}

/// A walk to one place of a document.
struct StateSearch<'s> {
    steps: &'s [String],
    found: &'s mut Option<Scalar>,
}

impl StateSearch<'_> {
    fn is_there(&mut self, text: impl Into<String>, is_text: bool) {
        if self.steps.is_empty() {
            *self.found = Some(Scalar { text: text.into(), is_text });
        }
    }
}

impl<'de> DeserializeSeed<'de> for StateSearch<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StateSearch<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.is_there(text, true);
        Ok(())
    }

    fn visit_bool<E: Error>(mut self, truth: bool) -> Result<(), E> {
        self.is_there(truth.to_string(), false);
        Ok(())
    }

    fn visit_u64<E: Error>(mut self, number: u64) -> Result<(), E> {
        self.is_there(number.to_string(), false);
        Ok(())
    }

    fn visit_i64<E: Error>(mut self, number: i64) -> Result<(), E> {
        self.is_there(number.to_string(), false);
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((step, steps)) = self.steps.split_first() else {
            return passed_over_items(items);
        };
        let Ok(wanted) = step.parse::<usize>() else { return passed_over_items(items) };
        for _ in 0..wanted {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        items.next_element_seed(StateSearch { steps, found: &mut *self.found })?;
        passed_over_items(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            match self.steps.split_first() {
                Some((step, steps)) if *step == name => {
                    *self.found = None;
                    members.next_value_seed(StateSearch { steps, found: &mut *self.found })?;
                }
                _ => _ = members.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }
}

fn passed_over_items<'de, A: SeqAccess<'de>>(mut items: A) -> Result<(), A::Error> {
    while items.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Path segments that stand for signing in and for nothing else.
const LOGIN_SEGMENTS: [&str; 9] =
    ["login", "log-in", "log_in", "logon", "signin", "sign-in", "sign_in", "sso", "saml"];
/// Path segments of pages of which some sign people in.
const AUTH_SEGMENTS: [&str; 8] =
    ["auth", "authenticate", "authorize", "oauth", "oauth2", "saml2", "cas", "accounts"];
/// Query parameters that say where to go afterwards.
const RETURN_PARAMETERS: [&str; 14] = [
    "next",
    "return",
    "return_to",
    "returnto",
    "returnurl",
    "redirect",
    "redirect_to",
    "redirect_uri",
    "redirect_url",
    "redirecturl",
    "continue",
    "rd",
    "service",
    "relaystate",
];

/// Whether a path ends where people sign in: `/accounts/login/`, `/login.php`.
pub fn is_login_path(path: &str) -> bool {
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    is_segment(last, &LOGIN_SEGMENTS)
}

fn is_segment(segment: &str, words: &[&str]) -> bool {
    let name = segment.split('.').next().unwrap_or_default();
    words.iter().any(|word| name.eq_ignore_ascii_case(word))
}

/// Whether a page of HTML asks for a password.
pub fn asks_for_password(page: &[u8]) -> bool {
    let page = String::from_utf8_lossy(page).to_ascii_lowercase();
    ["type=\"password\"", "type='password'", "type=password"].iter().any(|it| page.contains(it))
}

/// Whether a page of HTML to which something else was redirected looks, by its address,
/// like one where people sign in.
pub fn is_login_address(path: &str, query: Option<&str>) -> bool {
    let words = [&LOGIN_SEGMENTS[..], &AUTH_SEGMENTS].concat();
    let names = query.into_iter().flat_map(|query| query.split('&'));
    let mut names = names.filter_map(|pair| pair.split('=').next());
    path.split('/').any(|segment| is_segment(segment, &words))
        || names.any(|name| RETURN_PARAMETERS.iter().any(|word| name.eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use JobState::{Failed, Pending, Succeeded, Unknown};
    use proptest::prelude::*;

    fn said(document: &str) -> Option<JobState> {
        JobWords::default().read(document.as_bytes(), true)
    }

    #[test]
    fn the_words_of_known_protocols_are_understood() {
        for (words, state) in [
            // Azure
            (&["NotStarted", "Running", "InProgress", "Creating"][..], Pending),
            (&["Succeeded"], Succeeded),
            (&["Failed", "Canceled"], Failed),
            // OGC API Processes
            (&["accepted", "running"], Pending),
            (&["successful"], Succeeded),
            (&["failed", "dismissed"], Failed),
            // openEO
            (&["created", "queued", "running"], Pending),
            (&["finished"], Succeeded),
            (&["error", "canceled"], Failed),
            // others
            (&["In Progress", "in_progress", "in-progress", "waiting"], Pending),
        ] {
            for word in words {
                assert_eq!(
                    said(&format!("{{\"status\":{word:?}}}")),
                    Some(state.clone()),
                    "{word}"
                );
            }
        }
        assert_eq!(said("{\"status\":\"Brewing\"}"), Some(Unknown("Brewing".to_owned())));
    }

    #[test]
    fn a_redfish_task_is_known_by_its_type() {
        for (word, state) in [
            ("New", Pending),
            ("Starting", Pending),
            ("Running", Pending),
            ("Suspended", Pending),
            ("Interrupted", Pending),
            ("Pending", Pending),
            ("Stopping", Pending),
            ("Service", Pending),
            ("Cancelling", Pending),
            ("Completed", Succeeded),
            ("Killed", Failed),
            ("Exception", Failed),
            ("Cancelled", Failed),
        ] {
            let task = format!("{{\"@odata.type\":\"#Task.v1_7_4.Task\",\"TaskState\":{word:?}}}");
            assert_eq!(JobWords::default().read(task.as_bytes(), false), Some(state), "{word}");
        }
        let other = b"{\"@odata.type\":\"#Chassis.v1.Chassis\",\"TaskState\":\"Running\"}";
        assert_eq!(JobWords::default().read(other, false), None);
    }

    #[test]
    fn what_holds_no_status_says_nothing() {
        for document in [
            "",
            "{}",
            "[]",
            "not json",
            "{\"status\":5}",
            "{\"status\":null}",
            "{\"status\":{}}",
            "{\"a\":{\"b\":{\"status\":\"running\"}}}",
            "[{\"status\":\"running\"}]",
            "5",
        ] {
            assert_eq!(said(document), None, "{document}");
        }
        assert_eq!(JobWords::default().read(b"{\"status\":\"running\"}", false), None);
    }

    #[test]
    fn a_state_is_read_in_the_shapes_in_which_services_wrap_it() {
        for (document, state) in [
            (r#"{"job":{"status":"running"}}"#, Pending),
            (r#"{"job":{"id":1,"state":"Failed"},"links":{}}"#, Failed),
            (r#"{"status":{"state":"running"}}"#, Pending),
            (r#"{"status":{"phase":"Succeeded"}}"#, Succeeded),
            (r#"{"status":{"state":"Brewing"}}"#, Unknown("Brewing".to_owned())),
            (r#"{"state":"succeeded"}"#, Succeeded),
            (r#"{"properties":{"provisioningState":"Creating"}}"#, Pending),
            (r#"{"a":{"status":"succeeded"},"b":{"status":"running"}}"#, Pending),
            (r#"{"a":{"status":"succeeded"},"b":{"status":"failed"}}"#, Failed),
            (r#"{"status":200,"data":{"status":"queued"}}"#, Pending),
            (r#"{"name":"operations/7","done":false}"#, Pending),
            (r#""running""#, Pending),
            ("failed\n", Failed),
            // As the serializers of Go and .NET write it.
            (r#"{"Id":7,"Status":"Running"}"#, Pending),
            (r#"{"STATE":"Succeeded"}"#, Succeeded),
            (r#"{"Phase":"Failed"}"#, Failed),
            (r#"{"ProvisioningState":"Creating"}"#, Pending),
            (r#"{"Job":{"Status":"Running"}}"#, Pending),
            (r#"{"Status":{"Phase":"Running"}}"#, Pending),
            (r#"{"Name":"operations/7","Done":false}"#, Pending),
        ] {
            assert_eq!(said(document), Some(state), "{document}");
            assert_eq!(JobWords::default().read(document.as_bytes(), false), None, "{document}");
        }
    }

    #[test]
    fn an_unknown_word_at_any_place_of_a_state_means_that_the_work_goes_on() {
        for (document, word) in [
            (r#"{"state":"crashed"}"#, "crashed"),
            (r#"{"Status":"Paid"}"#, "Paid"),
            (r#"{"phase":"exploding","percent":40}"#, "exploding"),
            (r#"{"provisioningState":"Stuck"}"#, "Stuck"),
            (r#"{"job":{"status":"exploding"},"percent":40}"#, "exploding"),
            (r#"{"job":{"status":"COMPLETED_WITH_ERRORS"}}"#, "COMPLETED_WITH_ERRORS"),
            (r#"{"Job":{"Phase":"Crashed"}}"#, "Crashed"),
            (r#"{"order":{"state":"paid"}}"#, "paid"),
            (r#"{"status":200,"data":{"status":"exploding"}}"#, "exploding"),
            // Nearer to the top, and not done.
            (r#"{"state":"retrying","last":{"status":"failed"}}"#, "retrying"),
            (r#"{"state":"crashed","first":{"status":"succeeded"}}"#, "crashed"),
        ] {
            assert_eq!(said(document), Some(Unknown(word.to_owned())), "{document}");
            assert_eq!(JobWords::default().read(document.as_bytes(), false), None, "{document}");
        }
    }

    #[test]
    fn a_word_of_what_came_of_the_work_is_no_state_beside_one() {
        for (document, state) in [
            (r#"{"state":"succeeded","order":{"state":"paid"}}"#, Some(Succeeded)),
            (r#"{"job":{"status":"succeeded"},"order":{"status":"paid"}}"#, Some(Succeeded)),
            (r#"{"job":{"status":"failed"},"order":{"status":"open"}}"#, Some(Failed)),
            (r#"{"x":{"provisioningState":"Succeeded","state":"Enabled"}}"#, Some(Succeeded)),
            (r#"{"provisioningState":"Succeeded","state":"Enabled"}"#, Some(Succeeded)),
            (r#"{"state":"odd","job":{"status":"running"}}"#, Some(Pending)),
            (r#"{"done":false,"metadata":{"state":"WARMING"}}"#, Some(Pending)),
            (r#"{"done":true,"metadata":{"state":"COOLED"}}"#, None),
            (r#"{"a":{"b":{"status":"crashed"}}}"#, None),
            (r#"{"state":7,"order":{"id":7}}"#, None),
        ] {
            assert_eq!(said(document), state, "{document}");
        }
    }

    #[test]
    fn where_an_upstream_s_place_is_configured_words_elsewhere_count_only_if_they_are_known() {
        let words = JobWords { status: Some("/job/now".to_owned()), ..JobWords::default() };
        for (document, state) in [
            (r#"{"job":{"now":"exploding"}}"#, Some(Unknown("exploding".to_owned()))),
            (r#"{"job":{"now":"succeeded"},"state":"odd"}"#, Some(Succeeded)),
            (r#"{"address":{"state":"CA"}}"#, None),
            (r#"{"job":{"state":"running"}}"#, Some(Pending)),
        ] {
            assert_eq!(words.read(document.as_bytes(), true), state, "{document}");
        }
        let words = JobWords { succeeded: vec!["paid".to_owned()], ..JobWords::default() };
        assert_eq!(words.read(br#"{"order":{"state":"paid"}}"#, true), Some(Succeeded));
    }

    #[test]
    fn what_may_hold_a_state_and_tells_none_is_no_result() {
        for (document, says_json, is_packed, is_whole, hides) in [
            ("[]", false, false, true, true),
            ("[1]", true, false, true, true),
            ("null", true, false, true, true),
            ("7", true, false, true, true),
            (r#"{"status":null}"#, false, false, true, true),
            (r#"{"status":{}}"#, true, false, true, true),
            (r#"{"x":"cut o"#, false, false, false, true),
            (r#"{"x":"#, true, false, true, true),
            ("\u{1f}\u{8b}", true, true, true, true),
            ("{}", true, false, true, false),
            (r#"{"id":7}"#, true, false, true, false),
            ("", true, false, true, true),
            ("\u{feff} \r\n", true, false, true, true),
            ("", false, false, true, false),
            (" \n", false, false, true, false),
            (r#"{"Status":1}"#, true, false, true, true),
            (r#"{"Status":"Paid"}"#, true, false, true, false),
            ("done", false, false, true, false),
            ("7", false, false, true, false),
            ("{not json", false, false, true, false),
            ("a,b", false, false, false, false),
        ] {
            let told = hides_state(document.as_bytes(), says_json, is_packed, is_whole);
            assert_eq!(told, hides, "{document}");
        }
    }

    #[test]
    fn a_status_is_found_before_a_cut_and_behind_other_members() {
        assert_eq!(
            said("{\"log\":[{\"status\":\"failed\"}],\"status\":\"running\",\"x\":\"cu"),
            Some(Pending)
        );
        assert_eq!(said("\u{feff}{\"status\":\"running\"}"), Some(Pending));
        assert_eq!(said("{\"sta\\u0074us\":\"runn\\u0069ng\"}"), Some(Pending));
    }

    #[test]
    fn the_last_of_several_members_of_one_name_counts() {
        for (document, state) in [
            (r#"{"status":"running","status":"succeeded"}"#, Some(Succeeded)),
            (r#"{"status":"succeeded","x":1,"status":"running"}"#, Some(Pending)),
            (r#"{"status":"running","status":"succeeded","x":"cu"#, Some(Succeeded)),
            (r#"{"status":"succeeded","status":null}"#, None),
            (r#"{"status":null,"status":"failed"}"#, Some(Failed)),
        ] {
            assert_eq!(said(document), state, "{document}");
        }
        let words = JobWords { status: Some("/job/status".to_owned()), ..JobWords::default() };
        for (document, state) in [
            (r#"{"job":{"status":"running"},"job":{"status":"failed"}}"#, Some(Failed)),
            (r#"{"job":{"status":"running"},"job":{}}"#, None),
        ] {
            assert_eq!(words.read(document.as_bytes(), false), state, "{document}");
        }
    }

    #[test]
    fn an_upstream_may_have_a_place_and_words_of_its_own() {
        let words = JobWords {
            status: Some("/job/states/0/a~1b".to_owned()),
            succeeded: vec!["OK".to_owned(), "true".to_owned(), "error".to_owned()],
            failed: vec!["KO".to_owned(), "3".to_owned()],
        };
        for (value, state) in [
            ("\"ok\"", Some(Succeeded)),
            ("true", Some(Succeeded)),
            ("\"error\"", Some(Succeeded)),
            ("\"ko\"", Some(Failed)),
            ("3", Some(Failed)),
            ("\"failed\"", Some(Failed)),
            ("\"running\"", Some(Pending)),
            ("false", Some(Unknown("false".to_owned()))),
            ("null", None),
        ] {
            let document = format!("{{\"job\":{{\"states\":[{{\"a/b\":{value}}},{{}}]}}}}");
            assert_eq!(words.read(document.as_bytes(), false), state, "{value}");
        }
        assert_eq!(words.read(b"{\"status\":\"failed\"}", false), None);
        assert_eq!(words.read(b"{\"status\":\"failed\"}", true), Some(Failed));
    }

    #[test]
    fn a_login_page_is_known_by_where_it_is_and_what_it_asks_for() {
        for path in ["/login", "/accounts/login/", "/login.php", "/Account/SignIn", "/sso"] {
            assert!(is_login_path(path) && is_login_address(path, None), "{path}");
        }
        for path in ["/jobs/1", "/login/jobs/1", "/loginjobs", "/"] {
            assert!(!is_login_path(path), "{path}");
        }
        assert!(
            is_login_address("/oauth2/start", None) && is_login_address("/", Some("a=1&next=/j"))
        );
        assert!(!is_login_address("/results/1", Some("page=next")));
        assert!(asks_for_password(b"<form><INPUT name=p TYPE='Password'></form>"));
        assert!(!asks_for_password(b"<p>done</p>"));
    }

    proptest! {
        #[test]
        fn no_document_makes_it_panic(octets in prop::collection::vec(any::<u8>(), 0..80), text in "[\\[\\]{}\":,a-z0-9]{0,60}", pointer in "(/[a-z0-9~]{0,3}){0,3}") {
            let words = JobWords { status: Some(pointer), ..JobWords::default() };
            let _ = (words.read(&octets, true), words.read(text.as_bytes(), true));
        }
    }
}
