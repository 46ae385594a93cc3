//! `[store]`: where the ledger lives.
//!
//! Owns the reading of `store.url`. Its invariant: the ledger is a file, never memory:
//! what a 202 promised would not outlive the process.

use std::path::PathBuf;

use super::{given::Given, reader::Section, setting::Setting};

/// Where the ledger lives.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
    /// The `SQLite` file, as given: relative to the working directory unless absolute.
    pub path: PathBuf,
    /// How many connections read at once.
    pub readers: u32,
}

impl StoreConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            path: section.get("url", Sqlite(PathBuf::from("cloakroom.db"))).0,
            readers: section.within("readers", 4, 1..=64),
        }
    }
}

struct Sqlite(PathBuf);

impl Setting for Sqlite {
    fn read(given: &Given) -> Result<Self, String> {
        let text = given.text()?;
        let example = "write sqlite:FILE, like sqlite:cloakroom.db or sqlite:/var/lib/cloakroom.db";
        if text.starts_with("postgres:") || text.starts_with("postgresql:") {
            return Err(format!("PostgreSQL is not available in this version; {example}"));
        }
        let path = text.strip_prefix("sqlite:").ok_or_else(|| example.to_owned())?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.contains('?') {
            return Err(format!("leave out what begins with `?`; {example}"));
        }
        if path.is_empty() || path.ends_with('/') || path == ":memory:" {
            return Err(format!(
                "the ledger is a file, so that it outlives the process; {example}"
            ));
        }
        Ok(Self(PathBuf::from(path)))
    }

    fn show(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::testing::{faults, read};

    fn url(url: &str) -> String {
        format!("[store]\nurl = \"{url}\"")
    }

    #[test]
    fn the_ledger_is_a_file_in_the_working_directory_unless_told() {
        assert_eq!(read("").store.path, Path::new("cloakroom.db"));
        assert_eq!(read("").store.readers, 4);
    }

    #[test]
    fn a_file_is_named_with_or_without_slashes() {
        for (given, path) in [
            ("sqlite:a.db", "a.db"),
            ("sqlite:/var/a.db", "/var/a.db"),
            ("sqlite://a.db", "a.db"),
            ("sqlite:///var/a.db", "/var/a.db"),
        ] {
            assert_eq!(read(&url(given)).store.path, Path::new(path), "{given}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for bad in
            ["a.db", "sqlite:", "sqlite::memory:", "sqlite:a.db?mode=ro", "mysql:x", "sqlite:/a/"]
        {
            let says = faults(&url(bad));
            assert!(says.contains("store.url") && says.contains("sqlite:FILE"), "{bad}: {says}");
        }
    }

    #[test]
    fn postgresql_is_said_to_come_later_without_repeating_its_password() {
        let says = faults(&url("postgres://user:hunter2@db/x"));
        assert!(says.contains("PostgreSQL is not available in this version"), "{says}");
        assert!(!says.contains("hunter2"));
    }

    #[test]
    fn there_is_at_least_one_reader() {
        assert!(faults("[store]\nreaders = 0").contains("store.readers"));
    }
}
