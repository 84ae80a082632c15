//! The life of a gateway: start, the second's tick, reload, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Readiness};
use crate::attach;
use crate::config::{Changes, Config, Listener};
use crate::descriptors;
use crate::edge::End;
use crate::gate::Gate;
use crate::link::{Orders, SweepRules, sweep};
use crate::listen::Bound;
use crate::live::{BuildError, Live};
use crate::metrics::{Metrics, ReloadOutcome};
use crate::negotiate::seconds;
use crate::relief;
use crate::resolver::Resolver;
use crate::table::State;
use crate::tls;
use crate::web_transport;

/// Silence after which a WebSocket peer that was pinged counts as dead, in ping intervals (rule D8).
const DEAD_AFTER_PINGS: u32 = 3;

/// Ports that the system gives for TCP and that are tried for UDP.
const PORTS_TRIED_MAX: usize = 16;

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
    listening: Vec<Listening>,
    admin: Option<SocketAddr>,
    accepting: CancellationToken,
    ticking: CancellationToken,
    tasks: JoinSet<()>,
}

impl Gateway {
    /// Binds all listeners and starts to serve.
    ///
    /// # Errors
    /// [`StartError`]: certificates, addresses.
    pub async fn start(config: Arc<Config>) -> Result<Self, StartError> {
        Self::start_with(config, Resolver::default()).await
    }

