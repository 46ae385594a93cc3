//! Settings with a fixed set of words: mode, delivery guarantee, role and others.
//!
//! Owns the words; what they stand for is the domain's.

pub(super) use cloakroom_domain::connections::{HeaderCase, Reuse};
pub use cloakroom_domain::fleet::Role;
pub use cloakroom_domain::http::expectation::{Allow, Mode};
pub use cloakroom_domain::operation::{DeliveryGuarantee, OnFailure, Recheck};
pub use cloakroom_domain::webhooks::CallbackAllowlist;

use super::{
    raw_value::RawValue,
    setting::{Setting, choose},
};
use cloakroom_domain::webhooks::UrlPattern;

const MODES: [(&str, Mode); 3] =
    [("async", Mode::Async), ("hybrid", Mode::Hybrid), ("sync", Mode::Sync)];
const DELIVERIES: [(&str, DeliveryGuarantee); 2] = [
    ("at-least-once", DeliveryGuarantee::AtLeastOnce),
    ("at-most-once", DeliveryGuarantee::AtMostOnce),
];

/// The body of a 202.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceptedForm {
    /// The operation's document.
    #[default]
    Document,
    /// Nothing: for SDKs that take its `id` for that of what they created.
    Minimal,
}

/// How a 202 names the monitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocationForm {
    /// By an absolute URL.
    #[default]
    Absolute,
    /// By a path.
    Relative,
}

const ACCEPTED_FORMS: [(&str, AcceptedForm); 2] =
    [("document", AcceptedForm::Document), ("minimal", AcceptedForm::Minimal)];
const LOCATION_FORMS: [(&str, LocationForm); 2] =
    [("absolute", LocationForm::Absolute), ("relative", LocationForm::Relative)];

impl Setting for AcceptedForm {
    fn read(given: &RawValue) -> Result<Self, String> {
        choose(given, &ACCEPTED_FORMS)
    }

    fn show(&self) -> String {
        word(&ACCEPTED_FORMS, self)
    }
}

impl Setting for LocationForm {
    fn read(given: &RawValue) -> Result<Self, String> {
        choose(given, &LOCATION_FORMS)
    }

    fn show(&self) -> String {
        word(&LOCATION_FORMS, self)
    }
}

/// The word that stands for a choice.
fn word<T: PartialEq>(words: &[(&str, T)], chosen: &T) -> String {
    words.iter().find(|(_, one)| one == chosen).map_or("", |(word, _)| word).to_owned()
}

impl Setting for Mode {
    fn read(given: &RawValue) -> Result<Self, String> {
        choose(given, &MODES)
    }

    fn show(&self) -> String {
        word(&MODES, self)
    }
}

impl Setting for DeliveryGuarantee {
    fn read(given: &RawValue) -> Result<Self, String> {
        choose(given, &DELIVERIES)
    }

    fn show(&self) -> String {
        word(&DELIVERIES, self)
    }
}

impl Setting for Reuse {
    fn read(given: &RawValue) -> Result<Self, String> {
        choose(given, &Self::ALL.map(|one| (one.as_str(), one)))
    }

    fn show(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Setting for HeaderCase {
    fn read(given: &RawValue) -> Result<Self, String> {
        choose(given, &Self::ALL.map(|one| (one.as_str(), one)))
    }

    fn show(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Setting for Role {
    fn read(given: &RawValue) -> Result<Self, String> {
        choose(given, &Self::ALL.map(|role| (role.as_str(), role)))
    }

    fn show(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Setting for OnFailure {
    fn read(given: &RawValue) -> Result<Self, String> {
        choose(given, &[Self::Skip, Self::Block].map(|one| (one.as_str(), one)))
    }

    fn show(&self) -> String {
        self.as_str().to_owned()
    }
}

impl Setting for Recheck {
    fn read(given: &RawValue) -> Result<Self, String> {
        let text = given.text()?;
        Self::parse(text).map_err(|problem| format!("`{text}`: {problem}"))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Allow {
    fn read(given: &RawValue) -> Result<Self, String> {
        let words = [("async", true), ("sync", false)];
        let mut allow = Self { asynchronous: false, synchronous: false };
        for item in given.list()? {
            if choose(&item, &words)? {
                allow.asynchronous = true;
            } else {
                allow.synchronous = true;
            }
        }
        if allow.asynchronous || allow.synchronous {
            return Ok(allow);
        }
        Err("a route that allows nothing is of no use; write [\"async\"], [\"sync\"] or both"
            .into())
    }

    fn show(&self) -> String {
        let words = [(self.asynchronous, "async"), (self.synchronous, "sync")];
        let words: Vec<_> = words.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect();
        format!("[{}]", words.join(", "))
    }
}

impl Setting for CallbackAllowlist {
    fn read(given: &RawValue) -> Result<Self, String> {
        match given {
            RawValue::Text(text) | RawValue::Loose(text) if text == "off" => return Ok(Self::Off),
            RawValue::Text(text) | RawValue::Loose(text) if text == "any" => return Ok(Self::Any),
            RawValue::Text(_) => {
                return Err("write \"off\", \"any\", or a list of patterns like \
                                          [\"https://*.example.com/hooks/*\"]"
                    .to_owned());
            }
            _ => {}
        }
        let mut patterns = Vec::new();
        for item in given.list()? {
            patterns.push(item.text()?.parse::<UrlPattern>().map_err(|bad| bad.to_string())?);
        }
        Ok(if patterns.is_empty() { Self::Off } else { Self::Only(patterns) })
    }

    fn show(&self) -> String {
        match self {
            Self::Off => "off".to_owned(),
            Self::Any => "any".to_owned(),
            Self::Only(patterns) => {
                let shown: Vec<_> = patterns.iter().map(UrlPattern::to_string).collect();
                format!("[{}]", shown.join(", "))
            }
        }
    }
}
