//! Commands, flags and exit codes. Data goes to standard output, everything else to standard error.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser, Subcommand};
use hubgate_gateway::config::{Config, Environment, Log};

use crate::{log, serve};

/// Exit code: usage or configuration.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Exit code: a fault of ours.
pub(crate) const EXIT_INTERNAL: u8 = 70;

/// Stands in front of SignalR hubs: WebSockets, Server-Sent Events and long polling without sticky sessions.
#[derive(Debug, Parser)]
#[command(name = "hubgate", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway before embedded hubs, with a page to try every transport.
    Demo(crate::demo::DemoArgs),
    /// Runs the gateway.
    ///
    /// Quick use fronts every hub of some servers:
    ///     hubgate serve --listen 127.0.0.1:8080 --backend http://127.0.0.1:5000
    /// With --config everything of `hubgate config default` can be set.
    #[command(verbatim_doc_comment)]
    Serve(ServeArgs),
    /// Runs the embedded hubs alone: the contract hub of our tests on /contract, and a chat on /hubs/chat.
    Hub(hubgate_fixtures::cli::HubArgs),
    /// Checks and prints configurations.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prints a completion script for a shell: `hubgate completions bash > …/hubgate`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What `hubgate serve` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Configuration file (TOML).
    #[arg(long, short, env = "HUBGATE_CONFIG", conflicts_with_all = ["listen", "backend", "admin"])]
    pub(crate) config: Option<PathBuf>,
    /// Address to listen on; may be given several times. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) listen: Vec<SocketAddr>,
    /// A server with hubs, such as http://127.0.0.1:5000; may be given several times.
    #[arg(long, required_unless_present = "config")]
    pub(crate) backend: Vec<String>,
    /// Address for /healthz, /readyz and /metrics; none without this flag.
    #[arg(long)]
    pub(crate) admin: Option<SocketAddr>,
    /// Worker threads; 0 takes one per core.
    #[arg(long)]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Reads a file as `serve --config` would and says what is wrong with it.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Prints every setting with its meaning and default.
    Default,
}

/// Runs the command line.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked =
                matches!(error.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion);
            let _broken_pipe = error.print();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) };
        }
    };
    match cli.command {
        Command::Serve(args) => serve_command(&args),
        Command::Demo(args) => in_runtime(0, crate::demo::run(&args)),
        Command::Hub(args) => hub_command(&args),
        Command::Config(ConfigCommand::Check { file }) => check(&file),
        Command::Config(ConfigCommand::Default) => {
            print!("{}", Config::default_file());
            ExitCode::SUCCESS
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "hubgate", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

fn serve_command(args: &ServeArgs) -> ExitCode {
    let config = match serve::read(args) {
        Ok(config) => config,
        Err(error) => return complain(&error),
    };
    log::start(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let threads = args.threads.unwrap_or(config.threads);
    in_runtime(threads, serve::serve(args, Arc::new(config)))
}

fn hub_command(args: &hubgate_fixtures::cli::HubArgs) -> ExitCode {
    log::start(&Log::default());
    in_runtime(0, async {
        match hubgate_fixtures::cli::run_hub(args, serve::told_to_stop()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error),
        }
    })
}

fn check(file: &std::path::Path) -> ExitCode {
    match Config::load(file, &Environment::process()) {
        Ok(config) => {
            for warning in &config.warnings {
                eprintln!("warning: {warning}");
            }
            eprintln!("{}: ok", file.display());
            ExitCode::SUCCESS
        }
        Err(error) => complain(&error),
    }
}

/// Prints an error of usage or configuration.
pub(crate) fn complain(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  caused by: {cause}");
        source = cause.source();
    }
    ExitCode::from(EXIT_USAGE)
}

/// Runs a future on as many threads as wanted.
pub(crate) fn in_runtime(threads: usize, future: impl Future<Output = ExitCode>) -> ExitCode {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            ExitCode::from(EXIT_INTERNAL)
        }
    }
}
