//! Tables and verdicts: medians of the rounds, ratios to nginx taken round by round, and whether hubgate meets its bar.
//!
//! Invariant: a table says only what was observed; without nginx beside it there is no ratio and no verdict.

pub(crate) mod render;

use serde::Serialize;

use crate::load::Sample;
use crate::load::idle::IdleSample;
use crate::peer::Peer;
use crate::process::UdpDrops;

/// What hubgate with one thread must not exceed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    /// Nothing is demanded.
    None,
    /// Processor time per unit, as ratios to nginx by its usual recipe and to nginx with kept upstream connections.
    Ratio { usual: f64, keepalive: Option<f64> },
    /// Resident bytes per connection.
    Bytes(f64),
    /// The 99th percentile in milliseconds, without a dropped datagram; of WebTransport.
    P99(f64),
}

/// Whom the rows of a table are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// nginx by both recipes.
    Nginx,
    /// WebSockets through the same gateway, and `wtransport`'s bare echo.
    WebSockets,
}

impl Bar {
    /// A bar beside nginx by its usual recipe.
    pub(crate) fn nginx(usual: f64) -> Self {
        Self::Ratio { usual, keepalive: None }
    }

    /// A bar beside each of the two recipes.
    pub(crate) fn both(usual: f64, keepalive: f64) -> Self {
        Self::Ratio { usual, keepalive: Some(keepalive) }
    }
}

/// One line of measurements with a row for each peer.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    pub(crate) bar: Bar,
    pub(crate) beside: Beside,
    pub(crate) rows: Vec<Row>,
}

/// What was measured at one peer.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) peer: Peer,
    pub(crate) samples: Vec<Sample>,
    pub(crate) idle: Option<IdleSample>,
}

impl Row {
    /// A row without measurements.
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer, samples: Vec::new(), idle: None }
    }
}

/// A row as it is published.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) peer: &'static str,
    /// Failures of all rounds.
    pub(crate) failures: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_failure: Option<String>,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// Whether hubgate, passing through, meets the bar; none for all others and where there is no bar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) meets_bar: Option<bool>,
}

/// The medians of a row.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum Figures {
    /// Of the cases with rounds.
    Load(LoadFigures),
    /// Of the idle case, in bytes per connection.
    Idle { connections: usize, resident_bytes: f64, private_dirty_bytes: f64 },
}

/// Medians over the rounds of a load.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LoadFigures {
    pub(crate) per_second: f64,
    pub(crate) per_second_rounds: Vec<f64>,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Processor time of the proxy per unit; none without a proxy.
    pub(crate) cpu_us: Option<f64>,
    pub(crate) cpu_us_rounds: Vec<f64>,
    /// Processor time of the hub per unit.
    pub(crate) hub_cpu_us: f64,
    /// Median of the rounds' ratios to nginx by its usual recipe.
    pub(crate) to_nginx: Option<f64>,
    /// The same to nginx with kept upstream connections.
    pub(crate) to_nginx_keepalive: Option<f64>,
    /// What only the WebTransport case has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) web_transport: Option<WebTransportFigures>,
    /// Cores that processes without part in the measurement used, at most.
    pub(crate) disturbance_cores: f64,
}

