//! The program: reads the command line, carries the command out, tells how that went.

use std::process::ExitCode;
use std::time::Duration;

use cloakroom::cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long what still runs in the background may take after the command has ended.
const LAST_MOMENT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let command = cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the system refuses threads or file descriptors: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ending = runtime.block_on(cli::run(command));
    runtime.shutdown_timeout(LAST_MOMENT);
    ending
}