    /// The same with somebody else to ask for the addresses of names.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub async fn start_with(config: Arc<Config>, resolver: Resolver) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        let mut live = Live::build(Arc::clone(&config), None, &metrics)?;
        live.resolver = resolver;
        if live.tokens.is_random() {
            tracing::info!("no token keys are set: connection tokens do not outlive this process");
        }
        live.resolve(&metrics).await;
        metrics.reloaded(ReloadOutcome::Ok, SystemTime::now());
        let gate = Gate::new(live, metrics)?;
        gate.clock.buffered().set_max(config.limits.buffered_bytes_max);
        descriptors::raise(config.limits.connections_max);
        let (accepting, ticking) = (CancellationToken::new(), CancellationToken::new());
        let (mut bound, mut listening, mut datagrams) = (Vec::new(), Vec::new(), Vec::new());
        for configured in &config.listeners {
            let (tcp, udp) = bind(configured, &config)?;
            listening.push(Listening {
                address: tcp.address,
                configured: configured.address,
                tls: Arc::clone(&tcp.tls),
                web_transport: udp.as_ref().map(web_transport::Bound::open_endpoint),
            });
            bound.push(tcp);
            datagrams.extend(udp);
        }
        let mut tasks = JoinSet::new();
        let admin = match &config.admin {
            None => None,
            Some(admin) => {
                let bound = TcpListener::bind(admin.address).await;
                let listener = bound.map_err(|source| StartError::Bind { address: admin.address, source })?;
                let address = listener.local_addr().unwrap_or(admin.address);
                tasks.spawn(serve_admin(listener, Arc::clone(&gate), ticking.clone()));
                Some(address)
            }
        };
        for listener in bound {
            tasks.spawn(listener.serve(Arc::clone(&gate), accepting.clone()));
        }
        for listener in datagrams {
            tasks.spawn(listener.serve(Arc::clone(&gate), accepting.clone()));
        }
        tasks.spawn(tick(Arc::clone(&gate), ticking.clone()));
        tasks.spawn(relief::relieve(Arc::clone(&gate), ticking.clone()));
        Ok(Self { gate, listening, admin, accepting, ticking, tasks })
    }

    /// Where it listens, as URLs, in the order of the configuration.
    pub fn urls(&self) -> impl Iterator<Item = String> {
        self.listening.iter().map(|listening| {
            let secure = if listening.tls.load().is_some() { "s" } else { "" };
            format!("http{secure}://{}", listening.address)
        })
    }

    /// Where it listens, in the order of the configuration.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listening.iter().map(|listening| listening.address)
    }

    /// Where it listens for WebTransport (UDP), in the order of the configuration.
    pub fn web_transport_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listening.iter().filter_map(|listening| listening.web_transport.as_ref()).map(|udp| udp.address)
    }

    /// Where health and metrics are, if anywhere.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Swaps in another configuration; connections that live keep their route (rule G2). Certificates are read again.
    ///
    /// # Errors
    /// What is wrong with the new one; the old one stays.
    pub async fn reload(&self, config: Arc<Config>) -> Result<Changes, BuildError> {
        let result = self.swap(config).await;
        let outcome = if result.is_ok() { ReloadOutcome::Ok } else { ReloadOutcome::Refused };
        self.gate.metrics.reloaded(outcome, SystemTime::now());
        result
    }

    /// Notes a reload that failed before there was a configuration to swap in.
    pub fn reload_refused(&self) {
        self.gate.metrics.reloaded(ReloadOutcome::Refused, SystemTime::now());
    }

    async fn swap(&self, config: Arc<Config>) -> Result<Changes, BuildError> {
        let before = self.gate.live.load_full();
        let live = Live::build(Arc::clone(&config), Some(&before), &self.gate.metrics)?;
        let (mut certificates, mut datagrams) = (Vec::new(), Vec::new());
        for listening in &self.listening {
            let configured = config.listeners.iter().find(|listener| listener.address == listening.configured);
            // Clear text and TLS do not change places without a restart.
            if let (Some(listener), true) = (configured, listening.tls.load().is_some())
                && let Some(tls) = tls::server(listener)?
            {
                certificates.push((listening, tls));
            }
            if let (Some(udp), Some(configured)) =
                (&listening.web_transport, configured.and_then(|listener| listener.web_transport.as_ref()))
            {
                datagrams.push((udp, web_transport::tls_of(configured)?));
            }
        }
        for (udp, tls) in datagrams {
            udp.replace(&config, tls).map_err(|source| tls::Error::Quic(source.to_string()))?;
        }
        live.resolve(&self.gate.metrics).await;
        for (listening, tls) in certificates {
            listening.tls.store(Some(tls));
        }
        let changes = Changes::between(&before.config, &config);
        self.gate.clock.buffered().set_max(live.config.limits.buffered_bytes_max);
        self.gate.live.store(Arc::new(live));
        Ok(changes)
    }

    /// Ends in good order (rule F4): not ready at once, accepting for `shutdown_delay`, then paced Closes until
    /// `drain_timeout`.
    pub async fn stop(mut self) {
        self.gate.stopping.store(true, Relaxed);
        let config = Arc::clone(&self.gate.live.load().config);
        tokio::time::sleep(config.timeouts.shutdown_delay).await;
        self.accepting.cancel();
        self.gate.draining.store(true, Relaxed);
        let until = tokio::time::Instant::now() + config.timeouts.drain_timeout;
        let _unfinished = tokio::time::timeout_at(until, drain(&self.gate, config.timeouts.drain_timeout)).await;
        for udp in self.listening.iter().filter_map(|listening| listening.web_transport.as_ref()) {
            let _gone_already = tokio::time::timeout(Duration::from_secs(1), udp.close()).await;
        }
        self.ticking.cancel();
        self.tasks.shutdown().await;
    }
}

/// A listener that is bound.
#[derive(Debug)]
struct Listening {
    address: SocketAddr,
    /// As the configuration names it, where port 0 means a free one.
    configured: SocketAddr,
    tls: Arc<ArcSwapOption<ServerConfig>>,
    web_transport: Option<web_transport::OpenEndpoint>,
}

/// Binds a listener, and WebTransport beside it. Where the system chooses the TCP port, one is sought whose UDP port is free, too.
fn bind(configured: &Listener, config: &Config) -> Result<(Bound, Option<web_transport::Bound>), StartError> {
    let (mut tries, any_port) = (PORTS_TRIED_MAX, configured.address.port() == 0);
    loop {
        let tls = tls::server(configured)?;
        let tcp = Bound::bind(configured.address, configured.http2, tls, config.timeouts.tcp_keep_alive)
            .map_err(|source| StartError::Bind { address: configured.address, source })?;
        let Some(udp) = &configured.web_transport else { return Ok((tcp, None)) };
        let address = udp.address.unwrap_or(tcp.address);
        match web_transport::Bound::bind(udp, address, config, web_transport::tls_of(udp)?) {
            Ok(bound) => return Ok((tcp.with_web_transport(Some(Arc::clone(&bound.listener))), Some(bound))),
            Err(source) if source.kind() == std::io::ErrorKind::AddrInUse && any_port && tries > 0 => tries -= 1,
            Err(source) => return Err(StartError::Bind { address, source }),
        }
    }
}

