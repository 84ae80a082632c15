//! The forms of a report: text for the terminal, Markdown and JSON for `benches/results/`.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Bar, Beside, Figures, LoadFigures, Summary, Table};
use crate::machine::Machine;

/// A whole run as it is published.
#[derive(Debug, Serialize)]
pub(crate) struct Published<'a> {
    pub(crate) command: &'a str,
    pub(crate) machine: &'a Machine,
    pub(crate) rounds: usize,
    pub(crate) window_seconds: f64,
    pub(crate) tables: Vec<PublishedTable<'a>>,
}

/// A table as it is published.
#[derive(Debug, Serialize)]
pub(crate) struct PublishedTable<'a> {
    pub(crate) id: &'a str,
    pub(crate) title: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) rows: Vec<Summary>,
}

impl<'a> PublishedTable<'a> {
    /// Takes over what is published of `table`.
    pub(crate) fn new(table: &'a Table) -> Self {
        Self { id: &table.id, title: &table.title, unit: table.unit, rows: table.summaries() }
    }
}

/// A table for the terminal.
pub(crate) fn text(table: &Table) -> String {
    let (header, lines) = cells(table);
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = std::iter::once(&header).chain(&lines).filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut out = format!("\n{}\n", table.title);
    for line in std::iter::once(&header).chain(&lines) {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let written = if column == 0 { write!(out, "{cell:<width$}") } else { write!(out, "  {cell:>width$}") };
            written.unwrap_or_default();
        }
        out.push('\n');
    }
    out
}

/// The same table in Markdown.
pub(crate) fn markdown(table: &Table) -> String {
    let (header, lines) = cells(table);
    let mut out = format!("\n## {}\n\n| {} |\n|---|", table.title, header.join(" | "));
    out.push_str(&"--:|".repeat(header.len().saturating_sub(1)));
    out.push('\n');
    for line in lines {
        out.push_str(&format!("| {} |\n", line.join(" | ")));
    }
    out
}

/// The page of a whole run.
pub(crate) fn page(published: &Published<'_>, tables: &[Table]) -> String {
    let machine = published.machine;
    let mut out = format!(
        "# Side by side, {}\n\n`{}` at commit {}: medians of {} interleaved rounds of {} s. Ratios compare processor \
         time per unit, round by round. Bars hold for one thread.\n\n{}, {} cores, {} GiB, {}, loopback, no TLS.\n",
        machine.date,
        published.command,
        machine.commit,
        published.rounds,
        published.window_seconds,
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
    );
    for (name, version) in &machine.versions {
        out.push_str(&format!("- {name}: {version}\n"));
    }
    let disturbance = published.tables.iter().flat_map(|table| &table.rows).map(disturbance).fold(0.0, f64::max);
    out.push_str(&format!("\nProcesses without part in the measurement used up to {disturbance:.2} cores.\n"));
    for table in tables {
        out.push_str(&markdown(table));
    }
    out
}

fn disturbance(row: &Summary) -> f64 {
    match &row.figures {
        Figures::Load(load) => load.disturbance_cores,
        Figures::Idle { .. } => 0.0,
    }
}

fn cells(table: &Table) -> (Vec<String>, Vec<Vec<String>>) {
    let summaries = table.summaries();
    let header: &[&str] = match (table.bar, table.beside) {
        (Bar::Bytes(_), _) => &["", "RSS bytes", "private dirty bytes", "connections", "failures"],
        (_, Beside::WebSockets) => &[
            "",
            "/s",
            "p50 ms",
            "p99 ms",
            "hub CPU µs",
            "CPU µs",
            "÷ WebSockets",
            "÷ over TLS",
            "÷ wtransport",
            "UDP drops",
            "of all",
            "failures",
        ],
        (_, Beside::Nginx) => {
            &["", "/s", "p50 ms", "p99 ms", "hub CPU µs", "CPU µs", "÷ nginx", "÷ nginx keepalive", "failures"]
        }
    };
    let mut header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    if let Some(cell) = header.get_mut(1).filter(|cell| *cell == "/s") {
        *cell = format!("{}s/s", plural_stem(table.unit));
    }
    header.push(bar_text(table.bar));
    let lines = summaries.iter().map(line).collect();
    (header, lines)
}

fn plural_stem(unit: &str) -> String {
    unit.strip_suffix('y').map_or_else(|| unit.to_owned(), |stem| format!("{stem}ie"))
}

fn bar_text(bar: Bar) -> String {
    match bar {
        Bar::None => "no bar".to_owned(),
        Bar::Ratio { usual, keepalive: None } => format!("bar {usual}"),
        Bar::Ratio { usual, keepalive: Some(keepalive) } => format!("bars {usual}, {keepalive}"),
        Bar::Bytes(bytes) => format!("bar {bytes}"),
        Bar::P99(ms) => format!("bar p99 < {ms} ms, no drops"),
    }
}

fn line(row: &Summary) -> Vec<String> {
    let verdict = match row.meets_bar {
        Some(true) => "pass",
        Some(false) => "miss",
        None => "",
    };
    let mut cells = vec![row.peer.to_owned()];
    match &row.figures {
        Figures::Load(load) => cells.extend(load_cells(load)),
        Figures::Idle { connections, resident_bytes, private_dirty_bytes } => {
            cells.extend([
                format!("{resident_bytes:.0}"),
                format!("{private_dirty_bytes:.0}"),
                connections.to_string(),
            ]);
        }
    }
    cells.extend([row.failures.to_string(), verdict.to_owned()]);
    cells
}

fn load_cells(load: &LoadFigures) -> Vec<String> {
    let mut cells = vec![
        format!("{:.0}", load.per_second),
        format!("{:.2}", load.p50_us / 1000.0),
        format!("{:.2}", load.p99_us / 1000.0),
        format!("{:.2}", load.hub_cpu_us),
        optional(load.cpu_us),
    ];
    match &load.web_transport {
        None => cells.extend([optional(load.to_nginx), optional(load.to_nginx_keepalive)]),
        Some(figures) => cells.extend([
            optional(figures.to_web_sockets),
            optional(figures.to_tls),
            optional(figures.to_wtransport),
            figures.udp_drops.proxy.to_string(),
            figures.udp_drops.all.to_string(),
        ]),
    }
    cells
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
}
