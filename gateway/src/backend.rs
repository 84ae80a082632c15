//! Backends: who there is, who can be reached, who has the least to do, and connections to them.
//!
//! A name that resolves to several addresses is that many backends (rule D1). Only failing to connect counts against a
//! backend (rule B10); it is then left alone for a growing while. With all of them down, one is tried anyway.

mod connect;
mod direct;
mod exchange;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

pub(crate) use self::connect::{ConnectError, TlsClient, prepare};
pub(crate) use self::exchange::{ExchangeError, Failed, HubHttp, Reply};

/// A backend's stable name: a digest of its configuration and address (rule A1).
pub(crate) type BackendDigest = [u8; 8];

/// One server as configured, before its name is resolved.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// `https` with these settings, or clear text.
    pub(crate) tls: Option<Arc<TlsClient>>,
    /// Host name or address.
    pub(crate) host: Box<str>,
    /// What `host = "backend"` sends as `Host`.
    pub(crate) authority: Box<str>,
}

/// Waits and bounds that connections to backends obey.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// For TCP and TLS together.
    pub(crate) connect_timeout: Duration,
    /// From a request to the headers of its answer.
    pub(crate) headers_timeout: Duration,
    /// How long an idle connection is kept.
    pub(crate) idle_timeout: Duration,
    /// How many idle connections are kept for each backend.
    pub(crate) idle_max: usize,
    /// First pause after a failed connect; doubled by each further failure.
    pub(crate) retry_delay: Duration,
    /// Longest pause.
    pub(crate) retry_delay_max: Duration,
    /// TCP keep-alive.
    pub(crate) tcp_keep_alive: Duration,
    /// Longest header section of an answer.
    pub(crate) header_bytes_max: usize,
    /// Local addresses to connect from, used in turn.
    pub(crate) source_addresses: Vec<IpAddr>,
}

/// One server at one address.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Its stable name.
    pub(crate) digest: BackendDigest,
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// How it was configured.
    pub(crate) origin: Origin,
    terms: Arc<Terms>,
    /// Connections of clients, negotiated and attached (rule D7).
    load: AtomicUsize,
    reach: Mutex<Reach>,
    idle: Mutex<Vec<exchange::Idle>>,
    metrics: BackendMetrics,
}

/// Metrics of one backend.
#[derive(Debug, Clone, Default)]
pub(crate) struct BackendMetrics {
    /// 1 while it can be reached.
    pub(crate) up: Gauge,
    /// Client connections that are its.
    pub(crate) connections: Gauge,
    /// Failed connects.
    pub(crate) connect_failures: Counter,
    /// Connects for which no local port was left.
    pub(crate) ports_exhausted: Counter,
}

/// Whether a backend can be reached.
#[derive(Debug, Default)]
struct Reach {
    failures: u32,
    retry_at: Option<Instant>,
}

/// One client connection's share of a backend's load.
#[derive(Debug)]
pub(crate) struct Share(Arc<Backend>);

impl Share {
    /// Whose share it is.
    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.0
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Relaxed);
        self.0.metrics.connections.dec();
    }
}

impl Backend {
    /// A backend nobody has tried yet.
    pub(crate) fn new(
        digest: BackendDigest,
        address: SocketAddr,
        origin: Origin,
        terms: Arc<Terms>,
        metrics: BackendMetrics,
    ) -> Self {
        metrics.up.set(1);
        Self {
            digest,
            address,
            origin,
            terms,
            load: AtomicUsize::new(0),
            reach: Mutex::default(),
            idle: Mutex::default(),
            metrics,
        }
    }

    /// Counts a connection of a client.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        self.load.fetch_add(1, Relaxed);
        self.metrics.connections.inc();
        Share(Arc::clone(self))
    }

    /// Whether it may be tried: it was reached last, or its pause is over.
    pub(crate) fn is_up(&self) -> bool {
        self.reach().retry_at.is_none_or(|retry_at| retry_at <= Instant::now())
    }

    /// Notes that it was reached.
    fn reached(&self) {
        let mut reach = self.reach();
        if reach.failures > 0 {
            tracing::info!(backend = %self.address, "backend can be reached again");
            *reach = Reach::default();
            self.metrics.up.set(1);
        }
    }

    /// Notes that connecting failed.
    fn unreachable(&self, error: &ConnectError) {
        let mut reach = self.reach();
        let delay = self.terms.retry_delay.saturating_mul(1 << reach.failures.min(16)).min(self.terms.retry_delay_max);
        if reach.failures == 0 {
            tracing::warn!(backend = %self.address, %error, "backend cannot be reached");
        }
        reach.failures = reach.failures.saturating_add(1);
        reach.retry_at = Some(Instant::now() + delay);
        self.metrics.up.set(0);
        self.metrics.connect_failures.inc();
    }

    fn reach(&self) -> std::sync::MutexGuard<'_, Reach> {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Servers that serve the same hubs.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Whether `Host` is the client's (rule B3).
    pub(crate) pass_host: bool,
    backends: ArcSwap<Vec<Arc<Backend>>>,
}

impl Pool {
    /// A pool without backends; [`Pool::set`] gives it some.
    pub(crate) fn new(pass_host: bool) -> Self {
        Self { pass_host, backends: ArcSwap::default() }
    }

    /// The backends there are.
    pub(crate) fn backends(&self) -> Arc<Vec<Arc<Backend>>> {
        self.backends.load_full()
    }

    /// Replaces the backends.
    pub(crate) fn set(&self, backends: Vec<Arc<Backend>>) {
        self.backends.store(Arc::new(backends));
    }

    /// The backend with that digest.
    pub(crate) fn by_digest(&self, digest: BackendDigest) -> Option<Arc<Backend>> {
        self.backends.load().iter().find(|backend| backend.digest == digest).cloned()
    }

    /// Chooses who has the least to do among those that can be reached and were not tried; ties fall at random. With
    /// all down, any that was not tried.
    pub(crate) fn choose(&self, tried: &[BackendDigest], chance: u64) -> Option<Arc<Backend>> {
        let backends = self.backends.load();
        let untried = || backends.iter().filter(|backend| !tried.contains(&backend.digest));
        let least = |of: &mut dyn Iterator<Item = &Arc<Backend>>| {
            let mut best: Vec<&Arc<Backend>> = Vec::new();
            let mut best_load = usize::MAX;
            for backend in of {
                let load = backend.load.load(Relaxed);
                if load < best_load {
                    best.clear();
                    best_load = load;
                }
                if load == best_load {
                    best.push(backend);
                }
            }
            let at = usize::try_from(chance).unwrap_or(0).checked_rem(best.len())?;
            best.get(at).map(|backend| Arc::clone(backend))
        };
        least(&mut untried().filter(|backend| backend.is_up())).or_else(|| least(&mut untried()))
    }

    /// Whether one of the backends can be reached, as far as is known.
    pub(crate) fn any_up(&self) -> bool {
        self.backends.load().iter().any(|backend| backend.is_up())
    }

    /// Closes idle connections that have been kept long enough.
    pub(crate) fn sweep_idle(&self) {
        for backend in self.backends.load().iter() {
            backend.sweep_idle();
        }
    }
}
