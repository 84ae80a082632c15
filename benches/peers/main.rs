//! hubgate side by side with nginx, HAProxy, YARP, a plain TCP copy and no proxy at all, and WebTransport with WebSockets, in one command: it builds and
//! starts everything, alternates between the peers, compares every answer, and prints rates, latencies, failures and the
//! processor time that each proxy spends per unit as a ratio to nginx. See `benches/README.md`.
//!
//! Reading order: `suite` (the cases), `load` (what they do), `hub_client` and `call` (one client and its calls), `peer`
//! (what is started), `process` (what is measured), `report` (what is said).
//!
//! Invariant: nothing here uses the gateway's code; the measure and the measured share no line.

#![forbid(unsafe_code)]

mod bare_hub;
mod build;
mod call;
mod http;
mod hub_client;
mod line;
mod load;
mod machine;
mod peer;
mod process;
mod report;
mod suite;
mod tcp_copy;
mod web_transport_echo;
mod wire;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::load::Timing;
use crate::machine::Machine;
use crate::peer::{Peer, Places};
use crate::report::Table;
use crate::report::render::{self, Published, PublishedTable};
use crate::suite::{Case, Plan};

/// Runs hubgate side by side with other proxies.
#[derive(Debug, Parser)]
#[command(name = "peers", args_conflicts_with_subcommands = true)]
struct Cli {
    /// Cases to run; all when absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Case>,
    /// Peers to run; all when absent.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Interleaved rounds of each case.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that a round measures, after its warm-up.
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Connections of cases a and b.
    #[arg(long, default_value_t = 200)]
    connections: usize,
    /// Connections of case e.
    #[arg(long, default_value_t = 5000)]
    idle_connections: usize,
    /// Seconds that the connections of case e rest.
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
    /// Messages in a second that are a moderate load of case webtransport.
    #[arg(long, default_value_t = 5000)]
    moderate: usize,
    /// One short round with few connections that checks for failures alone: for CI.
    #[arg(long)]
    quick: bool,
    /// A hubgate binary to measure instead of building one.
    #[arg(long)]
    hubgate: Option<PathBuf>,
    /// One more argument for `hubgate serve`; may be repeated.
    #[arg(long, allow_hyphen_values = true)]
    hubgate_arg: Vec<String>,
    /// Write no result files.
    #[arg(long)]
    no_results: bool,
    #[command(subcommand)]
    job: Option<Job>,
}

