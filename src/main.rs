//! The `hubgate` command: dispatch, and nothing else.

mod cli;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
