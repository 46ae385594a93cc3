//! `[log]`: what is logged, and how it looks.

use tracing_subscriber::EnvFilter;

use super::{
    given::Given,
    reader::Section,
    setting::{Setting, choose},
};

/// What is logged, and how it looks.
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
        let filter = section.checked("filter", "info".to_owned(), |filter| {
            let readable = !filter.is_empty() && EnvFilter::builder().parse(filter).is_ok();
            let says = "write a level (error, warn, info, debug, trace, off), or several \
                        directives like info,cloakroom=debug";
            readable.then_some(()).ok_or_else(|| format!("`{filter}` is no filter; {says}"))
        });
        Self { filter, format: section.get("format", LogFormat::Auto) }
    }
}

impl Setting for LogFormat {
    fn read(given: &Given) -> Result<Self, String> {
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
        for bad in ["", "a=b=c", "cloakroom=loud"] {
            let says = faults(&format!("[log]\nfilter = \"{bad}\""));
            assert!(says.contains("log.filter") && says.contains("info"), "{bad}: {says}");
        }
    }

    #[test]
    fn the_format_is_one_of_three() {
        assert_eq!(read("[log]\nformat = \"json\"").log.format, LogFormat::Json);
        assert!(faults("[log]\nformat = \"jsn\"").contains("did you mean json?"));
    }
}
