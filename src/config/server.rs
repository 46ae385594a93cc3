//! `[server]`: the public listener and its limits.
//!
//! Owns what a client meets before any route is looked at. Its invariant: no limit is
//! zero, so that no client can hold a connection for ever.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;
use url::Url;

use super::{
    ranges::canonical,
    raw_value::RawValue,
    reader::Section,
    setting::Setting,
    units::{MOMENT, Size, hours, minutes, seconds},
    urls::BaseUrl,
};

/// The public listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Where clients are listened to.
    pub listen: SocketAddr,
    /// The URL by which clients reach this gateway; its path, if any, has no `/` at its end.
    pub public_url: Option<Url>,
    /// The URL by which upstreams reach this gateway; `public_url` where unset.
    pub internal_url: Option<Url>,
    /// The path under which the gateway's own resources live: begins with `/`, does not
    /// end with it.
    pub prefix: String,
    /// Whether a path under the prefix that the gateway has no resource for is treated like any
    /// other, because the upstream has paths there.
    pub prefix_pass: bool,
    /// Peers whose forwarding fields are believed; ranges of IPv4 addresses are written as such.
    pub trusted_proxies: Vec<IpNet>,
    /// The largest body that is accepted, in bytes.
    pub max_body: usize,
    /// The largest header section, in bytes, names and values together.
    pub max_headers: usize,
    /// The bytes that all bodies being received may take together; at least `max_body`.
    pub body_memory: usize,
    /// How long a header section may take.
    pub header_timeout: Duration,
    /// The longest pause between two pieces of a body.
    pub body_timeout: Duration,
    /// How long a body may take as a whole.
    pub body_deadline: Duration,
    /// How long a connection is kept without a request.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of an answer.
    pub write_timeout: Duration,
    /// How many connections may be open; none: as many as the limit of open files leaves room
    /// for.
    pub max_connections: Option<usize>,
    /// Protocols, in lower case, that a connection may be upgraded to.
    pub upgrades: Vec<String>,
}

/// More than a machine has ports and files for.
const MOST_CONNECTIONS: usize = 1_000_000;

/// More than a machine has.
const MOST_MEMORY: Size = Size::mib(1 << 20);

impl ServerConfig {
    /// Asks in the order in which the settings are documented: rows are printed in it.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let hour = MOMENT..=hours(1);
        let listen = section.get("listen", SocketAddr::from(([127, 0, 0, 1], 8080)));
        let public_url = section.get::<Option<BaseUrl>>("public_url", None);
        let internal_url = section.get::<Option<BaseUrl>>("internal_url", None);
        let prefix = section.get("prefix", PathPrefix("/-".to_owned()));
        let prefix_pass = section.get("prefix_pass", false);
        let trusted_proxies = section.get("trusted_proxies", Vec::<IpNet>::new());
        let max_body = section.within("max_body", Size::mib(16), Size(1)..=Size::mib(1024));
        let max_headers = section.within("max_headers", Size::kib(64), Size::kib(8)..=Size::mib(1));
        Self {
            listen,
            public_url: public_url.map(|url| url.0),
            internal_url: internal_url.map(|url| url.0),
            prefix: prefix.0,
            prefix_pass,
            trusted_proxies: trusted_proxies.iter().map(canonical).collect(),
            max_body: max_body.0,
            max_headers: max_headers.0,
            body_memory: body_memory(section, max_body),
            header_timeout: section.within("header_timeout", seconds(10), hour.clone()),
            body_timeout: section.within("body_timeout", seconds(30), hour.clone()),
            body_deadline: section.within("body_deadline", minutes(5), MOMENT..=hours(24)),
            idle_timeout: section.within("idle_timeout", seconds(75), hour.clone()),
            write_timeout: section.within("write_timeout", seconds(60), hour),
            max_connections: Some(section.within("max_connections", 4096, 0..=MOST_CONNECTIONS))
                .filter(|most| *most > 0),
            upgrades: upgrades(section),
        }
    }
}

fn body_memory(section: &mut Section<'_>, max_body: Size) -> usize {
    let memory = section.within("body_memory", Size::mib(256), Size(1)..=MOST_MEMORY);
    if memory < max_body {
        let says = "must not be less than server.max_body, or the largest body never fits";
        section.fault_about("body_memory", says);
    }
    memory.0
}

fn upgrades(section: &mut Section<'_>) -> Vec<String> {
    let known = section.get("upgrades", vec![Protocol("websocket".to_owned())]);
    known.into_iter().map(|protocol| protocol.0).collect()
}

struct PathPrefix(String);

