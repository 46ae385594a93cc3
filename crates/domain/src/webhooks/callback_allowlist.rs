//! The callback allowlist of a route.
//!
//! Owns the patterns that an operator writes, like `https://*.example.com/hooks/*`. Its invariant: a
//! URL is compared as it is dialled, with every spelling of its host and path normalized; a path that a
//! server could read as another one never matches.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// The callback URLs that a route accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CallbackAllowlist {
    /// None.
    #[default]
    Off,
    /// All URLs that deliveries may go to.
    Any,
    /// Those of them that match one of these.
    Only(Vec<UrlPattern>),
}

impl CallbackAllowlist {
    /// Whether a URL is taken; none is where callbacks are off.
    pub fn takes(&self, url: &Url) -> bool {
        match self {
            Self::Off => false,
            Self::Any => true,
            Self::Only(patterns) => patterns.iter().any(|pattern| pattern.matches(url)),
        }
    }
}

/// A pattern of URLs: a scheme, a host, perhaps a port and a path.
///
/// `*.` before the host stands for one name or several; `*` at the end of the path for any
/// rest. Without a path every path is taken, without a port the scheme's own. A query is
/// no part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPattern {
    scheme: &'static str,
    host: Host<String>,
    beneath: bool,
    port: u16,
    path: Option<String>,
}

/// A text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no pattern of URLs; write it like https://hooks.example.com/orders or \
     https://*.example.com/hooks/*"
)]
pub struct BadUrlPattern(String);

impl FromStr for UrlPattern {
    type Err = BadUrlPattern;

    fn from_str(text: &str) -> Result<Self, BadUrlPattern> {
        Self::read(text).ok_or_else(|| BadUrlPattern(text.to_owned()))
    }
}

impl UrlPattern {
    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = ["https", "http"].into_iter().find(|known| *known == scheme)?;
        let (authority, path) = match rest.find('/') {
            Some(start) => (&rest[..start], Some(&rest[start..])),
            None => (rest, None),
        };
        let beneath = authority.starts_with("*.");
        let authority = authority.strip_prefix("*.").unwrap_or(authority);
        if authority.is_empty() || authority.contains(['*', '@', '?', '#', '\\']) {
            return None;
        }
        // Read as a URL is, so that both are spelled alike.
        let origin = Url::parse(&format!("{scheme}://{authority}")).ok()?;
        let host = origin.host()?.to_owned();
        if beneath && !matches!(host, Host::Domain(_)) {
            return None;
        }
        let path = match path {
            Some(path) => Some(Self::path(&origin, path)?),
            None => None,
        };
        let port = origin.port_or_known_default()?;
        Some(Self { scheme, host, beneath, port, path })
    }

    fn path(origin: &Url, path: &str) -> Option<String> {
        let stem = path.strip_suffix('*').unwrap_or(path);
        let plain = |c: char| c.is_ascii_graphic() && !"*?#\\".contains(c);
        if !stem.chars().all(plain) || is_doubtful(stem) {
            return None;
        }
        let normal = origin.join(stem).ok()?.path().to_owned();
        // What is rewritten would match something else than it says.
        if normal != stem || normal.starts_with("//") {
            return None;
        }
        Some(path.to_owned())
    }

    /// A URL that matches.
    pub fn example(&self) -> String {
        let host = if self.beneath { format!("any.{}", self.host) } else { self.host.to_string() };
        let path = self.path.as_deref().unwrap_or("/").trim_end_matches('*');
        format!("{}://{host}:{}{path}", self.scheme, self.port)
    }

    /// Whether a URL matches.
    pub fn matches(&self, url: &Url) -> bool {
        url.scheme() == self.scheme
            && url.port_or_known_default() == Some(self.port)
            && url.host().is_some_and(|host| self.has_host(&host))
            && self.has_path(url.path())
    }

    fn has_host(&self, host: &Host<&str>) -> bool {
        match (&self.host, host) {
            (Host::Domain(own), Host::Domain(name)) if self.beneath => {
                let rest = name.strip_suffix(own.as_str()).and_then(|rest| rest.strip_suffix('.'));
                rest.is_some_and(|rest| !rest.is_empty())
            }
            (Host::Domain(own), Host::Domain(name)) => own == name,
            (Host::Ipv4(own), Host::Ipv4(address)) => own == address,
            (Host::Ipv6(own), Host::Ipv6(address)) => own == address,
            _ => false,
        }
    }

    fn has_path(&self, path: &str) -> bool {
        let Some(own) = &self.path else { return true };
        if is_doubtful(path) {
            return false;
        }
        match own.strip_suffix('*') {
            Some(stem) => path.starts_with(stem),
            None => path == own,
        }
    }
}

