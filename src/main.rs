//! The program: reads the command line, carries the command out, tells how that went.

use std::process::ExitCode;

use cloakroom::cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    // What still runs ends with the process. To take its timers away first would make it panic.
    std::mem::forget(runtime);
    ending
}
