//! `[log]`: log level and log format.

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    raw_value::RawValue,
    reader::Section,
    setting::{Setting, choose},
};

/// The filter and the format of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// A level, or directives as tracing-subscriber reads them; they have been checked.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

const FORMATS: [(&str, LogFormat); 3] =
    [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];

impl LogConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let filter =
            section.checked("filter", "info".to_owned(), |filter: &String| check_filter(filter));
        Self { filter, format: section.get("format", LogFormat::Auto) }
    }
}

/// The end of every fault about a filter.
const ADVICE: &str = "write a level (error, warn, info, debug, trace, off), or several directives \
                      like info,cloakroom=debug";

/// The directives of a filter, without the blanks around them.
pub fn directives(filter: &str) -> impl Iterator<Item = &str> {
    filter.split(',').map(str::trim).filter(|directive| !directive.is_empty())
}

/// Refuses a filter that tracing-subscriber reads otherwise than its author means it: it takes a
/// word that is no level for a target, and with that alone every line of the gateway is silent.
fn check_filter(filter: &str) -> Result<(), String> {
    if directives(filter).next().is_none() {
        return Err(format!("`{filter}` names no level; {ADVICE}"));
    }
    for directive in directives(filter) {
        check_directive(directive).map_err(|why| format!("`{directive}`: {why}; {ADVICE}"))?;
    }
    let parsed = EnvFilter::builder().parse(directives(filter).collect::<Vec<_>>().join(","));
    parsed.map(drop).map_err(|_| format!("`{filter}` is no filter; {ADVICE}"))
}

fn check_directive(directive: &str) -> Result<(), String> {
    match directive.split_once('=') {
        None if is_level(directive) => Ok(()),
        None => Err(format!("`{directive}` is no level")),
        Some((target, _)) if is_level(target) => {
            Err(format!("`{target}` is a level, where a part of the program is named"))
        }
        Some((target, _)) if !is_crate_path(target) => {
            Err(format!("`{target}` is no crate or module (letters, digits, _, - and ::)"))
        }
        Some((target, "")) => Err(format!("the level of `{target}` is missing")),
        Some((_, level)) if !is_level(level) => Err(format!("`{level}` is no level")),
        Some(_) => Ok(()),
    }
}

fn is_level(word: &str) -> bool {
    !word.is_empty() && word.parse::<LevelFilter>().is_ok()
}

/// Whether a target can be that of a log line, as in `cloakroom::engine`.
fn is_crate_path(target: &str) -> bool {
    let is_of_name =
        |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    target.split("::").all(|name| !name.is_empty() && name.chars().all(is_of_name))
}

impl Setting for LogFormat {
    fn read(given: &RawValue) -> Result<Self, String> {
        choose(given, &FORMATS)
    }

    fn show(&self) -> String {
        FORMATS
            .iter()
            .find(|(_, format)| format == self)
            .map_or("auto", |(word, _)| word)
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, read};
    use super::*;

    #[test]
    fn a_filter_is_checked_before_it_is_needed() {
        assert_eq!(read("").log, LogConfig { filter: "info".into(), format: LogFormat::Auto });
        let filter = "warn,cloakroom=debug";
        assert_eq!(read(&format!("[log]\nfilter = \"{filter}\"")).log.filter, filter);
        for (bad, word) in [
            ("", ""),
            (" , ", ""),
            ("a=b=c", "b=c"),
            ("cloakroom=loud", "loud"),
            ("warning", "warning"),
            ("loud", "loud"),
            ("cloakroom", "cloakroom"),
            ("cloakroom:debug", "cloakroom:debug"),
            ("info;cloakroom=debug", "info;cloakroom"),
            ("info,sqlx=", "sqlx"),
            ("info, warning", "warning"),
            ("info warn", "info warn"),
            ("=debug", "=debug"),
            ("info=debug", "info"),
            ("::cloakroom=debug", "::cloakroom"),
            ("cloakroom:engine=debug", "cloakroom:engine"),
            ("cloakroom[attempt]=debug", "cloakroom[attempt]"),
            ("[attempt]", "[attempt]"),
            ("info,cloakroom= debug", " debug"),
        ] {
            let says = faults(&format!("[log]\nfilter = \"{bad}\""));
            assert!(says.contains("log.filter"), "{bad}: {says}");
            assert!(says.contains(&format!("`{word}")), "{bad}: {says}");
            assert!(says.contains("error, warn, info, debug, trace, off"), "{bad}: {says}");
        }
    }

    #[test]
    fn every_filter_that_says_what_it_means_is_taken() {
        for filter in [
            "off",
            "WARN",
            "3",
            "info,cloakroom=debug",
            "info, cloakroom::engine=trace ,",
            "cloakroom=debug",
            "warn,sqlx::query=info,hyper-util=off",
        ] {
            assert_eq!(read(&format!("[log]\nfilter = \"{filter}\"")).log.filter, filter);
        }
    }

    #[test]
    fn the_format_is_one_of_three() {
        assert_eq!(read("[log]\nformat = \"json\"").log.format, LogFormat::Json);
        assert!(faults("[log]\nformat = \"jsn\"").contains("did you mean json?"));
    }
}
