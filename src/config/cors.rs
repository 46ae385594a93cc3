//! `[cors]`: the origins whose pages may use the gateway.
//!
//! Owns the list. Its invariant: origins are kept as browsers send them.

use url::Url;

use super::{raw_value::RawValue, reader::Section, setting::Setting, urls::has_plain_host};

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
    fn read(given: &RawValue) -> Result<Self, String> {
        let items = given.list()?;
        let any = items.iter().any(|item| item.text() == Ok("*"));
        match items.len() {
            1 if any => Ok(Self::Any),
            _ if any => {
                Err("\"*\" stands for every origin; leave out the others, or it".to_owned())
            }
            _ => {
                let origins = Vec::<PageOrigin>::read(given)?;
                Ok(Self::These(origins.into_iter().map(|origin| origin.0).collect()))
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

/// The origin of a page, as browsers send it: scheme, host, and a port that is not the scheme's own.
struct PageOrigin(String);

impl Setting for PageOrigin {
    fn read(given: &RawValue) -> Result<Self, String> {
        let text = given.text()?;
        let is = "an origin is scheme://host[:port]";
        if text.contains('*') {
            return Err(format!(
                "`{text}` has a wildcard, which matches nothing: {is}; list each one, like \
                 https://app.example.com, or write \"*\" alone for every origin"
            ));
        }
        if text.eq_ignore_ascii_case("null") {
            return Err(format!(
                "`{text}` is what pages without an origin send: {is}, like https://app.example.com; \
                 serve the page from one"
            ));
        }
        match Url::parse(text).ok().filter(is_nothing_more) {
            Some(url) => Ok(Self(url.origin().ascii_serialization())),
            None => Err(format!("`{text}` is no origin: {is}; write {}", nearest(text))),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

fn is_of_the_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && has_plain_host(url)
}

fn is_nothing_more(url: &Url) -> bool {
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_open = url.username().is_empty() && url.password().is_none();
    is_of_the_web(url) && is_bare && is_open
}

/// The origin that a text is likely to mean.
fn nearest(text: &str) -> String {
    let whole = Url::parse(text).ok().filter(is_of_the_web);
    // What has a scheme of its own may be any of them.
    let in_words = text.split_once("://").map_or(text, |_| "").trim_start_matches("//");
    let is_local = in_words.starts_with("localhost") || in_words.starts_with("127.");
    let scheme = if is_local { "http" } else { "https" };
    let completed = || Url::parse(&format!("{scheme}://{in_words}")).ok().filter(is_of_the_web);
    let meant = whole.or_else(completed).map(|url| url.origin().ascii_serialization());
    meant.unwrap_or_else(|| "one like https://app.example.com".to_owned())
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
        for (bad, advice) in [
            ("null", "like https://app.example.com"),
            ("https://*.example.com", "has a wildcard"),
            ("https://*.example.com", "https://app.example.com"),
            ("*.example.com", "has a wildcard"),
            ("https://%2a.example.com", "scheme://host[:port]"),
            ("https://.example.com", "scheme://host[:port]"),
            ("https://(a).example.com", "scheme://host[:port]"),
            ("app.example.com", "write https://app.example.com"),
            ("//app.example.com", "write https://app.example.com"),
            ("app.example.com:8443/x", "write https://app.example.com:8443"),
            ("localhost:3000", "write http://localhost:3000"),
            ("https://app.example.com/x?y", "write https://app.example.com"),
            ("https://ann:secret@app.example.com", "write https://app.example.com"),
            ("ftp://app.example.com", "one like https://app.example.com"),
            ("", "one like https://app.example.com"),
        ] {
            let says = faults(&origins(&format!("[\"{bad}\"]")));
            assert!(says.contains("cors.origins") && says.contains(advice), "{bad}: {says}");
            assert!(!says.contains("localhost:9000"), "{bad}: {says}");
        }
    }
}
