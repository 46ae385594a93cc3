//! The URL of a database server. Its password is never shown.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// The address of a database: `postgres://user:password@host:port/database`.
///
/// Whatever shows it leaves the password out; [`DatabaseUrl::secret`] is for connecting.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Url);

/// It is no address of a database. What was given is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write postgres://USER:PASSWORD@HOST:PORT/DATABASE, like postgres://cloakroom@db/cloakroom"
)]
pub struct BadDatabaseUrl;

impl DatabaseUrl {
    /// All of it, the password included.
    pub fn secret(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for DatabaseUrl {
    type Err = BadDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, BadDatabaseUrl> {
        let url = Url::parse(text).map_err(|_| BadDatabaseUrl)?;
        match url.scheme() {
            "postgres" | "postgresql" if !url.cannot_be_a_base() => Ok(Self(url)),
            _ => Err(BadDatabaseUrl),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        // Neither can fail for a URL with a host; without one there is nothing to hide.
        if shown.password().is_some() {
            let _ = shown.set_password(Some("…"));
        }
        // A password may stand among the parameters too.
        shown.set_query(None);
        formatter.write_str(&shown.as_str().replace("%E2%80%A6", "…"))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_for_connecting_and_never_shown() {
        for text in [
            "postgres://user:hunter2@db:5433/x",
            "postgresql://user@db/x?password=hunter2",
            "postgres://:hunter2@db",
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert!(url.secret().contains("hunter2"));
            for shown in [url.to_string(), format!("{url:?}")] {
                assert!(!shown.contains("hunter2") && shown.contains("db"), "{shown}");
            }
        }
    }

    #[test]
    fn anything_else_is_refused_without_repeating_it() {
        for bad in ["", "db", "mysql://u:hunter2@db", "postgres:hunter2"] {
            let says = bad.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(!says.contains("hunter2"), "{says}");
        }
    }
}
