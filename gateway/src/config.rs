//! Configuration: raw TOML and environment in, one validated [`Config`] out.
//!
//! Why: parse, don't validate. What the rest of the gateway holds has been checked once; it is shared as `Arc<Config>`
//! and swapped as a whole at a reload (rule G2).
//!
//! The way: [`raw`] defines every setting, [`section`](self::section) gives it its reader, [`environment`] overrides,
//! [`validate`] makes the [`Config`]. [`default_file`] writes the documented defaults from the same definitions.
//!
//! Invariant: a `Config` names no backend that does not exist, and holds its secrets as [`Secret`]s.

mod backend;
mod codec;
mod default_file;
mod digest;
mod environment;
mod error;
mod network;
mod raw;
mod reload;
mod route;
mod section;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use self::backend::{Backend, Scheme, Server, ServerHost, Verification};
pub use self::digest::Digest;
pub use self::environment::Environment;
pub use self::error::{Error, Problem};
pub use self::network::Network;
pub use self::raw::{
    AccessLogFormat, Affinity, BackendProtocol, HostHeader, Limits, Log, LogFormat, LogLevel, PropertyNames,
    RedirectMode, RouteProtocol, StatefulReconnect, Timeouts, TransportName,
};
use self::raw::{RawAdmin, RawBackend, RawConfig, RawListener, RawRoute};
pub use self::reload::Changes;
pub use self::route::{Cors, HostPattern, Origin, Redirects, Route, RouteKind, Routes, Transcoding, host_name};
use crate::secret::Secret;

/// A whole, checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Worker threads; 0 means one per core.
    pub threads: usize,
    /// Peers whose forwarding headers are believed (rule B3).
    pub trusted_proxies: Arc<[Network]>,
    /// Local addresses to connect from; empty leaves it to the system.
    pub source_addresses: Arc<[IpAddr]>,
    /// Where clients connect; at least one.
    pub listeners: Vec<Arc<Listener>>,
    /// The pools by name.
    pub backends: BTreeMap<Arc<str>, Arc<Backend>>,
    /// The routes.
    pub routes: Routes,
    /// The keys of connection tokens, the sealing one first; empty means a random one per process (rule A1).
    pub token_keys: Vec<Secret>,
    /// Bounds.
    pub limits: Limits,
    /// Waits.
    pub timeouts: Timeouts,
    /// Logging.
    pub log: Log,
    /// The admin listener, if there is one (rule G6).
    pub admin: Option<Admin>,
    /// What an operator should know at start: log each once.
    pub warnings: Vec<String>,
}

/// An address where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether HTTP/2 is served beside HTTP/1.1.
    pub http2: bool,
    /// The certificates, the default one first; empty means clear text (rule G3).
    pub certificates: Vec<CertificateFiles>,
    /// WebTransport beside it, if it has that.
    pub web_transport: Option<WebTransport>,
}

/// WebTransport beside a listener (rule H2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebTransport {
    /// Where; `None` means the listener's own address and port.
    pub address: Option<SocketAddr>,
    /// The UDP port that clients are told; `None` means the one that is listened on.
    pub public_port: Option<u16>,
    /// The certificates, the default one first; at least one.
    pub certificates: Vec<CertificateFiles>,
}

/// The two files of a certificate, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Certificate and chain.
    pub certificate_file: PathBuf,
    /// Private key.
    pub key_file: PathBuf,
}

/// The admin listener (rule G6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where.
    pub address: SocketAddr,
    /// Whether readiness asks for reachable servers (rule F4: off by default).
    pub ready_needs_backends: bool,
}

