//! The life of a gateway: start, the second's tick, reload, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::attach;
use crate::backend::BackendMetrics;
use crate::config::Config;
use crate::edge::End;
use crate::gate::Gate;
use crate::link::{Orders, SweepRules, sweep};
use crate::listen::Bound;
use crate::live::{BuildError, Live, Meters};
use crate::negotiate::seconds;
use crate::relay::Traffic;
use crate::table::State;
use crate::tls;

/// Silence after which a WebSocket peer that was pinged counts as dead, in ping intervals (rule D8).
const DEAD_AFTER_PINGS: u32 = 3;

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Certificates or keys.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl From<tls::Error> for StartError {
    fn from(error: tls::Error) -> Self {
        Self::Build(error.into())
    }
}

impl From<crate::token::Error> for StartError {
    fn from(error: crate::token::Error) -> Self {
        Self::Build(error.into())
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    gate: Arc<Gate>,
    listening: Vec<(SocketAddr, bool)>,
    accepting: CancellationToken,
    ticking: CancellationToken,
    tasks: JoinSet<()>,
}

/// Counters that nobody reads.
#[derive(Debug)]
struct Unread;

impl Meters for Unread {
    fn route(&self, _route: &str) -> Arc<Traffic> {
        Arc::default()
    }

    fn backend(&self, _pool: &str, _address: &str) -> BackendMetrics {
        BackendMetrics::default()
    }

    fn resolve_failures(&self, _pool: &str) -> prometheus_client::metrics::counter::Counter {
        prometheus_client::metrics::counter::Counter::default()
    }
}

impl Gateway {
    /// Binds all listeners and starts to serve.
    ///
    /// # Errors
    /// [`StartError`]: certificates, addresses.
    pub async fn start(config: Arc<Config>) -> Result<Self, StartError> {
        let meters: Arc<dyn Meters> = Arc::new(Unread);
        let live = Live::build(Arc::clone(&config), None, &*meters)?;
        if live.tokens.is_random() {
            tracing::info!("no token keys are set: connection tokens do not outlive this process");
        }
        live.resolve(&*meters).await;
        let gate = Gate::new(live, meters)?;
        let (accepting, ticking) = (CancellationToken::new(), CancellationToken::new());
        let mut bound = Vec::new();
        for listener in &config.listeners {
            let tls = tls::server(listener)?;
            let found = Bound::bind(listener.address, listener.http2, tls);
            bound.push(found.map_err(|source| StartError::Bind { address: listener.address, source })?);
        }
        let listening = bound.iter().map(|listener| (listener.address, listener.tls.load().is_some())).collect();
        let mut tasks = JoinSet::new();
        for listener in bound {
            tasks.spawn(listener.serve(Arc::clone(&gate), accepting.clone()));
        }
        tasks.spawn(tick(Arc::clone(&gate), ticking.clone()));
        Ok(Self { gate, listening, accepting, ticking, tasks })
    }

    /// Where it listens, as URLs, in the order of the configuration.
    pub fn urls(&self) -> impl Iterator<Item = String> {
        self.listening.iter().map(|(address, secure)| format!("http{}://{address}", if *secure { "s" } else { "" }))
    }

    /// Where it listens, in the order of the configuration.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listening.iter().map(|(address, _)| *address)
    }

    /// Swaps in another configuration; connections that live keep their route (rule G2).
    ///
    /// # Errors
    /// What is wrong with the new one; the old one stays.
    pub async fn reload(&self, config: Arc<Config>) -> Result<(), BuildError> {
        let before = self.gate.live.load_full();
        let live = Live::build(config, Some(&before), &*self.gate.meters)?;
        live.resolve(&*self.gate.meters).await;
        self.gate.live.store(Arc::new(live));
        Ok(())
    }

    /// Ends in good order (rule F4): not ready at once, accepting for `shutdown_delay`, then paced Closes until
    /// `drain_timeout`.
    pub async fn stop(mut self) {
        self.gate.stopping.store(true, Relaxed);
        let config = Arc::clone(&self.gate.live.load().config);
        tokio::time::sleep(config.timeouts.shutdown_delay).await;
        self.accepting.cancel();
        let until = tokio::time::Instant::now() + config.timeouts.drain_timeout;
        let _unfinished = tokio::time::timeout_at(until, drain(&self.gate, config.timeouts.drain_timeout)).await;
        self.ticking.cancel();
        self.tasks.shutdown().await;
    }
}

/// Once a second: the clock, time-outs, abandoned connections, idle backend connections, names.
async fn tick(gate: Arc<Gate>, stop: CancellationToken) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let started = tokio::time::Instant::now();
    let mut resolved_at = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let now = u32::try_from(started.elapsed().as_secs()).unwrap_or(u32::MAX);
        gate.clock.set(now);
        let live = gate.live.load_full();
        let timeouts = &live.config.timeouts;
        let ping_after = seconds(timeouts.websocket_ping_interval).max(1);
        let rules = SweepRules {
            ping_after,
            dead_after: ping_after.saturating_mul(DEAD_AFTER_PINGS),
            send_timeout: seconds(timeouts.send_timeout),
        };
        sweep(&gate.links, now, rules);
        gate.table.sweep(now);
        attach::reap(&gate);
        live.pools().for_each(|pool| pool.sweep_idle());
        if now.saturating_sub(resolved_at) >= seconds(timeouts.backend_resolve_interval) {
            resolved_at = now;
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { live.resolve(&*gate.meters).await });
        }
    }
}

/// Ends all connections one after the other over half of the time there is, so that clients do not come back at once.
async fn drain(gate: &Arc<Gate>, timeout: Duration) {
    let links = gate.links.all();
    let edges = gate.table.edges();
    let count = u32::try_from(links.len() + edges.len()).unwrap_or(u32::MAX);
    // Pacing is for crowds: a few connections end at once.
    let pause = (timeout / 2).checked_div(count.max(1)).unwrap_or_default().min(Duration::from_millis(2));
    let mut batch = 0;
    for entry in edges {
        if let State::Edge(edge) = &*entry.state() {
            edge.part(End::Drained, false);
        }
        batch += 1;
        if batch % 50 == 0 {
            tokio::time::sleep(pause * 50).await;
        }
    }
    for link in links {
        link.order(Orders::DRAIN);
        batch += 1;
        if batch % 50 == 0 {
            tokio::time::sleep(pause * 50).await;
        }
    }
    // A message that does not end holds its connection up for a second at the most (rule E4).
    tokio::time::sleep(gate.live.load().config.timeouts.boundary_timeout.min(timeout)).await;
    for link in gate.links.all() {
        link.order(Orders::DRAIN_NOW);
    }
    let patience = gate.live.load().config.timeouts.close_timeout;
    let deadline = tokio::time::Instant::now() + patience;
    while gate.links.len() > 0 || !gate.table.edges().is_empty() {
        if tokio::time::Instant::now() >= deadline {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
