//! The start banner: which requests are asynchronous, and warnings for the operator.
//!
//! Pure: it sees nothing but the configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::app::Overlap;
use crate::config::{
    Config, DeliveryGuarantee, Mode, PrincipalRule, RouteConfig, StoreUrl, covers_link_local,
    widest,
};
use cloakroom_domain::sealing::NOT_SEALED;

/// What becomes of which requests, one line each.
pub(super) fn routes(config: &Config) -> Vec<String> {
    let mut lines: Vec<String> = config.routes.iter().map(route).collect();
    lines.push(match &config.fallback_upstream {
        Some(name) => format!("anything else: passed straight through to {name}"),
        None => "anything else: refused, because several upstreams are there and none is called \
                 `default`"
            .to_owned(),
    });
    lines
}

/// Which of the routes that overlap goes before which, one line each.
pub(super) fn overlaps(overlaps: &[Overlap]) -> Vec<String> {
    let line = |Overlap { route, earlier }: &Overlap| {
        format!(
            "{route} also matches what {} takes: the more specific path goes first, then a named \
             method before *, then the order of definition",
            earlier.join(" and ")
        )
    };
    overlaps.iter().map(line).collect()
}

fn route(route: &RouteConfig) -> String {
    let mode = match route.mode {
        Mode::Async => "asynchronous",
        Mode::Hybrid => "answered if it is quick, else asynchronous",
        Mode::Sync => "answered, and recorded",
    };
    let delivery = match route.promise() {
        Some(DeliveryGuarantee::AtLeastOnce) => "at-least-once",
        Some(DeliveryGuarantee::AtMostOnce) => "at-most-once",
        None => "delivered as the method calls for",
    };
    let upstream = &route.upstream;
    if route.implicit {
        return format!(
            "every POST, but gRPC and browser navigations: {mode}, {delivery}, by {upstream}"
        );
    }
    format!("{} {}: {mode}, {delivery}, by {upstream}", route.method, route.path)
}

/// What a node without a public listener does.
pub(super) fn work(config: &Config) -> String {
    let queues = match &*config.engine.queues {
        [] => "every queue".to_owned(),
        queues => queues.join(", "),
    };
    format!("working on {queues} with {} slots; no public listener", config.engine.slots)
}

/// Settings that could surprise operators later, each with the remedy.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let readers = match config.store.url {
        StoreUrl::Sqlite(_) => "the owner of the file",
        StoreUrl::Postgres(_) => "every role that may read the database",
    };
    let mut warnings = Vec::new();
    if config.secrets.key.is_none() {
        warnings.push(format!("{NOT_SEALED}; {} is readable by {readers}", config.store.url));
    }
    let loopback = config.server.listen.ip().is_loopback();
    warnings.extend(links(config));
    warnings.extend(doubts(config));
    if config.auth.shared && config.auth.principal == PrincipalRule::None && !loopback {
        warnings.push(
            "auth.shared lets every client of the public listener list all operations; leave it out \
             unless these clients trust each other"
                .to_owned(),
        );
    }
    if config.admin.listen.is_some_and(|address| !address.ip().is_loopback()) {
        warnings.push(
            "the admin listener asks for no credentials and is not on loopback; see to it that \
             only operators reach it"
                .to_owned(),
        );
    }
    warnings
}

/// Where links lead, unless that is said.
fn links(config: &Config) -> Option<String> {
    let listen = config.server.listen;
    if config.server.public_url.is_some() || !config.engine.role.answers() {
        return None;
    }
    Some(if listen.ip().is_loopback() {
        format!(
            "server.public_url is not set, so that links in answers lead to {listen}; where clients \
             reach the gateway under another name, behind a proxy for example, set it with \
             --public-url https://…"
        )
    } else {
        "server.public_url is not set, so that links in answers follow each request's Host, and \
         subscriptions and callbacks are refused; set it with --public-url https://…"
            .to_owned()
    })
}

/// What is opened wider than it is likely to be meant, and what does not do what it says.
pub(super) fn doubts(config: &Config) -> Vec<String> {
    let too_open = trust(config).into_iter().chain(link_local(config)).chain(metadata(config));
    too_open.chain(config.doubts.iter().map(ToString::to_string)).collect()
}

/// Proxies that are hardly all proxies.
fn trust(config: &Config) -> Option<String> {
    let wide = widest(&config.server.trusted_proxies)?;
    Some(format!(
        "server.trusted_proxies comes to {wide}: every machine in it can say where a request comes from \
         and which host it was sent to; list only the proxies in front"
    ))
}

