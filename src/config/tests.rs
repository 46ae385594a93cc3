//! Tests of the configuration as a whole: precedence, unknown names, several faults at
//! once, and the example file.

use std::path::Path;

use super::{
    testing::{faults, lines, load, load_with, read, rows},
    *,
};

const EXAMPLE: &str = include_str!("../../cloakroom.example.toml");

fn overrides(upstream: &str) -> Overrides {
    Overrides { upstream: Some(upstream.to_owned()), ..Overrides::default() }
}

fn no_environment() -> impl Iterator<Item = (String, String)> {
    std::iter::empty()
}

#[test]
fn an_upstream_alone_is_enough() {
    let loaded = Config::load(None, no_environment(), overrides("http://localhost:9000")).unwrap();
    assert_eq!(loaded.config.fallback_upstream.as_deref(), Some("default"));
    let flag = &rows(&loaded)["upstreams.default.url"];
    assert_eq!(
        (flag.value.as_str(), &flag.source),
        ("http://localhost:9000", &SettingSource::Flag("--upstream"))
    );
}

#[test]
fn no_upstream_is_one_fault_that_says_what_to_do() {
    let says = lines(Config::from_toml("[[routes]]\nmatch = \"POST /a\"").unwrap_err());
    assert!(says.contains("--upstream http://localhost:9000"), "{says}");
    assert!(says.contains("[upstreams.NAME]") && says.lines().count() == 1, "{says}");
}

#[test]
fn commands_that_call_no_upstream_do_without_one() {
    let overrides = Overrides { upstream_optional: true, ..Overrides::default() };
    let config = Config::load(None, no_environment(), overrides).unwrap().config;
    assert!(config.upstreams.is_empty() && config.routes.is_empty());
    assert_eq!(config.fallback_upstream, None);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file_and_that_over_the_default() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\n";
    let variable = [("CLOAKROOM_SERVER_LISTEN", "127.0.0.1:2")];
    let listen = |text, environment: &[(&str, &str)], flag: Option<&str>| {
        let overrides =
            Overrides { listen: flag.map(str::to_owned), ..overrides("http://localhost:9000") };
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let loaded = super::read("test.toml", text, environment, overrides).unwrap();
        (loaded.config.server.listen.port(), rows(&loaded)["server.listen"].source.to_string())
    };
    assert_eq!(listen("", &[], None), (8080, "default".into()));
    assert_eq!(listen(file, &[], None), (1, "test.toml:2".into()));
    assert_eq!(listen(file, &variable, None), (2, "CLOAKROOM_SERVER_LISTEN".into()));
    assert_eq!(listen(file, &variable, Some("127.0.0.1:3")), (3, "--listen".into()));
}

#[test]
fn every_flag_sets_its_setting() {
    let overrides = Overrides {
        listen: Some("127.0.0.1:1".into()),
        admin_listen: Some("off".into()),
        store: Some("sqlite:a.db".into()),
        public_url: Some("https://a.example/x".into()),
        shared: true,
        ..overrides("http://b:2")
    };
    let config = Config::load(None, no_environment(), overrides).unwrap().config;
    assert_eq!((config.server.listen.port(), config.admin.listen), (1, None));
    assert_eq!(config.store.url.path(), Some(Path::new("a.db")));
    assert_eq!(config.server.public_url.unwrap().as_str(), "https://a.example/x");
    assert_eq!(config.upstreams["default"].url.as_str(), "http://b:2/");
    assert!(config.auth.shared);
}

#[test]
fn variables_carry_every_type() {
    let environment = [
        ("CLOAKROOM_SERVER_MAX_BODY", "1MiB"),
        ("CLOAKROOM_SERVER_TRUSTED_PROXIES", "10.0.0.0/8, 192.168.1.7"),
        ("CLOAKROOM_STORE_READERS", "2"),
        ("CLOAKROOM_AUTH_SHARED", "true"),
        ("CLOAKROOM_QUEUES_DEFAULT_PAUSED", "true"),
        ("CLOAKROOM_RETENTION_RESULT", "1h"),
        ("CLOAKROOM_LOG_FORMAT", ""),
        ("PATH", "/bin"),
    ];
    let config = load_with("", &environment).unwrap().config;
    assert_eq!((config.server.max_body, config.server.trusted_proxies.len()), (1 << 20, 2));
    assert_eq!((config.store.readers, config.auth.shared), (2, true));
    assert!(config.queues["default"].paused);
    assert_eq!(config.retention.result.as_secs(), 3600);
    assert_eq!(config.log.format, LogFormat::Auto);
}

