//! URLs in a configuration.
//!
//! Owns what such a URL may have. Its invariant: http or https, and never a user name,
//! password, query or fragment. Errors do not repeat the URL: it may hold a password.

use url::{Host, Origin, Url};

use super::{raw_value::RawValue, setting::Setting};

/// A URL that others are built on: an origin and perhaps a path, without its last `/`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BaseUrl(pub(super) Url);

/// A URL that is nothing but an origin.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OriginUrl(pub(super) Url);

impl Setting for BaseUrl {
    fn read(given: &RawValue) -> Result<Self, String> {
        let mut url = web(given.text()?, "https://api.example.com")?;
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    fn show(&self) -> String {
        self.0.as_str().trim_end_matches('/').to_owned()
    }
}

impl Setting for OriginUrl {
    fn read(given: &RawValue) -> Result<Self, String> {
        let url = web(given.text()?, "http://localhost:9000")?;
        if url.path() != "/" {
            return Err("leave out the path: only scheme, host and port, like \
                        http://localhost:9000; requests keep their own path"
                .to_owned());
        }
        Ok(Self(url))
    }

    fn show(&self) -> String {
        self.0.origin().ascii_serialization()
    }
}

impl Setting for Origin {
    fn read(given: &RawValue) -> Result<Self, String> {
        OriginUrl::read(given).map(|url| url.0.origin())
    }

    fn show(&self) -> String {
        self.ascii_serialization()
    }
}

fn web(text: &str, example: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|why| format!("not a URL ({why}); write {example}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("a URL here begins with http:// or https://, like {example}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("leave out user name and password: a URL ends up in logs. Credentials for \
                    an upstream go into its headers, with a value like \"env:NAME\""
            .to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("leave out what begins with ? or #; write {example}"));
    }
    if !has_plain_host(&url) {
        return Err(format!(
            "the host is no name: it has letters, digits, - and _; write {example}"
        ));
    }
    Ok(url)
}

/// Whether a host is one that can be looked up: no wildcard, no empty part.
pub(super) fn has_plain_host(url: &Url) -> bool {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_part = |part: &str| !part.is_empty() && part.chars().all(is_of_name);
    match url.host() {
        Some(Host::Domain(name)) => name.strip_suffix('.').unwrap_or(name).split('.').all(is_part),
        Some(_) => true,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(text: &str) -> Result<T, String> {
        T::read(&RawValue::Text(text.into()))
    }

    #[test]
    fn a_base_keeps_its_path_without_the_last_slash() {
        assert_eq!(
            read::<BaseUrl>("https://a.example/x/").unwrap().0.as_str(),
            "https://a.example/x"
        );
        assert_eq!(read::<BaseUrl>("https://a.example/").unwrap().show(), "https://a.example");
    }

    #[test]
    fn an_origin_with_anything_behind_it_is_refused() {
        assert_eq!(read::<OriginUrl>("http://a:9000").unwrap().show(), "http://a:9000");
        for good in [
            "http://a:9000/",
            "http://my_app.a-b.",
            "http://[::1]",
            "http://10.0.0.1",
            "http://bücher",
        ] {
            assert!(read::<OriginUrl>(good).is_ok(), "{good}");
        }
        for (wrong, says) in [
            ("http://a:9000/base", "path"),
            ("http://a?q", "? or #"),
            ("http://a#f", "? or #"),
            ("http://u@a", "user name"),
            ("ftp://a", "http://"),
            ("localhost:9000", "http://"),
            ("a.example", "not a URL"),
            ("http://", "not a URL"),
            ("http://*.a", "the host is no name"),
            ("http://.a", "the host is no name"),
            ("http://a..b", "the host is no name"),
        ] {
            let error = read::<OriginUrl>(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn an_error_never_repeats_a_password() {
        assert!(!read::<BaseUrl>("http://user:hunter2@a").unwrap_err().contains("hunter2"));
        assert!(!read::<BaseUrl>("http://user:hunter2@").unwrap_err().contains("hunter2"));
    }
}