impl Config {
    /// Reads a configuration file and what it names, with the environment's overrides.
    ///
    /// # Errors
    /// [`Error`]: unreadable files, unknown or wrong settings with their line, or all problems of readable ones.
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("")), environment)
    }

    /// Reads a configuration text; relative file names in it start at `directory`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, directory: &Path, environment: &Environment) -> Result<Self, Error> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let before = text.get(..at).unwrap_or(text);
            Error::Syntax { line: 1 + before.matches('\n').count(), message: error.message().to_owned() }
        })?;
        Self::finish(raw, directory, environment)
    }

    /// The configuration of quick use: every path of these servers, hubs recognised by their answers (rule B5).
    ///
    /// # Errors
    /// [`Error::Invalid`] for what are no servers, and for overrides in the environment that are wrong.
    pub fn quick(
        listen: &[SocketAddr],
        servers: &[String],
        admin: Option<SocketAddr>,
        environment: &Environment,
    ) -> Result<Self, Error> {
        let pool = RawBackend { servers: servers.to_vec(), ..RawBackend::default() };
        let route = RawRoute {
            name: Some("default".to_owned()),
            hubs: Some("/".to_owned()),
            backend: Some("default".to_owned()),
            protocol: RouteProtocol::Any,
            ..RawRoute::default()
        };
        let raw = RawConfig {
            listener: listen
                .iter()
                .map(|address| RawListener { address: Some(*address), ..RawListener::default() })
                .collect(),
            backend: BTreeMap::from([("default".to_owned(), pool)]),
            route: vec![route],
            admin: RawAdmin { address: admin, ..RawAdmin::default() },
            ..RawConfig::default()
        };
        Self::finish(raw, Path::new(""), environment)
    }

    /// The documented default file, as `docs/guide/hubgate.default.toml` keeps it.
    pub fn default_file() -> String {
        default_file::text()
    }

    fn finish(mut raw: RawConfig, directory: &Path, environment: &Environment) -> Result<Self, Error> {
        let mut problems = Vec::new();
        let warnings = environment.apply(&mut raw, &mut problems);
        let mut config =
            validate::validate(raw, directory, problems).map_err(|problems| Error::Invalid { problems })?;
        config.warnings.extend(warnings);
        Ok(config)
    }

    /// Tells whether `address` is a proxy whose forwarding headers are believed (rule B3).
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(address))
    }
}

impl Timeouts {
    /// Every bounded wait with its name.
    fn durations(&self) -> [(&'static str, Duration); 28] {
        [
            ("first_byte_timeout", self.first_byte_timeout),
            ("tls_handshake_timeout", self.tls_handshake_timeout),
            ("headers_timeout", self.headers_timeout),
            ("body_grace", self.body_grace),
            ("http_idle_timeout", self.http_idle_timeout),
            ("quic_idle_timeout", self.quic_idle_timeout),
            ("http2_ping_interval", self.http2_ping_interval),
            ("http2_ping_timeout", self.http2_ping_timeout),
            ("backend_connect_timeout", self.backend_connect_timeout),
            ("backend_headers_timeout", self.backend_headers_timeout),
            ("backend_idle_timeout", self.backend_idle_timeout),
            ("backend_resolve_interval", self.backend_resolve_interval),
            ("backend_retry_delay", self.backend_retry_delay),
            ("backend_retry_delay_max", self.backend_retry_delay_max),
            ("negotiate_hold", self.negotiate_hold),
            ("websocket_ping_interval", self.websocket_ping_interval),
            ("hub_ping_interval", self.hub_ping_interval),
            ("tcp_keep_alive", self.tcp_keep_alive),
            ("poll_timeout", self.poll_timeout),
            ("send_timeout", self.send_timeout),
            ("disconnect_timeout", self.disconnect_timeout),
            ("resume_window", self.resume_window),
            ("stateful_buffer_timeout", self.stateful_buffer_timeout),
            ("close_timeout", self.close_timeout),
            ("boundary_timeout", self.boundary_timeout),
            ("credentials_memory", self.credentials_memory),
            ("shutdown_delay", self.shutdown_delay),
            ("drain_timeout", self.drain_timeout),
        ]
    }
}
