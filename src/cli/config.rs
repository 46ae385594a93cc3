//! `cloakroom config`: checks the configuration, or prints every value with its source.

use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::CommandError;
use super::settings::Settings;
use super::{banner, print};
use crate::app::{self, Overlap};
use crate::config::{Config, LoadedConfig, SettingRow};

const CHECK_EXAMPLES: &str = "\
Examples:
  cloakroom config check --config cloakroom.toml
  cloakroom config check --upstream http://localhost:9000 --async 'POST /orders'";

const PRINT_EXAMPLES: &str = "\
Examples:
  cloakroom config print --config cloakroom.toml
  cloakroom config print --config cloakroom.toml --json | jq '.[\"server.listen\"]'";

const EXAMPLES: &str = "\
Examples:
  cloakroom config check --config cloakroom.toml
  cloakroom config print --config cloakroom.toml

What counts is the file, then the environment (CLOAKROOM_SERVER_LISTEN=…), then flags.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration, and list every fault.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(ConfigFormat),
    /// Show every value with its source.
    #[command(after_help = PRINT_EXAMPLES)]
    Print(ConfigFormat),
}

#[derive(Args, Debug)]
struct ConfigFormat {
    #[command(flatten)]
    settings: Settings,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ConfigArgs {
    /// Checks or prints.
    pub(super) fn run(self) -> Result<(), CommandError> {
        match self.command {
            Command::Check(which) => check(&which),
            Command::Print(which) => show(&which),
        }
    }
}

fn check(which: &ConfigFormat) -> Result<(), CommandError> {
    let checked = which.settings.load().and_then(|loaded| {
        // The very look that `serve` begins with.
        let overlaps = app::check(&loaded.config)?;
        Ok(notes(&loaded.config, &overlaps))
    });
    match checked {
        Ok(notes) if which.json => {
            print::say_json(&json!({ "usable": true, "faults": [], "notes": notes }))
        }
        Ok(notes) => {
            for note in notes {
                print::say(&format!("note: {note}"))?;
            }
            print::say("the configuration can be used")
        }
        Err(failure) if which.json => {
            let faults = match &failure {
                CommandError::Config(error) => faults(error),
                other => vec![json!({ "says": other.to_string() })],
            };
            print::say_json(&json!({ "usable": false, "faults": faults }))?;
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}

/// What `serve` says beside what it does.
fn notes(config: &Config, overlaps: &[Overlap]) -> Vec<String> {
    let mut notes = banner::overlaps(overlaps);
    notes.extend(banner::warnings(config));
    notes
}

fn faults(error: &crate::config::ConfigError) -> Vec<serde_json::Value> {
    use crate::config::ConfigError::{Faulty, Unreadable};
    match error {
        Unreadable { .. } => vec![json!({ "says": error.to_string() })],
        Faulty(faults) => faults
            .iter()
            .map(|fault| {
                let source = fault.source.to_string();
                json!({ "key": fault.key, "source": source, "says": fault.says })
            })
            .collect(),
    }
}

fn show(which: &ConfigFormat) -> Result<(), CommandError> {
    let LoadedConfig { sources, .. } = which.settings.load()?;
    if which.json {
        return print::say_json(&by_name(&sources));
    }
    let rows = sources.into_iter().map(|row| [row.key, row.value, row.source.to_string()]);
    print::say(&print::table(["SETTING", "VALUE", "SOURCE"], rows.collect()))
}

fn by_name(rows: &[SettingRow]) -> serde_json::Value {
    rows.iter()
        .map(|row| {
            let source = row.source.to_string();
            (row.key.clone(), json!({ "value": row.value, "source": source }))
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SettingSource;

    #[test]
    fn machines_get_every_setting_by_its_name() {
        let row = SettingRow {
            key: "engine.slots".into(),
            value: "7".into(),
            source: SettingSource::Environment("CLOAKROOM_ENGINE_SLOTS".into()),
        };
        let wanted =
            json!({ "engine.slots": { "value": "7", "source": "CLOAKROOM_ENGINE_SLOTS" } });
        assert_eq!(by_name(&[row]), wanted);
    }

    #[test]
    fn machines_get_each_fault_with_its_place() {
        let error = crate::config::Config::from_toml("[server]\nlisten = 5").unwrap_err();
        let faults = faults(&error);
        let listen = faults.iter().find(|fault| fault["key"] == "server.listen").unwrap();
        assert!(listen["source"].as_str().unwrap().ends_with(":2"), "{listen}");
    }
}
