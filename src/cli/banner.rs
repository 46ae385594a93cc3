//! What is told at start: what is asynchronous, and what the operator should know.
//!
//! Pure: it sees nothing but the configuration.

use crate::config::{Config, Delivery, Mode, PrincipalRule, RouteConfig, StoreUrl};
use crate::domain::sealing::NOT_SEALED;

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

fn route(route: &RouteConfig) -> String {
    let mode = match route.mode {
        Mode::Async => "asynchronous",
        Mode::Hybrid => "answered if it is quick, else asynchronous",
        Mode::Sync => "answered, and recorded",
    };
    let delivery = match route.delivery {
        Some(Delivery::AtLeastOnce) => "at-least-once",
        None if is_idempotent(&route.method) => "at-least-once",
        None if route.method == "*" => "delivered as the method calls for",
        None | Some(Delivery::AtMostOnce) => "at-most-once",
    };
    let upstream = &route.upstream;
    if route.implicit {
        return format!(
            "every POST, but gRPC and browser navigations: {mode}, {delivery}, by {upstream}"
        );
    }
    format!("{} {}: {mode}, {delivery}, by {upstream}", route.method, route.path)
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].contains(&method)
}

/// What a node without a public listener does.
pub(super) fn work(config: &Config) -> String {
    let queues = match &*config.engine.queues {
        [] => "every queue".to_owned(),
        queues => queues.join(", "),
    };
    format!("working on {queues} with {} slots; no public listener", config.engine.slots)
}

/// What could surprise somebody later, each with what to do about it.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let readers = match config.store.url {
        StoreUrl::Sqlite(_) => "its owner only",
        StoreUrl::Postgres(_) => "whoever may read the database",
    };
    let mut warnings = vec![format!(
        "the header fields and bodies of stored requests, credentials included, lie unencrypted \
         in {}, readable by {readers}; credentials are erased when their operation ends",
        config.store.url
    )];
    if config.secrets.key.is_none() {
        warnings.push(NOT_SEALED.to_owned());
    }
    let loopback = config.server.listen.ip().is_loopback();
    if config.server.public_url.is_none() && !loopback {
        warnings.push(
            "server.public_url is not set, so that links in answers follow each request's Host, and \
             nobody can subscribe to webhooks or be called back; set it with --public-url https://…"
                .to_owned(),
        );
    }
    if config.auth.shared && config.auth.principal == PrincipalRule::None && !loopback {
        warnings.push(
            "auth.shared lets whoever reaches the public listener list everybody's operations; \
             leave it out unless they are one circle"
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
        let open = "[server]\nlisten = \"0.0.0.0:8080\"\n[admin]\nlisten = \"0.0.0.0:8081\"\n\
                    [auth]\nshared = true";
        let said = warnings(&config(open)).join("\n");
        for setting in ["--public-url", "auth.shared", "admin listener"] {
            assert!(said.contains(setting), "{setting} in {said}");
        }
    }

    #[test]
    fn secrets_that_nothing_seals_are_told_of() {
        let sealed = format!("[secrets]\nkey = \"{}=\"", "A".repeat(43));
        let told = |more: &str| warnings(&config(more)).iter().any(|said| said == NOT_SEALED);
        assert_eq!((told(""), told(&sealed)), (true, false));
    }
}