#[test]
fn a_wrong_variable_is_named_with_its_setting() {
    let says = lines(load_with("", &[("CLOAKROOM_STORE_READERS", "many")]).unwrap_err());
    assert_eq!(
        says,
        "CLOAKROOM_STORE_READERS: store.readers: `many` is not a whole number; from 1 to 64 is possible"
    );
}

#[test]
fn unknown_names_are_faults_with_the_nearest_known_one() {
    let says = faults("[server]\nlistne = \"x\"\n");
    assert_eq!(says, "test.toml:2: server.listne: there is no such setting; did you mean listen?");
    let says = faults("\n[sevrer]\n");
    assert_eq!(says, "test.toml:2: sevrer: there is no such section; did you mean server?");
    let says = lines(load_with("", &[("CLOAKROOM_SERVER_LISTNE", "x")]).unwrap_err());
    assert!(says.starts_with("CLOAKROOM_SERVER_LISTNE: "), "{says}");
    assert!(says.contains("did you mean CLOAKROOM_SERVER_LISTEN?"), "{says}");
    for (wrong, right) in [
        ("CLOAKROOM_SERVER_ADMIN_LISTEN", "CLOAKROOM_ADMIN_LISTEN"),
        ("CLOAKROOM_SERVER_STORE_URL", "CLOAKROOM_STORE_URL"),
        ("CLOAKROOM_PUBLIC_URL", "CLOAKROOM_SERVER_PUBLIC_URL"),
        ("CLOAKROOM_SERVER_PRINCIPAL", "CLOAKROOM_AUTH_PRINCIPAL"),
    ] {
        let says = lines(load_with("", &[(wrong, "x")]).unwrap_err());
        assert!(says.contains(&format!("did you mean {right}?")), "{says}");
    }
}

#[test]
fn unknown_names_that_are_near_to_nothing_come_with_what_is_known() {
    let says = faults("[store]\nelephant = 1\n");
    assert!(says.contains("known here: url, readers"), "{says}");
    assert!(faults("[elephants]\n").contains("known here: server, admin"));
    let says = lines(load_with("", &[("CLOAKROOM_X", "1")]).unwrap_err());
    assert!(says.contains("config print"), "{says}");
}

