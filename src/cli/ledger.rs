//! `cloakroom ledger`: work on a whole ledger while the gateway is stopped.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::CommandError;
use super::print;
use crate::app;
use crate::config::{Config, Overrides};
use cloakroom_ledger::{Location, Server, copy_ledger};

const EXAMPLES: &str = "\
Examples:
  cloakroom ledger copy --from sqlite:cloakroom.db --to postgres://cloakroom@db/cloakroom";

const COPY_EXAMPLES: &str = "\
Examples:
  cloakroom ledger copy --from sqlite:/var/lib/cloakroom/cloakroom.db \\
    --to postgres://cloakroom@db.internal/cloakroom

Stop the gateway first. The target is a database without a ledger; it gets everything or,
if anything goes wrong, nothing. The source stays as it is. Start the gateway on the target
with --store afterwards: tickets that clients hold go on working, and so does what is
pending. Do not start one on the source again.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct LedgerArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy a ledger from a file into a database.
    Copy(CopyArgs),
}

#[derive(Args, Debug)]
#[command(after_help = COPY_EXAMPLES)]
struct CopyArgs {
    /// The ledger to copy.
    #[arg(long, value_name = "sqlite:FILE")]
    from: String,
    /// The database to copy it into, not through a pooler. All users of this machine can see a
    /// password in it: set PGPASSWORD instead, or write it into ~/.pgpass.
    #[arg(long, value_name = "postgres://…")]
    to: String,
}

impl LedgerArgs {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), CommandError> {
        match self.command {
            Command::Copy(copy) => copy.run().await,
        }
    }
}

impl CopyArgs {
    async fn run(self) -> Result<(), CommandError> {
        let (from, to) = self.places()?;
        let terminal = std::io::stderr().is_terminal();
        let tell = |table: &str, rows: u64| {
            if terminal {
                // A closed output of the progress lines is no failure.
                let _ = print::complain(&format!("{table}: {rows}"));
            }
        };
        let copied = copy_ledger(&from, &to, tell).await;
        let copied = copied.map_err(|error| CommandError::Failed(error.to_string()))?;
        let rows = copied.into_iter().map(|(table, rows)| [table, rows.to_string()]).collect();
        print::say(&print::table(["TABLE", "ROWS"], rows))?;
        print::complain(&format!("copied; now start the gateway with --store {}", to.url))
    }

    fn places(&self) -> Result<(PathBuf, Server), CommandError> {
        match (place(&self.from)?, place(&self.to)?) {
            (Location::Sqlite { path, .. }, Location::Postgres(server)) => Ok((path, server)),
            _ => Err(CommandError::Usage(
                "a ledger is copied from a file into a database: --from sqlite:FILE --to \
                 postgres://…"
                    .to_owned(),
            )),
        }
    }
}

/// Where that is, as `store.url` says it.
fn place(url: &str) -> Result<Location, CommandError> {
    let store = Some(url.to_owned());
    let overrides = Overrides { store, upstream_optional: true, ..Overrides::default() };
    let config = Config::load(None, std::iter::empty(), overrides)?.config;
    Ok(app::location(&config.store))
}
