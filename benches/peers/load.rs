//! The loads: what a case does to a target while the processor time of everybody concerned is taken. One process, one
//! thread; all connections of a load are tasks of one local set.
//!
//! Invariant: a unit counts only after its answer was compared, and whatever did not arrive is a failure.

pub(crate) mod broadcast;
pub(crate) mod connects;
pub(crate) mod echo;
pub(crate) mod idle;
pub(crate) mod paced;

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::call::HubKind;
use crate::line::{self, Dialer, Line};
use crate::process::{CpuTime, Probe, UdpDrops};

/// Where a load goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// The address of the proxy, or of the hub itself.
    pub(crate) address: SocketAddr,
    /// The hub behind it.
    pub(crate) kind: HubKind,
    /// The hub's path.
    pub(crate) path: &'static str,
    /// Whether clients ask for stateful reconnect.
    pub(crate) stateful: bool,
    /// What carries the hub's messages.
    pub(crate) way: Way,
}

/// What carries a hub's messages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    WebSockets,
    /// Over TLS, negotiate too.
    SecureWebSockets(&'static Dialer),
    WebTransport(&'static Dialer),
    /// A session with a server that echoes bytes: no negotiate, no handshake.
    BareWebTransport(&'static Dialer),
}

impl Target {
    /// A hub over WebSockets in clear text.
    pub(crate) fn web_sockets(address: SocketAddr, kind: HubKind, path: &'static str) -> Self {
        Self { address, kind, path, stateful: false, way: Way::WebSockets }
    }

    /// A connection for negotiate or an upgrade.
    pub(crate) async fn line(self) -> Result<Line, line::Error> {
        match self.way {
            Way::SecureWebSockets(dialer) => dialer.tls(self.address).await,
            Way::WebSockets | Way::WebTransport(_) | Way::BareWebTransport(_) => Line::tcp(self.address).await,
        }
    }
}

/// How long a load warms up and how long it is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

/// What one round measured on one target.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Units answered and compared inside the window.
    pub(crate) units: u64,
    /// Length of the window.
    pub(crate) seconds: f64,
    /// Median time of a unit in microseconds.
    pub(crate) p50_us: u64,
    /// 99th percentile in microseconds.
    pub(crate) p99_us: u64,
    /// Processor time of everybody during the window.
    pub(crate) cpu: CpuTime,
    /// Datagrams that found a full socket during the window.
    pub(crate) udp_drops: UdpDrops,
    /// Failures of the whole round, warm-up and end included.
    pub(crate) failures: Failures,
}

/// Failures of a round with the first one's text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures {
    pub(crate) count: u64,
    pub(crate) first: Option<String>,
}

impl Failures {
    /// Counts `count` more failures.
    pub(crate) fn add(&mut self, count: u64, why: impl Display) {
        if count > 0 {
            self.count += count;
            self.first.get_or_insert_with(|| why.to_string());
        }
    }
}

/// What the tasks of a load share.
#[derive(Debug)]
struct Board {
    recording: Cell<bool>,
    stopping: Cell<bool>,
    units: Cell<u64>,
    latency_us: RefCell<Histogram<u64>>,
    failures: RefCell<Failures>,
}

impl Board {
    fn new() -> Self {
        // Up to a minute, with three digits.
        let Ok(latency_us) = Histogram::new_with_bounds(1, 60_000_000, 3) else {
            unreachable!("a histogram refused bounds that are constants")
        };
        Self {
            recording: Cell::new(false),
            stopping: Cell::new(false),
            units: Cell::new(0),
            latency_us: RefCell::new(latency_us),
            failures: RefCell::default(),
        }
    }

    /// Counts `units` that took `took` each, when the window is open.
    fn done(&self, units: u64, took: Duration) {
        if self.recording.get() {
            self.units.set(self.units.get() + units);
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.latency_us.borrow_mut().saturating_record_n(micros.max(1), units);
        }
    }

    fn fail(&self, why: impl Display) {
        self.failures.borrow_mut().add(1, why);
    }

    /// Warms up, opens the window, closes it and tells the tasks to stop.
    async fn measure(&self, timing: Timing, probe: &Probe) -> Sample {
        tokio::time::sleep(timing.warm_up).await;
        let (before, drops, started) = (probe.read(), probe.udp_drops(), Instant::now());
        self.recording.set(true);
        tokio::time::sleep(timing.window).await;
        self.recording.set(false);
        let (after, elapsed) = (probe.read(), started.elapsed());
        self.stopping.set(true);
        let latency_us = self.latency_us.borrow();
        Sample {
            units: self.units.get(),
            seconds: elapsed.as_secs_f64(),
            p50_us: latency_us.value_at_quantile(0.5),
            p99_us: latency_us.value_at_quantile(0.99),
            cpu: after.since(before),
            udp_drops: probe.udp_drops().since(drops),
            failures: Failures::default(),
        }
    }

    /// Completes a sample once all tasks have ended.
    fn completed(&self, mut sample: Sample) -> Sample {
        if sample.units == 0 {
            self.fail("nothing was answered inside the window");
        }
        sample.failures = self.failures.borrow().clone();
        sample
    }
}

/// Waits for all tasks; those that have not ended after `patience` count as failed.
async fn join_all(tasks: &mut JoinSet<()>, board: &Board, patience: Duration) {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match tokio::time::timeout_at(deadline, tasks.join_next()).await {
            Ok(None) => return,
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(error))) => board.fail(error),
            Err(_) => {
                let left = tasks.len() as u64;
                board.failures.borrow_mut().add(left, "no answer before the end of the round");
                tasks.shutdown().await;
                return;
            }
        }
    }
}
