//! Raw values: the configuration as it is written, before it is interpreted.
//!
//! Owns the untyped tree of a configuration and the source of each value. Its invariant: every
//! value knows its [`SettingSource`]. It must not know which settings exist.

use std::{collections::BTreeMap, fmt, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::ConfigFault;

/// Where the value of a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// No source sets it.
    Default,
    /// A line of the file, counted from 1.
    File {
        /// The file as it was named.
        path: Arc<str>,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RawValue {
    /// Quoted text of the file.
    Text(String),
    /// Text without a type, from the environment or a flag: it may stand for anything.
    Loose(String),
    Whole(i64),
    Truth(bool),
    List(Vec<RawValue>),
    Table(RawTable),
    /// A list of tables, `[[…]]` or inline.
    Tables(Vec<LocatedValue>),
    /// A type that no setting has, by its name.
    Other(&'static str),
}

/// A value as written, and where.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LocatedValue {
    pub(super) given: RawValue,
    pub(super) source: SettingSource,
}

pub(super) type RawTable = BTreeMap<String, LocatedValue>;

impl RawValue {
    /// The kind of this value, for an error that expected another kind.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Loose(_) => "text",
            Self::Whole(_) => "a number",
            Self::Truth(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Tables(_) => "a list of tables",
            Self::Other(kind) => kind,
        }
    }

    pub(super) fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) | Self::Loose(text) => Ok(text.trim()),
            other => Err(format!("expected text in quotes, found {}", other.kind())),
        }
    }

    pub(super) fn whole(&self) -> Result<i64, String> {
        match self {
            Self::Whole(number) => Ok(*number),
            Self::Loose(text) => {
                text.trim().parse().map_err(|_| format!("`{text}` is not a whole number"))
            }
            other => Err(format!("expected a whole number, found {}", other.kind())),
        }
    }

    pub(super) fn truth(&self) -> Result<bool, String> {
        match self {
            Self::Truth(truth) => Ok(*truth),
            Self::Loose(text) => {
                text.trim().parse().map_err(|_| format!("`{text}` is neither true nor false"))
            }
            other => Err(format!("expected true or false, found {}", other.kind())),
        }
    }

    /// The items of a list; loose text is one that commas separate.
    pub(super) fn list(&self) -> Result<Vec<Self>, String> {
        match self {
            Self::List(items) => Ok(items.clone()),
            Self::Loose(text) => Ok(text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Self::Loose(item.to_owned()))
                .collect()),
            other => Err(format!("expected a list like [\"…\"], found {}", other.kind())),
        }
    }
}

/// Reads TOML, or says everything that keeps it from being TOML.
pub(super) fn parse(path: &Arc<str>, text: &str) -> Result<RawTable, Vec<ConfigFault>> {
    let place = TomlText { path, text };
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(place.table(document.get_ref()));
    }
    let fault = |error: &toml::de::Error| ConfigFault {
        key: String::new(),
        source: place.source(error.span().map_or(0, |span| span.start)),
        says: format!("not valid TOML: {}", error.message()),
    };
    Err(errors.iter().map(fault).collect())
}

/// A text whose offsets can be turned into lines.
struct TomlText<'t> {
    path: &'t Arc<str>,
    text: &'t str,
}

impl TomlText<'_> {
    fn source(&self, offset: usize) -> SettingSource {
        let before = self.text.as_bytes().iter().take(offset);
        let line = 1 + before.filter(|octet| **octet == b'\n').count();
        SettingSource::File { path: Arc::clone(self.path), line }
    }

    fn table(&self, table: &DeTable<'_>) -> RawTable {
        let located = |key: &Spanned<_>, value: &Spanned<DeValue<'_>>| LocatedValue {
            given: self.given(value.get_ref()),
            source: self.source(key.span().start),
        };
        table.iter().map(|(key, value)| (key.get_ref().to_string(), located(key, value))).collect()
    }

    fn given(&self, value: &DeValue<'_>) -> RawValue {
        match value {
            DeValue::String(text) => RawValue::Text(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(RawValue::Other("a number that is too large"), RawValue::Whole),
            DeValue::Float(_) => RawValue::Other("a number with a fraction"),
            DeValue::Boolean(truth) => RawValue::Truth(*truth),
            DeValue::Datetime(_) => RawValue::Other("a date"),
            DeValue::Table(table) => RawValue::Table(self.table(table)),
            DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => {
                RawValue::Tables(items.iter().map(|item| self.located(item)).collect())
            }
            DeValue::Array(items) => {
                RawValue::List(items.iter().map(|item| self.given(item.get_ref())).collect())
            }
        }
    }

    fn located(&self, value: &Spanned<DeValue<'_>>) -> LocatedValue {
        LocatedValue { given: self.given(value.get_ref()), source: self.source(value.span().start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RawTable, Vec<ConfigFault>> {
        parse(&Arc::from("c.toml"), text)
    }

    #[test]
    fn every_value_knows_its_line() {
        let table = read("[server]\n\nlisten = \"x\"\n").unwrap();
        let RawValue::Table(server) = &table["server"].given else { panic!("no table") };
        assert_eq!(server["listen"].source.to_string(), "c.toml:3");
    }

    #[test]
    fn each_of_several_syntax_errors_is_reported_with_its_line() {
        let faults = read("[server]\nlisten = \nmax_body = \n").unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| fault.source.to_string()).collect();
        assert_eq!(places, ["c.toml:2", "c.toml:3"], "{faults:?}");
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        assert!(read("[server]\nlisten = \"a\"\nlisten = \"b\"\n").is_err());
    }

    #[test]
    fn loose_text_is_a_list_that_commas_separate() {
        let items = RawValue::Loose("a, b,,".into()).list().unwrap();
        assert_eq!(items, [RawValue::Loose("a".into()), RawValue::Loose("b".into())]);
    }

    #[test]
    fn quoted_text_of_the_file_is_no_number_but_a_variable_is() {
        assert!(RawValue::Text("4".into()).whole().is_err());
        assert_eq!(RawValue::Loose("4".into()).whole(), Ok(4));
    }
}
