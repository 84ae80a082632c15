//! What a configuration becomes while it runs: routes with their pools, backends with their connections.
//!
//! A reload builds a new [`Live`] and swaps it in. Backends that are the same before and after are taken over with
//! their connections and load; a connection keeps the route it began with (rule G2).

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::{Backend, BackendMetrics, Origin, Pool, Terms, TlsClient};
use crate::config::{self, Config, HostHeader, Scheme, ServerHost};
use crate::metrics::{Meters, Metrics};
use crate::relay::Traffic;
use crate::resolver::Resolver;
use crate::tls;
use crate::token::TokenKeys;
use crate::transcoding::Transcoding;

/// Hub paths remembered per route, in quick use (rule B5).
const KNOWN_HUBS_MAX: usize = 1_000;

/// Everything that a reload replaces.
#[derive(Debug)]
pub(crate) struct Live {
    /// The configuration.
    pub(crate) config: Arc<Config>,
    /// The keys of connection tokens.
    pub(crate) tokens: TokenKeys,
    routes: BTreeMap<Arc<str>, Arc<Route>>,
    pools: BTreeMap<Arc<str>, Arc<LivePool>>,
    terms: Arc<Terms>,
    /// Who is asked for the addresses of names; a reload keeps it.
    pub(crate) resolver: Resolver,
    elsewhere: Mutex<BTreeMap<String, Arc<Backend>>>,
}

/// A route while it runs.
#[derive(Debug)]
pub(crate) struct Route {
    /// As configured.
    pub(crate) config: Arc<config::Route>,
    /// Where its requests go; `None` on a refusing route.
    pub(crate) pool: Option<Arc<Pool>>,
    /// Its counters.
    pub(crate) traffic: Arc<Traffic>,
    /// What its requests count into.
    pub(crate) meters: Meters,
    /// How its hubs' messages are transcoded, if they are.
    pub(crate) transcoding: Option<Arc<Transcoding>>,
    known_hubs: Arc<Mutex<HashSet<Box<str>>>>,
}

impl Route {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether a path ([`crate::path::NormalPath::hub`] form) has negotiated here before.
    pub(crate) fn knows_hub(&self, hub: &str) -> bool {
        self.known_hubs.lock().unwrap_or_else(PoisonError::into_inner).contains(hub)
    }

    /// Remembers that a path is a hub's.
    pub(crate) fn remember_hub(&self, hub: &str) {
        let mut known = self.known_hubs.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < KNOWN_HUBS_MAX && !known.contains(hub) {
            known.insert(hub.into());
        }
    }
}

/// A pool and how its backends come about.
#[derive(Debug)]
struct LivePool {
    config: Arc<config::Backend>,
    pool: Arc<Pool>,
    tls: BTreeMap<String, Arc<TlsClient>>,
    terms: Arc<Terms>,
}

/// Why a configuration cannot run.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A certificate or authority file.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The system's random numbers.
    #[error("cannot make a token key: {0}")]
    Token(#[from] crate::token::Error),
}

impl Live {
    /// Builds what runs; names are resolved by [`Live::resolve`] afterwards.
    ///
    /// # Errors
    /// Certificates that cannot be read; no randomness.
    pub(crate) fn build(config: Arc<Config>, before: Option<&Self>, metrics: &Metrics) -> Result<Self, BuildError> {
        let tokens = match before {
            Some(before) => before.tokens.reloaded(&config.token_keys)?,
            None => TokenKeys::new(&config.token_keys)?,
        };
        let terms = Arc::new(terms(&config));
        let mut pools = BTreeMap::new();
        for (name, backend) in &config.backends {
            let pool = LivePool::build(Arc::clone(backend), Arc::clone(&terms))?;
            let old = before.and_then(|before| before.pools.get(name)).filter(|old| old.config == *backend);
            if let Some(old) = old {
                pool.pool.set(old.pool.backends().iter().cloned().collect());
            }
            pools.insert(Arc::clone(name), Arc::new(pool));
        }
        let routes = config
            .routes
            .iter()
            .map(|route| {
                let pool = route.backend.as_ref().and_then(|backend| pools.get(&backend.name));
                let live = Route {
                    config: Arc::clone(route),
                    pool: pool.map(|pool| Arc::clone(&pool.pool)),
                    traffic: metrics.traffic(&route.name),
                    meters: Meters::new(&route.name),
                    transcoding: route.transcoding.as_ref().map(|config| {
                        let (hub, rules) = (config.hub, Arc::clone(&config.rules));
                        Arc::new(Transcoding { hub, rules, metrics: metrics.transcodes(&route.name) })
                    }),
                    known_hubs: before
                        .and_then(|before| before.route(route))
                        .filter(|old| old.config.digest == route.digest)
                        .map(|old| Arc::clone(&old.known_hubs))
                        .unwrap_or_default(),
                };
                (Arc::clone(&route.name), Arc::new(live))
            })
            .collect();
        let resolver = before.map(|before| before.resolver.clone()).unwrap_or_default();
        Ok(Self { config, tokens, routes, pools, terms, resolver, elsewhere: Mutex::default() })
    }

