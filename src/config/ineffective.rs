//! The check for settings that other settings make ineffective.
//!
//! Owns which. Its invariant: only what was set is doubted, never a default, so that each line tells
//! its reader of something that was written.

use super::{
    Config, DeliveryGuarantee, RouteConfig, StoreUrl, reader::ConfigReader, setting::Setting,
};
use cloakroom_domain::http::expectation::Allow;
use cloakroom_domain::webhooks::{CallbackAllowlist, Destination};

/// Doubts every setting that another one leaves without effect.
pub(super) fn check(reading: &mut ConfigReader, config: &Config) {
    for (index, route) in config.routes.iter().enumerate() {
        of_route(reading, &format!("routes[{index}]"), route);
        beyond_destinations(reading, &format!("routes[{index}].callbacks"), route, config);
    }
    let server = &config.server;
    if server.body_timeout > server.body_deadline {
        let says = format!(
            "has no effect: server.body_deadline ({}) ends the body first; make it shorter than that",
            server.body_deadline.show()
        );
        reading.doubt_set("server.body_timeout", says);
    }
    let webhooks = &config.webhooks;
    if webhooks.concurrency as usize > webhooks.slots {
        let says = format!(
            "has no effect beyond webhooks.slots ({}), which is for all receivers together; raise that",
            webhooks.slots
        );
        reading.doubt_set("webhooks.concurrency", says);
    }
    if matches!(config.store.url, StoreUrl::Sqlite(_)) {
        beyond_slots(reading, config);
    }
}

/// Patterns of callbacks that match only URLs to which nothing may be delivered.
fn beyond_destinations(
    reading: &mut ConfigReader,
    key: &str,
    route: &RouteConfig,
    config: &Config,
) {
    let CallbackAllowlist::Only(patterns) = &route.callbacks else { return };
    let rules = config.destination_rules();
    for pattern in patterns {
        if let Err(why) = Destination::parse(&pattern.example(), &rules) {
            reading.doubt_set(key, format!("{pattern} has no effect: {why}"));
        }
    }
}

/// Limits that one node's slots keep from being reached. Nodes of a fleet have slots together.
fn beyond_slots(reading: &mut ConfigReader, config: &Config) {
    let queues = config.queues.iter().filter_map(|(name, queue)| {
        Some((format!("queues.{name}.max_in_flight"), queue.max_in_flight?))
    });
    let upstreams = config.upstreams.iter();
    let upstreams =
        upstreams.map(|(name, it)| (format!("upstreams.{name}.max_in_flight"), it.max_in_flight));
    let slots = config.engine.slots;
    let beyond = queues.chain(upstreams).filter(|(_, most)| *most as usize > slots);
    for (key, _) in beyond.collect::<Vec<_>>() {
        let says = format!(
            "has no effect beyond engine.slots ({slots}), which is for all attempts together; raise that"
        );
        reading.doubt_set(&key, says);
    }
}