/// Whether some server reads more slashes in a path than stand there.
fn is_doubtful(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    ["%2f", "%5c", "%2e", "%25"].iter().any(|escape| path.contains(escape))
}

impl fmt::Display for UrlPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, if self.beneath { "*." } else { "" }, self.host)?;
        let usual = if self.scheme == "https" { 443 } else { 80 };
        if self.port != usual {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(self.path.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, url: &str) -> bool {
        pattern.parse::<UrlPattern>().unwrap().matches(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_pattern_takes_what_it_says() {
        for (pattern, url) in [
            ("https://hooks.example.com", "https://hooks.example.com/any/path?x=1"),
            ("https://hooks.example.com/a", "https://HOOKS.example.com:443/a?x=1"),
            ("https://*.example.com/hooks/*", "https://a.b.example.com/hooks/"),
            ("https://*.example.com/hooks/*", "https://a.example.com/hooks/b/c"),
            ("https://example.com:8443/*", "https://example.com:8443/"),
            ("http://127.0.0.1:9100", "http://0x7f.1:9100/x"),
            ("http://[::1]:9100/x", "http://[0::1]:9100/x"),
            ("https://bücher.example", "https://xn--bcher-kva.example/"),
        ] {
            assert!(matches(pattern, url), "{pattern} {url}");
        }
    }

    #[test]
    fn it_takes_nothing_beside() {
        for (pattern, url) in [
            ("https://example.com", "http://example.com"),
            ("https://example.com", "https://a.example.com"),
            ("https://example.com", "https://example.com:8443"),
            ("https://example.com", "https://example.com.evil.example"),
            ("https://*.example.com", "https://example.com"),
            ("https://*.example.com", "https://evilexample.com"),
            ("https://*.example.com", "https://example.com.evil.example"),
            ("https://example.com/hooks/*", "https://example.com/hooks"),
            ("https://example.com/hooks/*", "https://example.com/hooks/../admin"),
            ("https://example.com/hooks/*", "https://example.com/hooks/%2e%2e/admin"),
            ("https://example.com/hooks/*", "https://example.com/hooks/..%2fadmin"),
            ("https://example.com/hooks/*", "https://example.com/hooks/..%5Cadmin"),
            ("https://example.com/hooks/*", "https://example.com/hooks/..%252fadmin"),
            ("https://example.com/hooks", "https://example.com/hooks/"),
            ("https://example.com/hooks", "https://example.com/Hooks"),
        ] {
            assert!(!matches(pattern, url), "{pattern} {url}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_an_example() {
        for text in [
            "",
            "any",
            "example.com",
            "//example.com",
            "ftp://example.com",
            "https://",
            "https:///a",
            "https://*",
            "https://*.",
            "https://*/hooks",
            "https://a.*.example.com",
            "https://*.127.0.0.1",
            "https://u@example.com",
            "https://example.com?q",
            "https://example.com/a?q",
            "https://example.com/#f",
            "https://example.com/*/a",
            "https://example.com/a/../b",
            "https://example.com/a%2fb",
            "https://example.com//a",
            "https://example.com:x",
            "https://exa mple.com",
            "https://example.com/a b",
        ] {
            let refused = text.parse::<UrlPattern>();
            assert!(
                refused.as_ref().is_err_and(|bad| bad.to_string().contains("hooks/*")),
                "{text} {refused:?}"
            );
        }
    }

    #[test]
    fn a_pattern_is_shown_as_it_can_be_written() {
        for text in [
            "https://example.com",
            "https://*.example.com/hooks/*",
            "http://example.com:8080/a",
            "http://[::1]:9100",
        ] {
            assert_eq!(text.parse::<UrlPattern>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn a_prefix_never_lets_a_path_out_of_its_folder(rest in "[a-z./%25fFeEcC\\\\]{0,24}") {
            let pattern: UrlPattern = "https://example.com/hooks/*".parse().unwrap();
            if let Ok(url) = Url::parse(&format!("https://example.com/hooks/{rest}"))
                && pattern.matches(&url)
            {
                prop_assert!(url.path().starts_with("/hooks/"));
                prop_assert!(url.path_segments().unwrap().all(|segment| segment != ".."));
            }
        }
    }
}
