//! The `hubgate` command: dispatch, and nothing else.

mod cli;
mod demo;
mod log;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