#[test]
fn what_kubernetes_sets_by_itself_is_no_mistake() {
    let links = [
        ("CLOAKROOM_SERVICE_HOST", "10.0.0.1"),
        ("CLOAKROOM_SERVICE_PORT_HTTP", "80"),
        ("CLOAKROOM_PORT", "tcp://10.0.0.1:80"),
        ("CLOAKROOM_PORT_80_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(load_with("", &links).is_ok());
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = "[server]\nlisten = 3\nmax_body = \"big\"\nnothing = 1\n\n\
                [upstreams.a]\nurl = \"x\"\n\n[[routes]]\nmatch = \"POST\"\nqueue = \"q\"\n\n[more]\n";
    let error = load_with(text, &[("CLOAKROOM_MORE", "1"), ("CLOAKROOM_ENGINE_SLOTS", "0")]);
    let says = error.unwrap_err().to_string();
    for part in [
        "test.toml:2: server.listen: ",
        "test.toml:3: server.max_body: ",
        "test.toml:4: server.nothing: ",
        "test.toml:7: upstreams.a.url: ",
        "test.toml:10: routes[0].match: ",
        "test.toml:11: routes[0].queue: ",
        "test.toml:13: more: ",
        "CLOAKROOM_MORE: ",
        "CLOAKROOM_ENGINE_SLOTS: engine.slots: ",
    ] {
        assert!(says.contains(part), "{part} is not in {says}");
    }
    assert_eq!(says.lines().count(), 10, "{says}");
}

#[test]
fn a_wrong_type_is_named() {
    assert!(faults("server = 3").contains("expected a [server] section, found a number"));
    assert!(faults("[server]\nlisten = true").contains("expected text in quotes, found true"));
    assert!(faults("[auth]\nshared = \"yes\"").contains("expected true or false, found text"));
    assert!(faults("[store]\nreaders = 1.5").contains("found a number with a fraction"));
    assert!(faults("[cors]\norigins = \"*\"").contains("expected a list"));
}

#[test]
fn two_listeners_do_not_share_a_port() {
    for (public, admin, good) in [
        ("127.0.0.1:1", "127.0.0.1:1", false),
        ("0.0.0.0:1", "127.0.0.1:1", false),
        ("127.0.0.1:1", "127.0.0.2:1", true),
        ("127.0.0.1:0", "127.0.0.1:0", true),
        ("127.0.0.1:1", "off", true),
    ] {
        let text = format!("[server]\nlisten = \"{public}\"\n[admin]\nlisten = \"{admin}\"\n");
        let loaded = load(&text);
        assert_eq!(loaded.is_ok(), good, "{public} and {admin}");
        if let Err(error) = loaded {
            assert!(lines(error).starts_with("test.toml:4: admin.listen: "));
        }
    }
}

#[test]
fn a_file_is_read_and_a_missing_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    let error = Config::load(Some(&path), no_environment(), Overrides::default()).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("c.toml") && error.to_string().contains("--config"));
    std::fs::write(&path, "[upstreams.a]\nurl = \"http://a:1\"\n").unwrap();
    let loaded = Config::load(Some(&path), no_environment(), Overrides::default()).unwrap();
    let place = rows(&loaded)["upstreams.a.url"].source.to_string();
    assert_eq!(place, format!("{}:2", path.display()));
}

#[test]
fn rows_stand_in_the_order_of_the_sections() {
    let loaded = load("").unwrap();
    let keys: Vec<_> = loaded.sources.iter().map(|row| row.key.as_str()).collect();
    let place = |key: &str| keys.iter().position(|known| *known == key).unwrap();
    assert!(place("server.listen") < place("admin.listen"));
    assert!(place("log.filter") < place("upstreams.default.url"));
    assert!(place("queues.default.paused") < place("routes[0].match"));
    assert_eq!(keys[0], "server.listen");
}

#[test]
fn the_example_is_a_configuration_as_it_stands() {
    assert_eq!(Config::from_toml(EXAMPLE).unwrap(), {
        let mut config = read("");
        config.routes.retain(|route| route.implicit);
        config
    });
}

/// The example with its settings switched on: a `#` directly before a letter or bracket.
fn switched_on() -> String {
    let on = |line: &'static str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest,
        _ => line,
    };
    EXAMPLE.lines().map(on).collect::<Vec<_>>().join("\n")
}

fn load_example() -> LoadedConfig {
    let token = [("ORDERS_TOKEN".to_owned(), "x".to_owned())];
    super::read("e.toml", &switched_on(), token.into_iter(), Overrides::default()).unwrap()
}

#[test]
fn the_example_has_every_setting() {
    for row in load_example().sources {
        assert_ne!(row.source, SettingSource::Default, "{} is not in the example", row.key);
    }
}

#[test]
fn the_example_shows_the_defaults() {
    let defaults = load("[[routes]]\nmatch = \"POST /orders/{customer}\"\n").unwrap();
    let defaults = rows(&defaults);
    for row in &load_example().sources {
        let Some(default) = defaults.get(row.key.as_str()) else {
            assert_eq!(row.key, "upstreams.default.headers.Authorization");
            continue;
        };
        // What is unset by default shows an example instead.
        if default.value != "(unset)" {
            assert_eq!(row.value, default.value, "{}", row.key);
        }
    }
}
