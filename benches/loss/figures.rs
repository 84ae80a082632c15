//! What is made of samples: cells of a table, Markdown, JSON.
//!
//! Invariant: quantiles are of all samples of all rounds of a cell together, never means of quantiles.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hubgate_client::Transport;
use hubgate_fixtures::link::WayCounts;
use serde::Serialize;

use crate::load::{Error, Plan, Samples, Tally, milliseconds};

/// Quantiles of the tables, with their names.
const COLUMNS: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];
/// Samples that have to lie beyond a quantile for it to be told.
const BEYOND_MIN: f64 = 5.0;
/// Points of a curve for each factor of ten.
const POINTS_PER_DECADE: u32 = 20;

/// The kinds of operations, in the order of tables and plots.
pub(crate) const KINDS: [&str; 3] = ["steady", "sparse", "connects"];

/// Everything measured over one transport at one loss.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) loss: f64,
    pub(crate) transport: Transport,
    tallies: [Tally; 3],
    packets: u64,
    lost: u64,
}

impl Cell {
    pub(crate) fn new(loss: f64, transport: Transport) -> Result<Self, Error> {
        Ok(Self { loss, transport, tallies: [Tally::new()?, Tally::new()?, Tally::new()?], packets: 0, lost: 0 })
    }

    /// Whether it is the cell of this loss and transport.
    pub(crate) fn is(&self, loss: f64, transport: Transport) -> bool {
        self.loss.total_cmp(&loss).is_eq() && self.transport == transport
    }

    /// Adds a round; the packets are those of both directions.
    pub(crate) fn add(
        &mut self,
        samples: &Samples,
        before: [WayCounts; 2],
        after: [WayCounts; 2],
    ) -> Result<(), Error> {
        let of_round = [&samples.steady, &samples.sparse, &samples.connects];
        for (sum, tally) in self.tallies.iter_mut().zip(of_round) {
            // Both have the same bounds.
            sum.times.add(&tally.times).map_err(|_| hdrhistogram::CreationError::HighLessThanTwiceLow)?;
            sum.failed += tally.failed;
        }
        for (before, after) in before.iter().zip(&after) {
            self.packets += after.taken - before.taken;
            self.lost += after.lost - before.lost;
        }
        Ok(())
    }
}