/// Serves health and metrics on a listener of its own (rule G6).
async fn serve_admin(listener: TcpListener, gate: Arc<Gate>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((tcp, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let gate = Arc::clone(&gate);
                async move {
                    let answer = admin::answer(request.method(), request.uri().path(), readiness(&gate), || {
                        gate.metrics.encode()
                    });
                    Ok::<_, std::convert::Infallible>(answer.map(|text| Full::new(Bytes::from(text))))
                }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
            if let Err(error) = builder.serve_connection(TokioIo::new(tcp), service).await {
                tracing::debug!(%error, "an admin connection ended");
            }
        });
    }
}

fn readiness(gate: &Gate) -> Readiness {
    if gate.stopping.load(Relaxed) {
        return Readiness::Stopping;
    }
    let live = gate.live.load();
    let asks = live.config.admin.as_ref().is_some_and(|admin| admin.ready_needs_backends);
    if asks && !live.pools().all(|pool| pool.any_up()) { Readiness::NoBackend } else { Readiness::Ready }
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
        attach::reap(&gate, rules);
        live.pools().for_each(|pool| pool.sweep_idle());
        count(&gate);
        if now.saturating_sub(resolved_at) >= seconds(timeouts.backend_resolve_interval) {
            resolved_at = now;
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { live.resolve(&gate.metrics).await });
        }
    }
}

/// Sets the gauges that are cheaper to count once a second than to keep.
fn count(gate: &Gate) {
    let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let metrics = &gate.metrics;
    metrics.client_sockets.set(gauge(gate.tcp_connections.load(Relaxed) + gate.links.len()));
    metrics.unattached_tokens.set(gauge(gate.table.unattached()));
    metrics.buffered_bytes.set(gauge(gate.clock.buffered().bytes()));
    let dropped = gate.log_lines_dropped();
    metrics.access_log_dropped.inc_by(dropped.saturating_sub(metrics.access_log_dropped.get()));
}

/// Ends all connections one after the other, so that their clients do not all come back in the same instant (rule F4).
async fn drain(gate: &Gate, timeout: Duration) {
    let timeouts = gate.live.load().config.timeouts.clone();
    let (links, edges) = (gate.links.all(), gate.table.edges());
    let count = u32::try_from(links.len() + edges.len()).unwrap_or(u32::MAX);
    // Pacing is for crowds: a few connections end at once, a crowd has half of the time there is.
    let pause = (timeout / 2).checked_div(count.max(1)).unwrap_or_default().min(Duration::from_millis(2));
    let mut turn = Turns { gate, pause, taken: 0 };
    for entry in edges {
        if let State::Edge(edge) = &*entry.state() {
            edge.part(End::Drained, false);
        }
        turn.next().await;
    }
    for link in links {
        link.order(Orders::DRAIN);
        turn.next().await;
    }
    // A message that does not end holds its connection up for a second at the most (rule E4).
    ended(gate, timeouts.boundary_timeout.min(timeout)).await;
    for link in gate.links.all() {
        link.order(Orders::DRAIN_NOW);
    }
    ended(gate, timeouts.close_timeout).await;
}

/// Paces a drain, with jitter.
struct Turns<'a> {
    gate: &'a Gate,
    pause: Duration,
    taken: u32,
}

impl Turns<'_> {
    /// Connections that end together; shorter pauses than this many turns are not worth a timer.
    const TOGETHER: u32 = 50;

    async fn next(&mut self) {
        self.taken += 1;
        if self.taken.is_multiple_of(Self::TOGETHER) {
            let jitter = u32::try_from(self.gate.chance() % 100).unwrap_or(0) + 50;
            tokio::time::sleep(self.pause * Self::TOGETHER * jitter / 100).await;
        }
    }
}

/// Waits until no connection is left, at most that long.
async fn ended(gate: &Gate, patience: Duration) {
    let deadline = tokio::time::Instant::now() + patience;
    while (gate.links.len() > 0 || !gate.table.edges().is_empty()) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
