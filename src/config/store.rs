//! `[store]`: the location of the ledger and its connections.
//!
//! Owns the reading of `store.url` and of what belongs to a database server. Its
//! invariants: the ledger is a file or a database, never memory, because what a 202
//! promised would not outlive the process; and a password is never shown.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloakroom_domain::DatabaseUrl;

use super::{
    raw_value::RawValue,
    reader::Section,
    setting::{Setting, choose},
    units::{minutes, seconds},
};

/// Where the ledger lives.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
    /// The file or the database.
    pub url: StoreUrl,
    /// How many connections read a file at once.
    pub readers: u32,
    /// The most connections to a database server.
    pub pool: u32,
    /// The pooler between the gateway and its database server.
    pub pooler: PoolerKind,
    /// How long a node's beat may stay away before others take over what it holds.
    pub lease: Duration,
    /// The way past a pooler, for migrations and for listening.
    pub direct_url: Option<DatabaseUrl>,
}

/// A ledger's file or database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A `SQLite` file, as given: relative to the working directory unless absolute.
    Sqlite(PathBuf),
    /// A `PostgreSQL` database.
    Postgres(DatabaseUrl),
}

impl StoreUrl {
    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(formatter),
            Self::Postgres(url) => url.fmt(formatter),
        }
    }
}

/// The pooler between the gateway and its database server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolerKind {
    /// Nothing, or something that keeps sessions.
    None,
    /// One that lends a server's session for each transaction, like `PgBouncer`.
    Transaction,
}

impl StoreConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            url: section.get("url", StoreUrl::Sqlite(PathBuf::from("cloakroom.db"))),
            readers: section.within("readers", 4, 1..=64),
            pool: section.within("pool", 10, 2..=1000),
            pooler: section.get("pooler", PoolerKind::None),
            direct_url: section.get("direct_url", None),
            lease: section.within("lease", seconds(15), seconds(1)..=minutes(2)),
        }
    }
}

impl Setting for StoreUrl {
    fn read(given: &RawValue) -> Result<Self, String> {
        let text = given.text()?;
        if text.starts_with("postgres:") || text.starts_with("postgresql:") {
            return Ok(Self::Postgres(DatabaseUrl::read(given)?));
        }
        let example = "write sqlite:FILE, like sqlite:cloakroom.db or sqlite:/var/lib/cloakroom.db, \
                       or postgres://USER:PASSWORD@HOST:PORT/DATABASE";
        let path = text.strip_prefix("sqlite:").ok_or_else(|| example.to_owned())?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.contains('?') {
            return Err(format!("leave out what begins with `?`; {example}"));
        }
        if path.is_empty() || path.ends_with('/') || path == ":memory:" {
            return Err(format!(
                "the ledger is a file or a database, so that it outlives the process; {example}"
            ));
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }

    fn show(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(url) => url.show(),
        }
    }
}

impl Setting for DatabaseUrl {
    fn read(given: &RawValue) -> Result<Self, String> {
        given.text()?.parse::<Self>().map_err(|error| error.to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

const POOLERS: [(&str, PoolerKind); 2] =
    [("none", PoolerKind::None), ("transaction", PoolerKind::Transaction)];

impl Setting for PoolerKind {
    fn read(given: &RawValue) -> Result<Self, String> {
        choose(given, &POOLERS)
    }

    fn show(&self) -> String {
        POOLERS.iter().find(|(_, one)| one == self).map_or("", |(word, _)| word).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, read};
    use super::*;

    fn url(url: &str) -> String {
        format!("[store]\nurl = \"{url}\"")
    }

    #[test]
    fn the_ledger_is_a_file_in_the_working_directory_unless_told() {
        assert_eq!(read("").store.url.path(), Some(Path::new("cloakroom.db")));
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
            assert_eq!(read(&url(given)).store.url.path(), Some(Path::new(path)), "{given}");
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
    fn a_database_is_told_by_its_scheme_and_its_password_is_never_shown() {
        let store = read(&url("postgres://user:hunter2@db/x")).store;
        assert_eq!(store.url.path(), None);
        assert_eq!((store.pool, store.pooler), (10, PoolerKind::None));
        for shown in [store.url.show(), store.url.to_string(), format!("{store:?}")] {
            assert!(!shown.contains("hunter2") && shown.contains("user"), "{shown}");
        }
        let says =
            faults(&format!("{}\ndirect_url = \"mysql://u:hunter2@db\"", url("postgres://db/x")));
        assert!(says.contains("store.direct_url") && !says.contains("hunter2"), "{says}");
    }

    #[test]
    fn a_pooler_is_named_by_what_it_keeps() {
        let with = |lines: &str| format!("{}\n{lines}", url("postgres://db/x"));
        let store =
            read(&with("pooler = \"transaction\"\ndirect_url = \"postgres://db:1/x\"")).store;
        assert_eq!(store.pooler, PoolerKind::Transaction);
        assert!(store.direct_url.is_some());
        assert!(faults(&with("pooler = \"session\"")).contains("store.pooler"));
        assert!(faults(&with("pool = 1")).contains("store.pool"));
    }

    #[test]
    fn what_is_for_the_other_kind_of_ledger_may_stand_so_that_only_the_url_differs() {
        let store = read("[store]\npool = 5\nreaders = 2").store;
        assert_eq!((store.pool, store.readers), (5, 2));
    }

    #[test]
    fn a_lease_lasts_from_a_second_to_two_minutes() {
        assert_eq!(read("").store.lease, seconds(15));
        assert_eq!(read("[store]\nlease = \"2s\"").store.lease, seconds(2));
        assert!(faults("[store]\nlease = \"3m\"").contains("store.lease"));
    }

    #[test]
    fn there_is_at_least_one_reader() {
        assert!(faults("[store]\nreaders = 0").contains("store.readers"));
    }
}