    /// The running side of a configured route.
    pub(crate) fn route(&self, config: &config::Route) -> Option<&Arc<Route>> {
        self.routes.get(&config.name)
    }

    /// All pools.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.values().map(|pool| &pool.pool)
    }

    /// The server at an origin that a route follows redirects to (rule B7).
    ///
    /// # Errors
    /// No such name, or TLS cannot be set up.
    pub(crate) async fn elsewhere(&self, uri: &http::Uri) -> Result<Arc<Backend>, std::io::Error> {
        let wrong = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidInput, what.to_owned());
        let origin = config::Origin::of(uri).ok_or_else(|| wrong("the redirect's URL is not absolute"))?;
        let server = config::Server::parse(origin.as_str()).map_err(|error| wrong(&error))?;
        let (host, port) = (server.host_text(), server.port);
        let address = self.resolver.addresses(&host, port).await?.into_iter().next();
        let address = address.ok_or_else(|| wrong("the redirect's host has no address"))?;
        let key = format!("{} {address}", origin.as_str());
        let known = || self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(backend) = known().get(&key) {
            return Ok(Arc::clone(backend));
        }
        let tls = match server.scheme {
            Scheme::Http => None,
            Scheme::Https => {
                let client = tls::client(&config::Verification::default(), &host).map_err(std::io::Error::other)?;
                Some(Arc::new(client))
            }
        };
        let origin = Origin { tls, host: host.into(), authority: server.authority().into() };
        let digest = server.digest(address).to_bytes();
        let backend =
            Arc::new(Backend::new(digest, address, origin, Arc::clone(&self.terms), BackendMetrics::default()));
        known().insert(key, Arc::clone(&backend));
        Ok(backend)
    }

    /// Resolves all names; a name that fails keeps the addresses it had.
    pub(crate) async fn resolve(&self, metrics: &Metrics) {
        for pool in self.pools.values() {
            pool.resolve(&self.resolver, metrics).await;
        }
    }
}

impl LivePool {
    fn build(config: Arc<config::Backend>, terms: Arc<Terms>) -> Result<Self, BuildError> {
        let mut tls = BTreeMap::new();
        for server in config.servers.iter().filter(|server| server.scheme == Scheme::Https) {
            let host = server.host_text();
            let name = config.verification.server_name.clone().unwrap_or_else(|| host.clone());
            tls.insert(host, Arc::new(tls::client(&config.verification, &name)?));
        }
        let pool = Arc::new(Pool::new(config.host == HostHeader::Pass));
        Ok(Self { config, pool, tls, terms })
    }

    async fn resolve(&self, resolver: &Resolver, metrics: &Metrics) {
        let before = self.pool.backends();
        let mut backends: Vec<Arc<Backend>> = Vec::new();
        for server in &self.config.servers {
            let addresses: Vec<SocketAddr> = match &server.host {
                ServerHost::Address(address) => vec![SocketAddr::new(*address, server.port)],
                ServerHost::Name(name) => match resolver.addresses(name, server.port).await {
                    Ok(addresses) => addresses,
                    Err(error) => {
                        tracing::warn!(pool = %self.config.name, %name, %error, "cannot resolve a server's name");
                        metrics.resolve_failures(&self.config.name).inc();
                        let host = server.host_text();
                        before.iter().filter(|old| *old.origin.host == *host).map(|old| old.address).collect()
                    }
                },
            };
            for address in addresses {
                let digest = server.digest(address).to_bytes();
                if backends.iter().any(|known| known.digest == digest) {
                    continue;
                }
                let kept = before.iter().find(|old| old.digest == digest).cloned();
                backends.push(kept.unwrap_or_else(|| {
                    let host = server.host_text();
                    let origin = Origin {
                        tls: self.tls.get(&host).cloned(),
                        host: host.into(),
                        authority: server.authority().into(),
                    };
                    let metrics = metrics.backend_counters(&self.config.name, &address.to_string());
                    Arc::new(Backend::new(digest, address, origin, Arc::clone(&self.terms), metrics))
                }));
            }
        }
        for gone in before.iter().filter(|old| backends.iter().all(|new| new.digest != old.digest)) {
            metrics.forget_backend(&self.config.name, &gone.address.to_string());
        }
        self.pool.set(backends);
    }
}

fn terms(config: &Config) -> Terms {
    let (limits, timeouts) = (&config.limits, &config.timeouts);
    Terms {
        connect_timeout: timeouts.backend_connect_timeout,
        headers_timeout: timeouts.backend_headers_timeout,
        idle_timeout: timeouts.backend_idle_timeout,
        idle_max: limits.idle_connections_max,
        retry_delay: timeouts.backend_retry_delay,
        retry_delay_max: timeouts.backend_retry_delay_max,
        tcp_keep_alive: timeouts.tcp_keep_alive,
        header_bytes_max: limits.header_bytes_max,
        source_addresses: config.source_addresses.to_vec(),
    }
}