impl Setting for PathPrefix {
    fn read(given: &RawValue) -> Result<Self, String> {
        let text = given.text()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        let segment = |s: &str| !matches!(s, "" | "." | "..") && s.chars().all(plain);
        match text.strip_prefix('/') {
            Some(rest) if rest.split('/').all(segment) => Ok(Self(text.to_owned())),
            _ => Err(format!(
                "`{text}` cannot be a prefix; write a path like /- or /gateway/async: it begins \
                 with `/`, does not end with it, and has letters, digits, `-`, `.`, `_`, `~`"
            )),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

struct Protocol(String);

impl Setting for Protocol {
    fn read(given: &RawValue) -> Result<Self, String> {
        let name = given.text()?.to_ascii_lowercase();
        let token = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
        if name == "h2c" {
            return Err("h2c is never upgraded to: it would carry requests past the routes; \
                        leave it out"
                .to_owned());
        }
        if name.is_empty() || !name.chars().all(token) {
            return Err(format!("`{name}` is not a protocol's name, like websocket"));
        }
        Ok(Self(name))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, read};

    #[test]
    fn an_empty_section_has_the_documented_limits() {
        let server = read("").server;
        assert_eq!(server.listen.to_string(), "127.0.0.1:8080");
        assert_eq!((server.prefix.as_str(), server.public_url), ("/-", None));
        assert!(!server.prefix_pass);
        assert_eq!((server.max_body, server.max_headers), (16 << 20, 64 << 10));
        assert_eq!(server.body_memory, 256 << 20);
        assert_eq!(server.header_timeout.as_secs(), 10);
        assert_eq!(server.body_timeout.as_secs(), 30);
        assert_eq!(server.body_deadline.as_secs(), 300);
        assert_eq!(server.idle_timeout.as_secs(), 75);
        assert_eq!(server.write_timeout.as_secs(), 60);
        assert_eq!(server.max_connections, Some(4096));
        assert_eq!(server.upgrades, ["websocket"]);
    }

    #[test]
    fn zero_connections_means_as_many_as_come() {
        assert_eq!(read("[server]\nmax_connections = 0").server.max_connections, None);
    }

    #[test]
    fn a_number_that_no_machine_has_room_for_is_told_what_is_possible() {
        for (line, bounds) in [
            ("max_connections = -1", "from 0 to 1000000"),
            ("max_connections = 1000001", "from 0 to 1000000"),
            ("max_body = -1", "from 1 to 1GiB"),
            ("max_body = \"1TiB\"", "from 1 to 1GiB"),
            ("max_headers = -1", "from 8KiB to 1MiB"),
            ("body_memory = -1", "from 1 to 1TiB"),
            ("body_memory = \"2TiB\"", "from 1 to 1TiB"),
        ] {
            let says = faults(&format!("[server]\n{line}"));
            assert!(says.contains(bounds) && says.lines().count() == 1, "{line}: {says}");
        }
    }

    #[test]
    fn a_prefix_is_a_clean_path_without_its_last_slash() {
        for good in ["/-", "/gateway", "/a/b.c"] {
            assert_eq!(read(&format!("[server]\nprefix = \"{good}\"")).server.prefix, good);
        }
        for bad in ["", "/", "-", "/-/", "/a//b", "/a/../b", "/.", "/a b", "/{x}", "/%2d"] {
            let says = faults(&format!("[server]\nprefix = \"{bad}\""));
            assert!(says.contains("server.prefix") && says.contains("/gateway"), "{bad}: {says}");
        }
    }

    #[test]
    fn no_timeout_and_no_size_can_be_zero() {
        let idle = ["idle_timeout", "write_timeout"];
        for key in ["header_timeout", "body_timeout", "body_deadline"].into_iter().chain(idle) {
            let says = faults(&format!("[server]\n{key} = \"0s\""));
            assert!(says.contains(&format!("server.{key}")) && says.contains("1ms"), "{says}");
        }
        assert!(faults("[server]\nmax_body = 0").contains("server.max_body"));
        assert!(faults("[server]\nmax_headers = 0").contains("from 8KiB"));
    }

    #[test]
    fn the_memory_for_bodies_holds_at_least_one() {
        let says = faults("[server]\nmax_body = \"2MiB\"\nbody_memory = \"1MiB\"");
        assert!(says.contains("server.body_memory") && says.contains("server.max_body"), "{says}");
        assert!(faults("[server]\nmax_body = \"512MiB\"").contains("server.body_memory"));
    }

    #[test]
    fn a_range_of_ipv4_in_the_form_of_ipv6_holds_the_same_peers() {
        let text = "[server]\ntrusted_proxies = [\"::ffff:10.0.0.0/104\", \"fd00::/16\"]";
        let ranges = read(text).server.trusted_proxies;
        assert_eq!(
            ranges.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.0/8", "fd00::/16"]
        );
    }

    #[test]
    fn h2c_is_never_an_upgrade() {
        let text = "[server]\nupgrades = [\"WebSocket\", \"H2C\"]";
        assert!(faults(text).contains("server.upgrades: h2c"));
        assert_eq!(read("[server]\nupgrades = [\"WebSocket\"]").server.upgrades, ["websocket"]);
        assert!(read("[server]\nupgrades = []").server.upgrades.is_empty());
    }
}