/// Jobs that the program gives to copies of itself.
#[derive(Debug, Subcommand)]
#[command(hide = true)]
enum Job {
    /// Serve the bare hub until standard input ends.
    BareHub,
    /// Copy bytes to an address until standard input ends.
    TcpCopy { to: SocketAddr },
    /// Echo over WebTransport until standard input ends.
    WebTransportEcho,
}

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Build(#[from] build::Error),
    #[error(transparent)]
    Peer(#[from] peer::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("interrupted")]
    Interrupted,
    #[error("nothing was measured")]
    Nothing,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let done = match &cli.job {
        Some(Job::BareHub) => runtime.block_on(bare_hub::run()).map(|()| true).map_err(Error::from),
        Some(Job::TcpCopy { to }) => runtime.block_on(tcp_copy::run(*to)).map(|()| true).map_err(Error::from),
        Some(Job::WebTransportEcho) => runtime.block_on(web_transport_echo::run()).map(|()| true).map_err(Error::from),
        None => {
            let local = tokio::task::LocalSet::new();
            runtime.block_on(local.run_until(async {
                tokio::select! {
                    done = compare(&cli, descriptors) => done,
                    _ = tokio::signal::ctrl_c() => Err(Error::Interrupted),
                }
            }))
        }
    };
    // The jobs' blocking read of standard input must not hold the end of the process up.
    runtime.shutdown_background();
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> ExitCode {
    eprintln!("peers: {error}");
    ExitCode::from(match error {
        Error::Nothing | Error::Interrupted => 4,
        _ => 70,
    })
}

/// Runs everything; true when nothing failed and hubgate met its bars.
async fn compare(cli: &Cli, descriptors_max: u64) -> Result<bool, Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf();
    let plan = plan(cli, descriptors_max);
    let places = prepare(cli, &plan, &root)?;
    let machine = Machine::observe(&root, &places);
    let mut tables = Vec::new();
    for case in &plan.cases {
        if case.wants_contract_hub() && places.contract_hub.is_none() {
            eprintln!("left out: case {case:?} needs .NET, which is not installed");
            continue;
        }
        for table in suite::run(*case, &plan, &places).await? {
            print!("{}", render::text(&table));
            tables.push(table);
        }
    }
    if !tables.iter().any(|table| !table.rows.is_empty()) {
        return Err(Error::Nothing);
    }
    if !cli.quick && !cli.no_results {
        write_results(&root, &plan, &machine, &tables)?;
    }
    Ok(verdict(cli.quick, &tables))
}

fn plan(cli: &Cli, descriptors_max: u64) -> Plan {
    let or_all = |cases: &[Case]| if cases.is_empty() { Case::ALL.to_vec() } else { cases.to_vec() };
    let peers = if cli.peers.is_empty() { Peer::ALL.to_vec() } else { cli.peers.clone() };
    let full = Plan {
        cases: or_all(&cli.only),
        peers,
        rounds: cli.rounds.max(1),
        timing: Timing { warm_up: Duration::from_millis(600), window: Duration::from_secs_f64(cli.seconds.max(0.1)) },
        connections: cli.connections,
        audience: 1000,
        at_once: 50,
        idle: cli.idle_connections,
        rest: Duration::from_secs(cli.idle_seconds),
        sessions: [100, 1000],
        moderate: cli.moderate,
        descriptors_max,
    };
    if !cli.quick {
        return full;
    }
    let timing = Timing { warm_up: Duration::from_millis(100), window: Duration::from_millis(500) };
    let rest = Duration::from_secs(1);
    let (sessions, moderate) = ([10, 50], 200);
    Plan { rounds: 1, timing, connections: 20, audience: 50, at_once: 10, idle: 100, rest, sessions, moderate, ..full }
}

/// Builds what the plan needs and makes the scratch folder.
fn prepare(cli: &Cli, plan: &Plan, root: &Path) -> Result<Places, Error> {
    let scratch = build::target(root).join("peers");
    fs::create_dir_all(&scratch)?;
    let hubgate = match &cli.hubgate {
        Some(given) => given.clone(),
        None if plan.peers.iter().any(|peer| peer.is_hubgate()) || plan.cases.contains(&Case::Webtransport) => {
            build::hubgate(root)?
        }
        None => PathBuf::new(),
    };
    let wants_contract_hub = plan.cases.iter().any(|case| case.wants_contract_hub());
    let wants_yarp = plan.peers.contains(&Peer::Yarp) && plan.cases != [Case::Webtransport];
    let dotnet = if wants_contract_hub || wants_yarp { build::dotnet() } else { None };
    let yarp = match &dotnet {
        Some(dotnet) if wants_yarp => Some(build::yarp(dotnet, root, &scratch)?),
        _ => None,
    };
    let contract_hub = match &dotnet {
        Some(_) if wants_contract_hub => Some(build::contract_hub(root)?),
        _ => None,
    };
    Ok(Places { scratch, hubgate, hubgate_args: cli.hubgate_arg.clone(), dotnet, yarp, contract_hub })
}

fn write_results(root: &Path, plan: &Plan, machine: &Machine, tables: &[Table]) -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("benches/peers/run {}", arguments.join(" ")).trim_end().to_owned();
    let published = Published {
        command: &command,
        machine,
        rounds: plan.rounds,
        window_seconds: plan.timing.window.as_secs_f64(),
        tables: tables.iter().map(PublishedTable::new).collect(),
    };
    let stamp: String = machine.date.chars().filter(|letter| !":U TC".contains(*letter)).collect();
    let folder = root.join("benches/results");
    fs::create_dir_all(&folder)?;
    let name = folder.join(format!("peers-{stamp}"));
    fs::write(name.with_extension("md"), render::page(&published, tables))?;
    fs::write(name.with_extension("json"), serde_json::to_string_pretty(&published)? + "\n")?;
    println!("\nresults: benches/results/peers-{stamp}.md and .json");
    Ok(())
}

/// Says what failed or missed its bar; true when nothing did.
fn verdict(quick: bool, tables: &[Table]) -> bool {
    let mut good = true;
    for table in tables {
        for row in table.summaries() {
            if row.failures > 0 {
                good = false;
                let why = row.first_failure.unwrap_or_default();
                println!("failed: {}: {}: {} failures, first: {why}", table.id, row.peer, row.failures);
            }
            if !quick
                && [Peer::HubgateOne.name(), Peer::HubgateOneWebTransport.name()].contains(&row.peer)
                && row.meets_bar == Some(false)
            {
                good = false;
                println!("missed its bar: {}: {}", table.id, row.peer);
            }
        }
    }
    good
}