/// What clouds keep credentials of machines at.
fn link_local(config: &Config) -> Option<String> {
    let open = config.webhooks.allow.iter().find(|range| covers_link_local(range))?;
    Some(format!(
        "webhooks.allow holds {open}, which covers link-local addresses: every client that may \
         subscribe can have the gateway call the metadata service of the machine's cloud \
         (169.254.169.254), which gives out credentials; name only the ranges that receivers are in"
    ))
}

/// Metadata services at addresses that are not link-local: of AWS over IPv6, and of Alibaba Cloud.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);

/// The other addresses that clouds keep credentials of machines at.
fn metadata(config: &Config) -> Option<String> {
    let addresses: [IpAddr; 3] =
        [METADATA_V6.into(), METADATA_V4.into(), METADATA_V4.to_ipv6_mapped().into()];
    let covered = |open: &IpNet| addresses.into_iter().find(|address| open.contains(address));
    let found = |open: &IpNet| Some((*open, covered(open)?));
    let (open, address) = config.webhooks.allow.iter().find_map(found)?;
    Some(format!(
        "webhooks.allow holds {open}, which covers {address}: every client that may subscribe can \
         have the gateway call the metadata service that some clouds have there, which gives out \
         credentials; name only the ranges that receivers are in"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> Config {
        let upstream = "[upstreams.default]\nurl = \"http://localhost:9000\"\n";
        Config::from_toml(&format!("{upstream}{more}")).unwrap()
    }

    #[test]
    fn without_routes_every_post_is_told_to_be_asynchronous() {
        let lines = routes(&config(""));
        assert!(lines[0].contains("every POST"), "{lines:?}");
        assert!(lines[0].contains("at-most-once"), "{lines:?}");
        assert!(lines[1].contains("straight through to default"), "{lines:?}");
    }

    #[test]
    fn each_route_is_told_with_its_promise() {
        let lines = routes(&config(
            "[[routes]]\nmatch = \"PUT /orders/{id}\"\nmode = \"hybrid\"\n\
             [[routes]]\nmatch = \"POST /orders\"\ndelivery = \"at-least-once\"",
        ));
        assert!(lines[0].starts_with("PUT /orders/{id}: answered if"), "{lines:?}");
        assert!(lines[0].contains("at-least-once"), "{lines:?}");
        assert!(lines[1].starts_with("POST /orders: asynchronous, at-least-once"), "{lines:?}");
    }

    #[test]
    fn on_loopback_only_what_lies_in_the_clear_is_worth_a_warning() {
        assert_eq!(warnings(&config("")).len(), 2);
        assert!(warnings(&config(""))[1].contains("lead to 127.0.0.1:8080"));
        let open = "[server]\nlisten = \"0.0.0.0:8080\"\n[admin]\nlisten = \"0.0.0.0:8081\"\n\
                    [auth]\nshared = true";
        let said = warnings(&config(open)).join("\n");
        for setting in ["--public-url", "auth.shared", "admin listener"] {
            assert!(said.contains(setting), "{setting} in {said}");
        }
    }

    #[test]
    fn what_is_opened_too_wide_is_told() {
        let told =
            |more: &str, word: &str| warnings(&config(more)).iter().any(|said| said.contains(word));
        for (range, warned) in [("0.0.0.0/0", true), ("10.0.0.0/8", false), ("::/0", true)] {
            let trusted = format!("[server]\ntrusted_proxies = [\"{range}\"]");
            assert_eq!(told(&trusted, "server.trusted_proxies"), warned, "{range}");
        }
        for (range, warned) in [
            ("169.254.169.254", true),
            ("169.0.0.0/8", true),
            ("::ffff:169.254.0.0/112", true),
            ("::/0", true),
            ("fe80::1", true),
            ("10.0.0.0/8", false),
            ("fc00::/7", true),
            ("fd00:ec2::254", true),
            ("fd12::/16", false),
            ("100.64.0.0/10", true),
            ("::ffff:100.100.100.200/128", true),
            ("100.64.0.0/16", false),
        ] {
            let allowed = format!("[webhooks]\nallow = [\"{range}\"]");
            assert_eq!(told(&allowed, "webhooks.allow"), warned, "{range}");
        }
    }

    #[test]
    fn what_nothing_seals_is_told_of_and_nothing_is_where_a_key_is_set() {
        let sealed = format!("[secrets]\nkey = \"{}=\"", "A".repeat(43));
        let said = warnings(&config("")).join("\n");
        for open in ["credentials", "bodies", "answers", "webhook secrets", "secrets.key"] {
            assert!(said.contains(open), "{open} in {said}");
        }
        assert!(!warnings(&config(&sealed)).join("\n").contains("secrets.key"));
    }
}
