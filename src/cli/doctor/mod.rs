//! `cloakroom doctor`: looks for causes that would keep the gateway from working on this machine.

mod checks;

use clap::Args;
use serde_json::json;

use super::failure::CommandError;
use super::print;
use super::settings::Settings;
use cloakroom_runtime::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  cloakroom doctor --upstream http://localhost:9000
  cloakroom doctor --config cloakroom.toml --json

Run it where the gateway is to run, before it runs: its ports have to be free.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    settings: Settings,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How a check turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckVerdict {
    Fine,
    Warning,
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    name: String,
    verdict: CheckVerdict,
    /// What was found and, unless it is fine, what to do next.
    says: String,
}

impl Check {
    fn new(name: impl Into<String>, verdict: CheckVerdict, says: impl Into<String>) -> Self {
        Self { name: name.into(), verdict, says: says.into() }
    }
}

impl CheckVerdict {
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Warning => "warn",
            Self::Failed => "fail",
        }
    }
}

impl DoctorArgs {
    /// Looks at everything, and prints what it found; fails where something failed.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        let checks = match self.settings.load() {
            Ok(loaded) => checks::all(&loaded.config, &clock).await,
            Err(failure) => {
                vec![Check::new("configuration", CheckVerdict::Failed, failure.to_string())]
            }
        };
        self.tell(&checks)?;
        let failed = checks.iter().any(|check| check.verdict == CheckVerdict::Failed);
        if failed { Err(CommandError::Told) } else { Ok(()) }
    }

    fn tell(&self, checks: &[Check]) -> Result<(), CommandError> {
        if self.json {
            let told = checks.iter().map(|check| {
                json!({ "check": check.name, "verdict": check.verdict.word(), "says": check.says })
            });
            return print::say_json(&json!({ "checks": told.collect::<Vec<_>>() }));
        }
        for check in checks {
            print::say(&format!("{:<4}  {}: {}", check.verdict.word(), check.name, check.says))?;
        }
        Ok(())
    }
}
