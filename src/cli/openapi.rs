//! `cloakroom openapi`: prints the `OpenAPI` document.

use std::path::PathBuf;

use clap::Args;

use super::failure::CommandError;
use super::print;
use crate::app;
use crate::config::{Config, Overrides, environment};

const EXAMPLES: &str = "\
Examples:
  cloakroom openapi > cloakroom.json
  cloakroom openapi --config cloakroom.toml > orders.json   for a generated client of its routes";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct OpenapiArgs {
    /// Describe the routes of this configuration, each as a path of its own, and how its callers
    /// are told apart. Without it, one path stands for all routes of any gateway.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl OpenapiArgs {
    /// Prints it, whole lines of JSON.
    pub(super) fn run(self) -> Result<(), CommandError> {
        let Some(file) = self.config else { return print::say(app::openapi().trim_end()) };
        let loaded = Config::load(Some(&file), environment(), Overrides::default())?;
        // Nothing is described that would not start.
        app::check(&loaded.config)?;
        print::say(app::openapi_of(&loaded.config).trim_end())
    }
}
