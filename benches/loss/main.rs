//! WebTransport and WebSockets side by side through a gateway behind a network that delays and loses packets: how long calls and connects
//! take. See `docs/guide/webtransport-under-loss.md`.
//!
//! Reading order: `stage` (link, hub, gateway), `load` (what clients do), `figures` (what is made of it), `plot`.
//!
//! Invariants: a call's time counts from the moment it was meant to begin, so that a connection that stands still is not asked less often
//! (no coordinated omission); every answer is compared; both transports run by turns, round by round, with the same seed for what is lost.

#![forbid(unsafe_code)]

mod figures;
mod load;
mod plot;
mod stage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hubgate_client::Transport;
use hubgate_fixtures::link::{End, Link, LinkError, LinkTerms, TermsError};
use tokio::signal::unix::{SignalKind, signal};

use crate::figures::{Cell, Report};
use crate::load::Plan;
use crate::stage::Stage;

/// Measures calls over WebTransport and WebSockets through a network that loses packets.
#[derive(Debug, Parser)]
#[command(name = "loss")]
struct Cli {
    /// Milliseconds that a packet takes one way; a round trip takes twice as long
    #[arg(long, default_value_t = 50)]
    delay_ms: u64,
    /// Percent of packets lost in each direction
    #[arg(long, value_delimiter = ',', default_value = "0,1,5")]
    loss: Vec<f64>,
    /// Rounds of each loss and transport, which take turns
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds that a round measures
    #[arg(long, default_value_t = 13)]
    seconds: u64,
    /// One short round with few calls that checks for failures alone, for CI
    #[arg(long)]
    quick: bool,
    /// A hubgate binary to measure instead of building one
    #[arg(long)]
    hubgate: Option<PathBuf>,
    /// Write no result files and no plot
    #[arg(long)]
    no_results: bool,
}

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Terms(#[from] TermsError),
    #[error(transparent)]
    Stage(#[from] stage::Error),
    #[error(transparent)]
    Load(#[from] load::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("interrupted")]
    Interrupted,
}

fn main() -> ExitCode {
    match measure(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("loss: {error}");
            ExitCode::from(match error {
                Error::Link(error) if error.is_lack() => 4,
                Error::Terms(_) | Error::Link(LinkError::Terms(_)) => 2,
                Error::Interrupted => 4,
                _ => 70,
            })
        }
    }
}

/// Measures everything; true when no call and no connect failed.
fn measure(cli: &Cli) -> Result<bool, Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let plan = if cli.quick { Plan::quick() } else { Plan::full(Duration::from_secs(cli.seconds)) };
    let (losses, rounds) = if cli.quick { (vec![0.0, 5.0], 1) } else { (cli.loss.clone(), cli.rounds.max(1)) };
    let link = Link::up(LinkTerms { delay: Duration::from_millis(cli.delay_ms), ..LinkTerms::default() })?;
    let stage = Stage::set(&link, cli.hubgate.as_deref(), root)?;
    let delay = Duration::from_millis(cli.delay_ms);
    let cells = link.within(End::B, || -> Result<Vec<Cell>, Error> {
        // One thread, and it is in the namespace: so are all sockets.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let done = runtime.block_on(async {
            let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            tokio::select! {
                done = take_turns(&link, &stage, &plan, delay, &losses, rounds) => done,
                _ = interrupt.recv() => Err(Error::Interrupted),
                _ = terminate.recv() => Err(Error::Interrupted),
            }
        });
        runtime.shutdown_background();
        done
    })??;
    let report = Report::new(root, delay, rounds, &plan, cells);
    print!("{}", report.markdown());
    if !cli.quick && !cli.no_results {
        report.write(root)?;
        plot::write(root, &report)?;
    }
    Ok(report.is_sound())
}

/// Runs every round of every loss with both transports, which go first by turns.
async fn take_turns(
    link: &Link,
    stage: &Stage,
    plan: &Plan,
    delay: Duration,
    losses: &[f64],
    rounds: u32,
) -> Result<Vec<Cell>, Error> {
    let mut cells: Vec<Cell> = Vec::new();
    for round in 0..rounds {
        for loss in losses {
            let mut transports = [Transport::WebTransport, Transport::WebSockets];
            if round % 2 == 1 {
                transports.reverse();
            }
            for transport in transports {
                let terms = LinkTerms { delay, loss: loss / 100.0, seed: u64::from(round) + 1, ..LinkTerms::default() };
                link.change(terms)?;
                let before = [link.counts(End::A), link.counts(End::B)];
                let samples = load::round(stage, transport, plan).await?;
                let after = [link.counts(End::A), link.counts(End::B)];
                eprintln!("round {} of {rounds}, {loss} % loss, {transport:?}: {}", round + 1, samples.summary());
                let cell = match cells.iter_mut().find(|cell| cell.is(*loss, transport)) {
                    Some(cell) => cell,
                    None => {
                        cells.push(Cell::new(*loss, transport)?);
                        cells.last_mut().ok_or(Error::Interrupted)?
                    }
                };
                cell.add(&samples, before, after)?;
            }
        }
    }
    Ok(cells)
}