/// Ratios of processor time per unit, round by round, and what was dropped in all rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WebTransportFigures {
    /// To WebSockets in clear text through the same gateway.
    pub(crate) to_web_sockets: Option<f64>,
    /// To WebSockets over TLS through the same gateway.
    pub(crate) to_tls: Option<f64>,
    /// To the bare echo.
    pub(crate) to_wtransport: Option<f64>,
    pub(crate) udp_drops: UdpDrops,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(id: &str, title: String, unit: &'static str, bar: Bar) -> Self {
        Self { id: id.to_owned(), title, unit, bar, beside: Beside::Nginx, rows: Vec::new() }
    }

    /// The rows as they are published.
    pub(crate) fn summaries(&self) -> Vec<Summary> {
        self.rows.iter().map(|row| self.summary(row)).collect()
    }

    fn summary(&self, row: &Row) -> Summary {
        let figures = match &row.idle {
            Some(idle) => idle_figures(idle),
            None => Figures::Load(self.load_figures(row)),
        };
        let of_rounds = row.samples.iter().map(|sample| &sample.failures);
        let all = of_rounds.chain(row.idle.iter().map(|idle| &idle.failures));
        let failures = all.clone().map(|failures| failures.count).sum();
        let first_failure = all.filter_map(|failures| failures.first.clone()).next();
        let has_bar = match self.beside {
            Beside::Nginx => row.peer.is_hubgate() && !row.peer.is_stateful(),
            Beside::WebSockets => row.peer == Peer::HubgateOneWebTransport,
        };
        let meets_bar = has_bar.then(|| meets(self.bar, &figures)).flatten();
        Summary { peer: row.peer.name(), failures, first_failure, figures, meets_bar }
    }

    fn load_figures(&self, row: &Row) -> LoadFigures {
        let median_of = |value: fn(&Sample) -> f64| median(row.samples.iter().map(value).collect()).unwrap_or(0.0);
        let cpu_us_rounds = if row.peer == Peer::Direct { Vec::new() } else { costs(row) };
        LoadFigures {
            per_second: median_of(per_second),
            per_second_rounds: row.samples.iter().map(per_second).collect(),
            p50_us: median_of(|sample| sample.p50_us as f64),
            p99_us: median_of(|sample| sample.p99_us as f64),
            cpu_us: median(cpu_us_rounds.clone()),
            hub_cpu_us: median_of(|sample| micros_each(sample.cpu.hub, sample)),
            to_nginx: self.ratio(&cpu_us_rounds, Peer::Nginx),
            to_nginx_keepalive: self.ratio(&cpu_us_rounds, Peer::NginxKeepalive),
            web_transport: (self.beside == Beside::WebSockets).then(|| WebTransportFigures {
                to_web_sockets: self.ratio(&cpu_us_rounds, Peer::HubgateOne),
                to_tls: self.ratio(&cpu_us_rounds, Peer::HubgateOneTls),
                to_wtransport: self.ratio(&cpu_us_rounds, Peer::WebTransportEcho),
                udp_drops: row.samples.iter().map(|sample| sample.udp_drops).fold(UdpDrops::default(), UdpDrops::plus),
            }),
            cpu_us_rounds,
            disturbance_cores: row.samples.iter().map(disturbance).fold(0.0, f64::max),
        }
    }

    /// The median of this row's ratios to another's, round by round.
    fn ratio(&self, costs_here: &[f64], beside: Peer) -> Option<f64> {
        let other = self.rows.iter().find(|row| row.peer == beside)?;
        median(costs_here.iter().zip(costs(other)).filter(|(_, cost)| *cost > 0.0).map(|(a, b)| a / b).collect())
    }
}

fn idle_figures(idle: &IdleSample) -> Figures {
    let each = |before: u64, after: u64| (after as f64 - before as f64) / idle.connections.max(1) as f64;
    Figures::Idle {
        connections: idle.connections,
        resident_bytes: each(idle.before.resident_bytes, idle.after.resident_bytes),
        private_dirty_bytes: each(idle.before.private_dirty_bytes, idle.after.private_dirty_bytes),
    }
}

fn meets(bar: Bar, figures: &Figures) -> Option<bool> {
    match (bar, figures) {
        (Bar::Ratio { usual, keepalive }, Figures::Load(load)) => {
            let kept = match keepalive {
                Some(limit) => load.to_nginx_keepalive? <= limit,
                None => true,
            };
            Some(load.to_nginx? <= usual && kept)
        }
        (Bar::P99(limit_ms), Figures::Load(load)) => {
            let dropped = load.web_transport.as_ref().map_or(0, |figures| figures.udp_drops.proxy);
            Some(load.p99_us < limit_ms * 1000.0 && dropped == 0)
        }
        (Bar::Bytes(limit), Figures::Idle { resident_bytes, .. }) => Some(*resident_bytes <= limit),
        _ => None,
    }
}

