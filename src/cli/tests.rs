//! Tests of command line parsing.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn refused(arguments: &[&str]) -> ErrorKind {
    Cli::try_parse_from(arguments).unwrap_err().kind()
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_is_understood() {
    for line in [
        "cloakroom serve --upstream http://localhost:9000 --listen 127.0.0.1:0 --shared",
        "cloakroom serve --config cloakroom.toml --no-migrate --admin-listen off",
        "cloakroom demo --once",
        "cloakroom migrate --store sqlite:a.db",
        "cloakroom listen --port 0 --fail 3 --slow 20s --json --max 1",
        "cloakroom listen --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw --status 503",
        "cloakroom config check --config cloakroom.toml",
        "cloakroom config print --json",
        "cloakroom ledger copy --from sqlite:a.db --to postgres://u@h/d",
        "cloakroom doctor --json",
        "cloakroom openapi",
        "cloakroom openapi --config cloakroom.toml",
        "cloakroom ops list --status failed --tag account:1 --since 1h --limit 5 --json",
        "cloakroom ops --admin http://127.0.0.1:9 show 0192",
        "cloakroom ops show 0192 --admin http://127.0.0.1:9",
        "cloakroom ops result 0192",
        "cloakroom ops cancel 0192",
        "cloakroom ops retry 0192 --json",
        "cloakroom queues --json --admin http://127.0.0.1:9 --prefix /x",
        "cloakroom ops list --unknown",
        "cloakroom ops verdict 0192 --happened --location /a --note b",
        "cloakroom serial list --blocked --json",
        "cloakroom reconcile --dry-run --json",
        "cloakroom secrets reseal --json --admin http://127.0.0.1:9",
        "cloakroom serial release a b --admin http://127.0.0.1:9",
    ] {
        let parsed = Cli::try_parse_from(line.split(' '));
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
    }
}

#[test]
fn asynchronous_routes_add_up() {
    let line = ["cloakroom", "serve", "--async", "POST /orders", "--async", "PUT /orders/{id}"];
    let Command::Serve(serve) = Cli::try_parse_from(line).unwrap().command else { panic!() };
    assert_eq!(serve.settings.overrides().async_routes, ["POST /orders", "PUT /orders/{id}"]);
}

#[test]
fn every_command_shows_examples() {
    fn check(command: &clap::Command) {
        if command.get_name() != "help" {
            let shown = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(shown.contains("cloakroom "), "{} has no example", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

#[test]
fn nonsense_is_refused() {
    assert_eq!(refused(&["cloakroom", "serv"]), ErrorKind::InvalidSubcommand);
    assert_eq!(refused(&["cloakroom", "serve", "--upstrem", "x"]), ErrorKind::UnknownArgument);
    assert_eq!(refused(&["cloakroom", "listen", "--secret", "x"]), ErrorKind::ValueValidation);
    assert_eq!(refused(&["cloakroom", "listen", "--slow", "soon"]), ErrorKind::ValueValidation);
    assert_eq!(refused(&["cloakroom", "listen", "--max", "0"]), ErrorKind::ValueValidation);
    let both = ["cloakroom", "listen", "--gone", "--drop"];
    assert_eq!(refused(&both), ErrorKind::ArgumentConflict);
    assert_eq!(refused(&["cloakroom", "ops", "show"]), ErrorKind::MissingRequiredArgument);
}