/// Quantiles of one kind in one cell, as they are published.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) kind: &'static str,
    pub(crate) loss_percent: f64,
    pub(crate) transport: &'static str,
    pub(crate) samples: u64,
    pub(crate) failed: u64,
    /// Milliseconds; `None` where too few samples lie beyond.
    quantiles: Vec<(&'static str, Option<f64>)>,
    max_ms: f64,
    mean_ms: f64,
    packets: u64,
    packets_lost: u64,
    /// How many factors of ten beyond, and milliseconds: (2, x) means that one in a hundred takes longer than x.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    command: String,
    date: String,
    commit: String,
    processor: String,
    cores: usize,
    kernel: String,
    pub(crate) delay_ms: u128,
    rounds: u32,
    window_seconds: u64,
    load: String,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(root: &Path, delay: Duration, rounds: u32, plan: &Plan, cells: Vec<Cell>) -> Self {
        let at = root.to_string_lossy();
        let commit = first_line("git", &["-C", &at, "rev-parse", "--short", "HEAD"]);
        let changed = !first_line("git", &["-C", &at, "status", "--porcelain", "--untracked-files=no"]).is_empty();
        let mut rows: Vec<Row> = cells.iter().flat_map(rows).collect();
        rows.sort_by_key(|row| KINDS.iter().position(|kind| *kind == row.kind));
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Self {
            command: format!("benches/loss/run {}", arguments.join(" ")).trim_end().to_owned(),
            date: first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            commit: if changed { format!("{commit} with changes") } else { commit },
            processor: processor(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: first_line("uname", &["-sr"]),
            delay_ms: delay.as_millis(),
            rounds,
            window_seconds: plan.window.as_secs(),
            load: format!(
                "{} connections with a call every {:?}, {} with one every {:?}, and a connect every {:?}, all at once",
                plan.steady.connections,
                plan.steady.every,
                plan.sparse.connections,
                plan.sparse.every,
                plan.connect_every
            ),
            rows,
        }
    }

    /// Whether everything has its answer and there are samples of everything.
    pub(crate) fn is_sound(&self) -> bool {
        let shortest =
            2.0 * Duration::from_millis(u64::try_from(self.delay_ms).unwrap_or(u64::MAX)).as_secs_f64() * 1000.0;
        let sound = |row: &Row| row.failed == 0 && row.samples > 0 && row.mean_ms >= shortest;
        !self.rows.is_empty() && self.rows.iter().all(sound)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "# Calls and connects under loss\n\n`{}`, {}, commit {}, {} ({} cores), {}.\n\n{} ms each way; {} rounds of {} s for each loss \
             and transport, by turns: {}. Times in milliseconds.\n",
            self.command,
            self.date,
            self.commit,
            self.processor,
            self.cores,
            self.kernel,
            self.delay_ms,
            self.rounds,
            self.window_seconds,
            self.load
        );
        for kind in KINDS {
            let columns = COLUMNS.map(|(_, name)| name).join(" | ");
            let head = format!("| loss | transport | samples | failed | {columns} | max | mean |");
            let rule = "|--:|---|--:|--:|".to_owned() + &"--:|".repeat(COLUMNS.len() + 2);
            let _ = write!(text, "\n## {kind}\n\n{head}\n{rule}\n");
            for row in self.rows.iter().filter(|row| row.kind == kind) {
                let cells = row
                    .quantiles
                    .iter()
                    .map(|(_, value)| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}")));
                let _ = writeln!(
                    text,
                    "| {} % | {} | {} | {} | {} | {:.0} | {:.0} |",
                    row.loss_percent,
                    row.transport,
                    row.samples,
                    row.failed,
                    cells.collect::<Vec<_>>().join(" | "),
                    row.max_ms,
                    row.mean_ms
                );
            }
        }
        text.push_str("\n## packets of both directions\n\n| loss | transport | packets | lost |\n|--:|---|--:|--:|\n");
        for row in self.rows.iter().filter(|row| row.kind == "steady") {
            let _ = writeln!(
                text,
                "| {} % | {} | {} | {} |",
                row.loss_percent, row.transport, row.packets, row.packets_lost
            );
        }
        text
    }

    /// Writes Markdown and JSON into `benches/results`.
    pub(crate) fn write(&self, root: &Path) -> Result<(), crate::Error> {
        let stamp: String = self.date.chars().filter(|letter| !":U TC".contains(*letter)).collect();
        let path =
            |extension: &str| -> PathBuf { root.join("benches/results").join(format!("loss-{stamp}.{extension}")) };
        fs::write(path("md"), self.markdown())?;
        fs::write(path("json"), serde_json::to_string_pretty(self)? + "\n")?;
        eprintln!("written to {}", path("md").display());
        Ok(())
    }
}

fn rows(cell: &Cell) -> Vec<Row> {
    let row = |(kind, tally): (&'static str, &Tally)| Row {
        kind,
        loss_percent: cell.loss,
        transport: if cell.transport == Transport::WebTransport { "WebTransport" } else { "WebSockets" },
        samples: tally.times.len(),
        failed: tally.failed,
        quantiles: COLUMNS.iter().map(|(at, name)| (*name, told(tally, *at).then(|| tally.quantile(*at)))).collect(),
        max_ms: milliseconds(tally.times.max()),
        mean_ms: tally.times.mean() / 1000.0,
        packets: cell.packets,
        packets_lost: cell.lost,
        curve: curve(tally),
    };
    KINDS.into_iter().zip(&cell.tallies).map(row).collect()
}

/// Whether enough samples lie beyond a quantile.
#[expect(clippy::cast_precision_loss, reason = "samples are far fewer than 2^53")]
fn told(tally: &Tally, quantile: f64) -> bool {
    tally.times.len() as f64 * (1.0 - quantile) >= BEYOND_MIN
}

fn curve(tally: &Tally) -> Vec<(f64, f64)> {
    let at = |point: u32| f64::from(point) / f64::from(POINTS_PER_DECADE);
    let points = (0..=4 * POINTS_PER_DECADE).map(at).map(|decades| (decades, 1.0 - 10_f64.powf(-decades)));
    points
        .take_while(|(_, quantile)| told(tally, *quantile))
        .map(|(at, quantile)| (at, tally.quantile(quantile)))
        .collect()
}

/// The first line that a program prints; nothing when it cannot be run.
fn first_line(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().trim().to_owned()
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, value)| value.trim().to_owned())
}