fn costs(row: &Row) -> Vec<f64> {
    row.samples.iter().map(|sample| micros_each(sample.cpu.proxy, sample)).collect()
}

fn micros_each(time: std::time::Duration, sample: &Sample) -> f64 {
    time.as_secs_f64() * 1e6 / sample.units.max(1) as f64
}

fn per_second(sample: &Sample) -> f64 {
    sample.units as f64 / sample.seconds
}

fn disturbance(sample: &Sample) -> f64 {
    sample.cpu.others().as_secs_f64() / sample.seconds
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied()?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = values.get((values.len() / 2).checked_sub(1)?).copied()?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::Failures;
    use crate::process::CpuTime;

    fn row(peer: Peer, costs_us: &[u64]) -> Row {
        let sample = |cost: &u64| Sample {
            units: 1000,
            seconds: 1.0,
            p50_us: 1,
            p99_us: 2,
            cpu: CpuTime { proxy: Duration::from_micros(cost * 1000), ..CpuTime::default() },
            udp_drops: UdpDrops { proxy: 0, all: 2 },
            failures: Failures::default(),
        };
        Row { samples: costs_us.iter().map(sample).collect(), ..Row::new(peer) }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut table = Table::new("a1", String::new(), "message", Bar::nginx(1.05));
        // The second round ran on a machine that was disturbed: both cost three times as much.
        table.rows = vec![row(Peer::Nginx, &[10, 30, 10]), row(Peer::HubgateOne, &[10, 30, 11])];
        let [nginx, hubgate] = table.summaries().try_into().unwrap();
        let Figures::Load(figures) = hubgate.figures else { panic!("a load has load figures") };
        assert_eq!((figures.cpu_us, figures.to_nginx), (Some(11.0), Some(1.0)));
        assert_eq!((hubgate.meets_bar, nginx.meets_bar), (Some(true), None));
    }

    #[test]
    fn a_bar_beside_both_recipes_needs_both() {
        let mut table = Table::new("d", String::new(), "connect", Bar::both(0.8, 1.05));
        table.rows = vec![row(Peer::Nginx, &[100]), row(Peer::HubgateOne, &[70])];
        assert_eq!(table.summaries().last().unwrap().meets_bar, None);
        table.rows.push(row(Peer::NginxKeepalive, &[60]));
        assert_eq!(table.summaries()[1].meets_bar, Some(false));
        table.rows[2] = row(Peer::NginxKeepalive, &[70]);
        assert_eq!(table.summaries()[1].meets_bar, Some(true));
    }

    #[test]
    fn a_dropped_datagram_misses_the_bar_of_web_transport() {
        let mut table = Table::new("w", String::new(), "message", Bar::P99(10.0));
        table.beside = Beside::WebSockets;
        table.rows = vec![row(Peer::HubgateOne, &[10]), row(Peer::HubgateOneWebTransport, &[30, 10])];
        let of = |table: &Table| table.summaries().pop().unwrap();
        assert_eq!((table.summaries()[0].meets_bar, of(&table).meets_bar), (None, Some(true)));
        let Figures::Load(figures) = of(&table).figures else { panic!("a load has load figures") };
        let figures = figures.web_transport.unwrap();
        assert_eq!((figures.to_web_sockets, figures.udp_drops), (Some(3.0), UdpDrops { proxy: 0, all: 4 }));
        table.rows[1].samples[0].udp_drops.proxy = 1;
        assert_eq!(of(&table).meets_bar, Some(false));
        table.rows[1].samples.iter_mut().for_each(|sample| (sample.udp_drops.proxy, sample.p99_us) = (0, 10_000));
        assert_eq!(of(&table).meets_bar, Some(false));
    }

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
