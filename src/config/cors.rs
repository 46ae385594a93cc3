//! `[cors]`: pages of which origins may use the gateway.
//!
//! Owns the list. Its invariant: origins are kept as browsers send them.

use url::Origin;

use super::{given::Given, reader::Section, setting::Setting};

/// Pages of which origins may use the gateway.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct CorsConfig {
    /// The origins.
    pub origins: CorsOrigins,
}

/// Origins as browsers send them.
#[derive(Clone, Debug, PartialEq)]
pub enum CorsOrigins {
    /// Exactly these, compared to the octet; none by default.
    These(Vec<String>),
    /// Every one.
    Any,
}

impl Default for CorsOrigins {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl CorsOrigins {
    /// Whether pages of this origin, as the `Origin` field says it, may use the gateway.
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::These(known) => known.iter().any(|one| one == origin),
            Self::Any => true,
        }
    }
}

impl CorsConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self { origins: section.get("origins", CorsOrigins::default()) }
    }
}

impl Setting for CorsOrigins {
    fn read(given: &Given) -> Result<Self, String> {
        let items = given.list()?;
        let any = items.iter().any(|item| item.text() == Ok("*"));
        match items.len() {
            1 if any => Ok(Self::Any),
            _ if any => {
                Err("\"*\" stands for every origin; leave out the others, or it".to_owned())
            }
            _ => {
                let origins = Vec::<Origin>::read(given)
                    .map_err(|says| format!("{says}; an origin is like https://app.example.com"))?;
                Ok(Self::These(origins.iter().map(Origin::ascii_serialization).collect()))
            }
        }
    }

    fn show(&self) -> String {
        match self {
            Self::These(origins) => origins.show(),
            Self::Any => "[*]".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, read};
    use super::*;

    fn origins(list: &str) -> String {
        format!("[cors]\norigins = {list}")
    }

    #[test]
    fn no_page_may_use_the_gateway_unless_told() {
        assert!(!read("").cors.origins.allow("https://app.example.com"));
    }

    #[test]
    fn an_origin_is_compared_as_browsers_send_it() {
        let cors = read(&origins("[\"https://App.example.com:443/\"]")).cors.origins;
        assert!(cors.allow("https://app.example.com"));
        assert!(!cors.allow("http://app.example.com"));
        assert!(!cors.allow("https://app.example.com.evil.example"));
    }

    #[test]
    fn a_star_stands_alone() {
        assert_eq!(read(&origins("[\"*\"]")).cors.origins, CorsOrigins::Any);
        assert!(faults(&origins("[\"*\", \"https://a.example\"]")).contains("cors.origins"));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for bad in ["null", "https://*.example.com/x", "a.example", "https://a.example/x"] {
            let says = faults(&origins(&format!("[\"{bad}\"]")));
            assert!(says.contains("https://app.example.com"), "{bad}: {says}");
        }
    }
}