fn of_route(reading: &mut ConfigReader, path: &str, route: &RouteConfig) {
    let mut doubt = |key: &str, says: String| reading.doubt_set(&format!("{path}.{key}"), says);
    let deadline = route.deadline.show();
    if route.timeout > route.deadline {
        doubt(
            "timeout",
            format!(
                "has no effect: the deadline ({deadline}) ends the operation first; make the timeout \
                 shorter, or the deadline longer"
            ),
        );
    }
    if route.allow != Allow::ALL {
        let says = "has no effect: it is for hybrid answers, which need both async and sync in allow; \
                    leave it out";
        doubt("sync_wait", says.to_owned());
    }
    if route.retry.attempts == 1 {
        for key in ["retry.min", "retry.max", "retry.statuses"] {
            let says = "has no effect: with attempts = 1 nothing is tried again; leave it out";
            doubt(key, says.to_owned());
        }
        return;
    }
    let Some(statuses) = &route.retry.statuses else { return };
    if route.promise() == Some(DeliveryGuarantee::AtMostOnce) {
        let says = "has no effect: this route delivers at most once, and answers are tried again at \
                    least once only; set delivery = \"at-least-once\" if the service bears repeats, or \
                    leave it out";
        doubt("retry.statuses", says.to_owned());
    }
    let both = |status: &u16| {
        let succeeds = route.success.as_ref().is_some_and(|success| success.contains(*status));
        succeeds && statuses.contains(*status)
    };
    if let Some(status) = (200..=599).find(both) {
        let says =
            format!("{status} has no effect: success has it too, and goes first; leave out one");
        doubt("retry.statuses", says);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::read;

    fn doubts(text: &str) -> Vec<String> {
        read(text).doubts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn callbacks_to_which_nothing_may_be_delivered_are_doubted() {
        for (pattern, opened, why) in [
            ("http://hooks.example.com", "", "webhooks.allow_http"),
            ("http://*.example.com/a/*", "", "webhooks.allow_http"),
            ("https://hooks.example.com:9443", "", "webhooks.ports"),
            ("https://10.1.2.3/hooks/*", "", "webhooks.allow opens"),
            ("https://[fd00::1]", "", "webhooks.allow opens"),
            ("http://hooks.example.com", "allow_http = true", ""),
            ("https://*.example.com:9443/a", "ports = [443, 9443]", ""),
            ("https://10.1.2.3", "allow = [\"10.0.0.0/8\"]", ""),
            ("https://hooks.example.com", "", ""),
        ] {
            let text = format!(
                "[[routes]]\nmatch = \"POST /orders\"\ncallbacks = [\"https://a.example\", \"{pattern}\"]\n\
                 [webhooks]\n{opened}\n"
            );
            let doubts = doubts(&text);
            assert_eq!(doubts.is_empty(), why.is_empty(), "{pattern}: {doubts:?}");
            let says = doubts.join("\n");
            assert!(says.contains(why) && says.matches("has no effect").count() <= 1, "{says}");
        }
    }

    #[test]
    fn what_another_setting_leaves_without_effect_is_doubted_where_it_stands() {
        let post = "[[routes]]\nmatch = \"POST /orders\"\n";
        let put = "[[routes]]\nmatch = \"PUT /orders/{id}\"\n";
        for (start, line, key) in [
            (post, "timeout = \"2d\"", "routes[0].timeout"),
            (post, "timeout = \"2m\"\ndeadline = \"1m\"", "routes[0].timeout"),
            (post, "retry = { statuses = [500] }", "routes[0].retry.statuses"),
            (
                put,
                "retry = { statuses = [500] }\ndelivery = \"at-most-once\"",
                "routes[0].retry.statuses",
            ),
            (put, "retry = { statuses = [404] }\nsuccess = [200, 404]", "routes[0].retry.statuses"),
            (put, "retry = { statuses = [500], attempts = 1 }", "routes[0].retry.statuses"),
            (put, "retry = { max = \"1m\", attempts = 1 }", "routes[0].retry.max"),
            (post, "sync_wait = \"5s\"\nallow = [\"async\"]", "routes[0].sync_wait"),
            ("[server]\n", "body_timeout = \"10m\"", "server.body_timeout"),
            ("[webhooks]\n", "concurrency = 100", "webhooks.concurrency"),
            ("[queues.a]\n", "max_in_flight = 300", "queues.a.max_in_flight"),
            ("[upstreams.default]\n", "max_in_flight = 300", "upstreams.default.max_in_flight"),
        ] {
            let found = doubts(&format!("{start}{line}"));
            assert_eq!(found.len(), 1, "{line}: {found:?}");
            assert!(found[0].starts_with("test.toml:"), "{line}: {found:?}");
            assert!(found[0].contains(&format!(" {key}: ")), "{line}: {found:?}");
        }
    }

    #[test]
    fn what_takes_effect_and_what_was_not_set_is_not() {
        let shared = "[store]\nurl = \"postgres://db/x\"\n[queues.a]\nmax_in_flight = 300";
        for text in [
            "",
            "[[routes]]\nmatch = \"POST /a\"\ndeadline = \"5m\"\nallow = [\"async\"]",
            "[[routes]]\nmatch = \"POST /a\"\ntimeout = \"24h\"\nsync_wait = \"5s\"",
            "[[routes]]\nmatch = \"POST /a\"\ndelivery = \"at-least-once\"\nretry = { statuses = [500] }",
            "[[routes]]\nmatch = \"* /a\"\nretry = { statuses = [500] }\nsuccess = [200]",
            "[[routes]]\nmatch = \"POST /a\"\nretry = { attempts = 1 }\ndeadline = \"1s\"",
            "[server]\nbody_deadline = \"10s\"",
            "[webhooks]\nslots = 2",
            "[engine]\nslots = 8",
            shared,
        ] {
            assert!(doubts(text).is_empty(), "{text}: {:?}", doubts(text));
        }
    }
}
