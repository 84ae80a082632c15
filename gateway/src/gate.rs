//! The gateway as a whole: what all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwap;

use crate::access_log::AccessLog;
use crate::cors::CorsMemory;
use crate::identity::Fingerprints;
use crate::link::{Clock, Links};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::table::Table;

/// Environment variable of a test switch: connects ignore which backend a token names, to show what it is good for.
const IGNORE_TOKEN_BACKEND: &str = "HUBGATE_TEST_IGNORE_TOKEN_BACKEND";

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Gate {
    /// What a reload replaces.
    pub(crate) live: ArcSwap<Live>,
    /// The connections by token.
    pub(crate) table: Table,
    /// The relayed WebSockets.
    pub(crate) links: Arc<Links>,
    /// Seconds since the start.
    pub(crate) clock: Arc<Clock>,
    /// Counters and gauges.
    pub(crate) metrics: Arc<Metrics>,
    /// Where access log lines go.
    access_log: Option<AccessLog>,
    /// Client connections open that are no relays: HTTP over TCP, and QUIC.
    pub(crate) tcp_connections: AtomicUsize,
    /// What backends let pages of other origins do.
    pub(crate) cors: CorsMemory,
    /// Makes fingerprints of credentials.
    pub(crate) fingerprints: Fingerprints,
    /// Readiness is off: the gateway is stopping.
    pub(crate) stopping: AtomicBool,
    /// Connections are being ended: no new ones are made.
    pub(crate) draining: AtomicBool,
    /// The test switch [`IGNORE_TOKEN_BACKEND`].
    pub(crate) ignore_token_backend: bool,
    chance: AtomicU64,
}

impl Gate {
    /// A gateway with its first configuration.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(crate) fn new(live: Live, metrics: Arc<Metrics>) -> Result<Arc<Self>, crate::token::Error> {
        let ignore_token_backend = std::env::var_os(IGNORE_TOKEN_BACKEND).is_some();
        if ignore_token_backend {
            tracing::warn!("{IGNORE_TOKEN_BACKEND} is set: connects go to any backend and will fail");
        }
        let mut seed = [0; 8];
        let random = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&random, &mut seed).map_err(|_| crate::token::Error::NoRandomness)?;
        let access_log =
            AccessLog::start(std::io::stderr()).map_err(|error| tracing::warn!(%error, "there is no access log")).ok();
        let cors = CorsMemory::new(live.config.limits.cors_answers_max);
        Ok(Arc::new(Self {
            live: ArcSwap::from_pointee(live),
            table: Table::default(),
            links: Arc::default(),
            clock: Arc::default(),
            metrics,
            access_log,
            tcp_connections: AtomicUsize::new(0),
            cors,
            fingerprints: Fingerprints::new()?,
            stopping: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            ignore_token_backend,
            chance: AtomicU64::new(u64::from_le_bytes(seed)),
        }))
    }

    /// Writes a line of the access log; never waits.
    pub(crate) fn log(&self, line: String) {
        if let Some(log) = &self.access_log {
            log.write(line);
        }
    }

    /// Lines of the access log that did not fit since the start.
    pub(crate) fn log_lines_dropped(&self) -> u64 {
        self.access_log.as_ref().map_or(0, AccessLog::dropped)
    }

    /// A number that is spread well and secret from nobody: for choices among equals and masking keys.
    pub(crate) fn chance(&self) -> u64 {
        // SplitMix64: each step of the counter gives an independent looking number.
        let mut z = self.chance.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
