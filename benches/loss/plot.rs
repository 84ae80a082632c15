//! The curves as an SVG: for each loss, how long the slowest share of operations takes at least.
//!
//! Invariant: readable on light and dark pages, as it brings its own background.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::figures::{Report, Row};

const FILE: &str = "docs/guide/webtransport-under-loss.svg";
const PANEL: (f64, f64) = (250.0, 170.0);
const GAP: (f64, f64) = (46.0, 78.0);
const ORIGIN: (f64, f64) = (66.0, 96.0);
/// Factors of ten on the horizontal axis: up to one in a thousand.
const DECADES: f64 = 3.0;
const TICKS: [(f64, &str); 4] = [(0.301, "p50"), (1.0, "p90"), (2.0, "p99"), (3.0, "p99.9")];
const TRANSPORTS: [(&str, &str, &str); 2] = [("WebTransport", "#0b66d0", ""), ("WebSockets", "#c2410c", "7 4")];
/// The kinds that are drawn, with what stands above them.
const DRAWN: [(&str, &str); 3] = [
    ("steady", "Calls in a steady stream (one every 20 ms on each connection)"),
    ("sparse", "Calls now and then (one a second on each connection)"),
    ("connects", "Connects (negotiate, transport, handshake)"),
];

/// Draws the report into the guide.
pub(crate) fn write(root: &Path, report: &Report) -> std::io::Result<()> {
    fs::write(root.join(FILE), svg(report))
}

fn svg(report: &Report) -> String {
    let mut losses: Vec<f64> = report.rows.iter().map(|row| row.loss_percent).collect();
    losses.sort_by(f64::total_cmp);
    losses.dedup();
    let columns = u32::try_from(losses.len()).unwrap_or(1);
    let width = ORIGIN.0 + f64::from(columns) * (PANEL.0 + GAP.0);
    let height = ORIGIN.1 + 3.0 * (PANEL.1 + GAP.1) - 34.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#1f2328\">\n<title>Latency of calls and connects over WebTransport \
         and WebSockets under packet loss</title>\n<rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\"/>\n"
    );
    let _ = writeln!(
        out,
        "<text x=\"20\" y=\"28\" font-size=\"15\" font-weight=\"600\">Milliseconds by percentile, {} ms each way</text>",
        report.delay_ms
    );
    for ((name, colour, dashes), x) in TRANSPORTS.iter().zip([20.0, 170.0]) {
        let _ = writeln!(
            out,
            "<path d=\"M{x} 47h30\" stroke=\"{colour}\" stroke-width=\"2.5\" stroke-dasharray=\"{dashes}\"/>\
             <text x=\"{}\" y=\"51\">{name}</text>",
            x + 38.0
        );
    }
    for ((kind, title), line) in DRAWN.iter().zip(0_u32..) {
        let top = ORIGIN.1 + f64::from(line) * (PANEL.1 + GAP.1);
        let rows: Vec<&Row> = report.rows.iter().filter(|row| row.kind == *kind).collect();
        let highest = rows.iter().flat_map(|row| shown(row)).fold(1.0, |most: f64, (_, value)| most.max(value));
        let scale = Scale::for_values_to(highest);
        let _ = writeln!(out, "<text x=\"{}\" y=\"{}\" font-weight=\"600\">{title}</text>", ORIGIN.0, top - 24.0);
        for (loss, column) in losses.iter().zip(0_u32..) {
            let left = ORIGIN.0 + f64::from(column) * (PANEL.0 + GAP.0);
            let of_loss = rows.iter().filter(|row| row.loss_percent.total_cmp(loss).is_eq()).copied();
            panel(&mut out, (left, top), &format!("{loss} % of packets lost each way"), &scale, of_loss);
        }
    }
    out.push_str("</svg>\n");
    out
}

/// The points inside of the axes.
fn shown(row: &Row) -> impl Iterator<Item = (f64, f64)> {
    row.curve.iter().copied().filter(|(decades, _)| *decades <= DECADES)
}

/// A vertical axis from zero.
struct Scale {
    step: f64,
    steps: u32,
}

impl Scale {
    /// At most six round steps that reach `highest`.
    fn for_values_to(highest: f64) -> Self {
        let steps = [10.0, 20.0, 50.0, 100.0, 200.0, 250.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0];
        let step = steps.into_iter().find(|step| highest <= step * 6.0).unwrap_or(highest / 6.0);
        let mut count = 1;
        while step * f64::from(count) < highest && count < 6 {
            count += 1;
        }
        Self { step, steps: count }
    }

    fn height(&self, value: f64) -> f64 {
        PANEL.1 * value / (self.step * f64::from(self.steps))
    }
}

fn panel<'a>(
    out: &mut String,
    (left, top): (f64, f64),
    title: &str,
    scale: &Scale,
    rows: impl Iterator<Item = &'a Row>,
) {
    let bottom = top + PANEL.1;
    let _ = writeln!(out, "<text x=\"{left}\" y=\"{}\" fill=\"#57606a\">{title}</text>", top - 8.0);
    for tick in 0..=scale.steps {
        let value = scale.step * f64::from(tick);
        let y = bottom - scale.height(value);
        let _ = writeln!(
            out,
            "<path d=\"M{left} {y:.1}h{}\" stroke=\"#d0d7de\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" \
             fill=\"#57606a\">{value}</text>",
            PANEL.0,
            left - 6.0,
            y + 4.0
        );
    }
    for (decades, name) in TICKS {
        let x = left + PANEL.0 * decades / DECADES;
        let _ = writeln!(
            out,
            "<path d=\"M{x:.1} {top}V{}\" stroke=\"#eaeef2\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#57606a\">{name}</text>",
            bottom + 4.0,
            bottom + 18.0
        );
    }
    for row in rows {
        let Some((_, colour, dashes)) = TRANSPORTS.iter().find(|(name, ..)| *name == row.transport) else { continue };
        let points: Vec<String> = shown(row)
            .map(|(decades, value)| {
                format!("{:.1},{:.1}", left + PANEL.0 * decades / DECADES, bottom - scale.height(value))
            })
            .collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\" stroke-dasharray=\"{dashes}\"/>",
            points.join(" ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_reach_what_they_show_in_round_steps() {
        for (highest, step, count) in [(103.0, 20.0, 6), (290.0, 50.0, 6), (1150.0, 200.0, 6), (9.0, 10.0, 1)] {
            let scale = Scale::for_values_to(highest);
            assert_eq!((scale.step, scale.steps), (step, count), "{highest}");
            assert!(scale.height(highest) <= PANEL.1);
        }
    }
}
