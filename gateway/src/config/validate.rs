//! From settings to a configuration that can be run.
//!
//! Why: parse, don't validate. Behind this module nobody asks again whether a route has a backend or a key is long
//! enough. All problems are found in one go.
//!
//! Invariant: a [`Config`](super::Config) exists only if no problem was found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hubgate_protocol::HubProtocol;
use hubgate_protocol::transcode::{self, Hints, Rules};

use super::backend::{Backend, Scheme, Server, ServerHost, Verification};
use super::codec::{duration_text, size_text};
use super::error::Problem;
use super::raw::{
    BackendProtocol, Limits, PropertyNames, RawBackend, RawCertificate, RawConfig, RawCors, RawListener, RawRoute,
    RawToken, RawWebTransport, RedirectMode, RouteProtocol, StatefulReconnect, Timeouts, TransportName,
};
use super::route::{Cors, HostPattern, Origin, Redirects, Route, RouteKind, Routes, Transcoding};
use super::{Admin, CertificateFiles, Config, Listener, WebTransport};
use crate::path::NormalPath;
use crate::secret::Secret;

/// The least bytes of a token key (rule A1).
const KEY_BYTES_MIN: usize = 32;

/// Makes a configuration of settings; `directory` is where relative file names start.
pub(super) fn validate(raw: RawConfig, directory: &Path, mut problems: Vec<Problem>) -> Result<Config, Vec<Problem>> {
    let mut check = Check { directory, problems: &mut problems, warnings: Vec::new() };
    let listeners = check.listeners(raw.listener);
    let backends = check.backends(raw.backend);
    let routes = check.routes(raw.route, &backends);
    let token_keys = check.token(raw.token);
    check.limits(&raw.limits);
    check.timeouts(&raw.timeouts);
    let admin =
        raw.admin.address.map(|address| Admin { address, ready_needs_backends: raw.admin.ready_needs_backends });
    if let Some(admin) = &admin {
        check.admin(admin, &listeners);
    }
    let warnings = check.warnings;
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Config {
        threads: raw.threads,
        trusted_proxies: raw.trusted_proxies.into(),
        source_addresses: raw.source_addresses.into(),
        listeners,
        backends,
        routes,
        token_keys,
        limits: raw.limits,
        timeouts: raw.timeouts,
        log: raw.log,
        admin,
        warnings,
    })
}

/// Collects what is wrong.
struct Check<'a> {
    directory: &'a Path,
    problems: &'a mut Vec<Problem>,
    warnings: Vec<String>,
}

impl Check<'_> {
    fn wrong(&mut self, setting: impl Into<String>, value: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem::new(setting, value, fix));
    }

    fn missing(&mut self, setting: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem::without_value(setting, fix));
    }

    /// Keeps a good value, notes a bad one.
    fn keep<T>(&mut self, setting: &str, value: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|fix| self.wrong(setting, format!("{value:?}"), fix)).ok()
    }

    fn file(&self, path: PathBuf) -> PathBuf {
        self.directory.join(path)
    }

    fn listeners(&mut self, raw: Vec<RawListener>) -> Vec<Arc<Listener>> {
        let mut listeners: Vec<Arc<Listener>> = Vec::new();
        if raw.is_empty() {
            self.missing("listener", "add a [[listener]] with an address");
        }
        for (number, raw) in raw.into_iter().enumerate() {
            let setting = format!("listener {}", number + 1);
            let Some(address) = raw.address else {
                self.missing(format!("{setting}: address"), "write an address such as \"127.0.0.1:8080\"");
                continue;
            };
            if address.port() != 0 && listeners.iter().any(|other| other.address == address) {
                self.wrong(format!("{setting}: address"), address.to_string(), "is used twice");
            }
            let has_tls = raw.tls.is_some();
            let certificates =
                self.certificates(&format!("{setting}: tls"), raw.tls.map(|tls| tls.certificates).unwrap_or_default());
            if has_tls && certificates.is_empty() {
                self.missing(format!("{setting}: tls"), "needs certificates");
            }
            let web_transport = raw.web_transport.map(|raw| {
                let setting = format!("{setting}: web_transport");
                self.web_transport(&setting, raw, &certificates)
            });
            listeners.push(Arc::new(Listener { address, http2: raw.http2, certificates, web_transport }));
        }
        self.udp_addresses(&listeners);
        listeners
    }

    fn certificates(&mut self, setting: &str, raw: Vec<RawCertificate>) -> Vec<CertificateFiles> {
        let mut certificates = Vec::new();
        for raw in raw {
            match (raw.certificate_file, raw.key_file) {
                (Some(certificate), Some(key)) => certificates
                    .push(CertificateFiles { certificate_file: self.file(certificate), key_file: self.file(key) }),
                _ => self.missing(setting, "needs both certificate_file and key_file"),
            }
        }
        certificates
    }

    fn web_transport(&mut self, setting: &str, raw: RawWebTransport, listeners: &[CertificateFiles]) -> WebTransport {
        let own = self.certificates(setting, raw.certificates);
        let certificates = if own.is_empty() { listeners.to_vec() } else { own };
        if certificates.is_empty() {
            self.missing(
                setting,
                "needs certificates: QUIC is always encrypted; give it some, or `tls` to the listener",
            );
        }
        let public_port = u16::try_from(raw.public_port).map_err(|_| {
            self.wrong(format!("{setting}: public_port"), raw.public_port.to_string(), "must be at most 65535");
        });
        let public_port = public_port.ok().filter(|port| *port != 0);
        WebTransport { address: raw.address, public_port, certificates }
    }

    fn udp_addresses(&mut self, listeners: &[Arc<Listener>]) {
        let mut seen = Vec::new();
        for (number, listener) in listeners.iter().enumerate() {
            let Some(web_transport) = &listener.web_transport else { continue };
            let address = web_transport.address.unwrap_or(listener.address);
            if address.port() != 0 && seen.contains(&address) {
                self.wrong(
                    format!("listener {}: web_transport: address", number + 1),
                    address.to_string(),
                    "is used twice",
                );
            }
            seen.push(address);
        }
    }

    fn backends(&mut self, raw: BTreeMap<String, RawBackend>) -> BTreeMap<Arc<str>, Arc<Backend>> {
        let mut backends = BTreeMap::new();
        for (name, raw) in raw {
            let setting = format!("backend.{name}");
            self.name(&setting, &name);
            let mut servers: Vec<Arc<Server>> = Vec::new();
            for text in &raw.servers {
                let server = self.keep(&format!("{setting}.servers"), text, Server::parse(text));
                match server {
                    Some(server) if servers.iter().any(|other| **other == server) => {
                        self.wrong(format!("{setting}.servers"), format!("{text:?}"), "is there twice");
                    }
                    Some(server) => servers.push(Arc::new(server)),
                    None => {}
                }
            }
            if raw.servers.is_empty() {
                self.missing(
                    format!("{setting}.servers"),
                    "name at least one server such as \"http://127.0.0.1:5000\"",
                );
            }
            if raw.insecure_skip_verify {
                let verified = servers.iter().any(|server| server.scheme == Scheme::Https);
                let why = if verified { "anyone between can read and change everything" } else { "has no effect" };
                self.warnings.push(format!("{setting}.insecure_skip_verify is on: {why}"));
            }
            let verification = Verification {
                ca_file: raw.ca_file.map(|file| self.file(file)),
                server_name: raw.server_name,
                insecure_skip_verify: raw.insecure_skip_verify,
            };
            let name: Arc<str> = name.into();
            let backend = Backend { name: Arc::clone(&name), servers, host: raw.host, verification };
            backends.insert(name, Arc::new(backend));
        }
        backends
    }

    fn routes(&mut self, raw: Vec<RawRoute>, backends: &BTreeMap<Arc<str>, Arc<Backend>>) -> Routes {
        let mut routes: Vec<Arc<Route>> = Vec::new();
        if raw.is_empty() {
            self.missing("route", "add a [[route]] with a name, a path and a backend");
        }
        for (number, raw) in raw.into_iter().enumerate() {
            let Some(route) = self.route(number, raw, backends) else { continue };
            let setting = format!("route {:?}", route.name);
            if routes.iter().any(|other| other.name == route.name) {
                self.missing(format!("{setting}: name"), "is used twice");
            }
            let same = |other: &&Arc<Route>| {
                other.hosts == route.hosts
                    && other.path.is_same_hub(&route.path)
                    && (other.kind == RouteKind::Hub) == (route.kind == RouteKind::Hub)
            };
            if let Some(other) = routes.iter().find(same) {
                let text = format!("serves the same host and path as route {:?}", other.name);
                self.missing(setting, text);
            }
            routes.push(Arc::new(route));
        }
        Routes::new(routes)
    }

    fn route(&mut self, number: usize, raw: RawRoute, backends: &BTreeMap<Arc<str>, Arc<Backend>>) -> Option<Route> {
        let Some(name) = raw.name.clone() else {
            self.missing(format!("route {}: name", number + 1), "give it a name for logs and metrics");
            return None;
        };
        let setting = format!("route {name:?}");
        self.name(&setting, &name);
        let (kind, text) = self.kind(&setting, &raw)?;
        let path = self.keep(&format!("{setting}: path"), text, route_path(text, kind))?;
        let backend = match &raw.backend {
            Some(name) => match backends.get(name.as_str()) {
                Some(backend) => Some(Arc::clone(backend)),
                None => {
                    let names: Vec<&str> = backends.keys().map(|name| &**name).collect();
                    let fix = match super::codec::nearest(name, &names) {
                        Some(near) => format!("there is no such pool: did you mean {near:?}?"),
                        None => format!("there is no such pool: add [backend.{name}]"),
                    };
                    self.wrong(format!("{setting}: backend"), format!("{name:?}"), fix);
                    return None;
                }
            },
            None if kind == RouteKind::Refuse => None,
            None => {
                self.missing(format!("{setting}: backend"), "name the pool that serves it");
                return None;
            }
        };
        let mut hosts = Vec::new();
        for text in &raw.host {
            hosts.extend(self.keep(&format!("{setting}: host"), text, HostPattern::parse(text)));
        }
        let replace_prefix = raw.replace_prefix.as_deref().and_then(|text| {
            let parsed = route_path(text, RouteKind::Forward);
            self.keep(&format!("{setting}: replace_prefix"), text, parsed)
        });
        let transcoding = self.transcoding(&setting, &raw);
        let (redirects, cors) = (self.redirects(&setting, &raw), self.cors(&setting, raw.cors));
        self.transports(&setting, &raw.transports);
        let digest = Route::digest_of(&name, &hosts, &path);
        Some(Route {
            name: name.into(),
            hosts,
            kind,
            path,
            backend,
            replace_prefix: replace_prefix.map(|path| path.as_str().trim_end_matches('/').into()),
            protocol: raw.protocol,
            transports: raw.transports,
            stateful_reconnect: raw.stateful_reconnect,
            transcoding,
            affinity: raw.affinity,
            redirects,
            bind_identity: raw.bind_identity,
            cors,
            digest,
        })
    }

    fn kind<'r>(&mut self, setting: &str, raw: &'r RawRoute) -> Option<(RouteKind, &'r str)> {
        let found = match (&raw.hub, &raw.hubs, &raw.prefix) {
            (Some(path), None, None) => (RouteKind::Hub, path),
            (None, Some(path), None) => (RouteKind::Hubs { forward: raw.forward }, path),
            (None, None, Some(path)) if raw.refuse => (RouteKind::Refuse, path),
            (None, None, Some(path)) => (RouteKind::Forward, path),
            _ => {
                self.missing(setting, "write exactly one of `hub`, `hubs` and `prefix`");
                return None;
            }
        };
        if !raw.forward && !matches!(found.0, RouteKind::Hubs { .. }) {
            self.wrong(format!("{setting}: forward"), "false", "belongs to a route with `hubs`");
        }
        if raw.refuse && found.0 != RouteKind::Refuse {
            self.wrong(format!("{setting}: refuse"), "true", "belongs to a route with `prefix`");
        }
        if raw.refuse && raw.backend.is_some() {
            self.wrong(format!("{setting}: refuse"), "true", "needs no `backend`: remove one of the two");
        }
        if raw.protocol == RouteProtocol::Any && !matches!(found.0, RouteKind::Hub | RouteKind::Hubs { .. }) {
            self.wrong(format!("{setting}: protocol"), "\"any\"", "belongs to a route with `hub` or `hubs`");
        }
        Some((found.0, found.1))
    }

    fn transcoding(&mut self, setting: &str, raw: &RawRoute) -> Option<Transcoding> {
        let mut hints = Hints::default();
        for raw in &raw.hints {
            let Some(target) = &raw.target else {
                self.missing(format!("{setting}: hints"), "name the target that they are for");
                continue;
            };
            for (path, hint) in &raw.values {
                if let Err(error) = hints.add(target, path, hint) {
                    self.wrong(format!("{setting}: hints"), format!("{path:?} = {hint:?}"), error.to_string());
                }
            }
        }
        let property_names = match raw.property_names {
            PropertyNames::Keep => transcode::PropertyNames::Keep,
            PropertyNames::CamelToPascal => {
                transcode::PropertyNames::CamelToPascal(raw.declared_names.iter().cloned().collect())
            }
        };
        if raw.property_names == PropertyNames::Keep && !raw.declared_names.is_empty() {
            self.warnings.push(format!("{setting}: declared_names have no effect without property_names"));
        }
        let rules = Rules { property_names, hints };
        let hub = match raw.backend_protocol {
            BackendProtocol::Client => {
                if rules != Rules::default() {
                    self.warnings.push(format!("{setting}: names and hints have no effect without backend_protocol"));
                }
                return None;
            }
            BackendProtocol::Json => HubProtocol::Json,
            BackendProtocol::MessagePack => HubProtocol::MessagePack,
        };
        if raw.stateful_reconnect == StatefulReconnect::Backend {
            // A client that comes back says no handshake, which would tell its protocol.
            let fix = "must be \"edge\" or \"off\" where backend_protocol is set";
            self.wrong(format!("{setting}: stateful_reconnect"), "\"backend\"", fix);
        }
        Some(Transcoding { hub, rules: Arc::new(rules) })
    }

    fn transports(&mut self, setting: &str, transports: &[TransportName]) {
        let mut seen = Vec::new();
        for transport in transports {
            if seen.contains(transport) {
                self.wrong(format!("{setting}: transports"), format!("{:?}", transport.as_str()), "is there twice");
            }
            seen.push(*transport);
        }
    }

    fn redirects(&mut self, setting: &str, raw: &RawRoute) -> Redirects {
        let mut origins = Vec::new();
        for text in &raw.redirect_origins {
            origins.extend(self.keep(&format!("{setting}: redirect_origins"), text, Origin::parse(text)));
        }
        match (raw.redirects, raw.redirect_origins.is_empty()) {
            (RedirectMode::Follow, true) => {
                self.missing(format!("{setting}: redirect_origins"), "name the origins that may be followed to");
            }
            (RedirectMode::Pass, false) => {
                self.wrong(
                    format!("{setting}: redirects"),
                    "\"pass\"",
                    "must be \"follow\" where there are redirect_origins",
                );
            }
            _ => {}
        }
        if raw.redirects == RedirectMode::Follow { Redirects::Follow(origins) } else { Redirects::Pass }
    }

    fn cors(&mut self, setting: &str, raw: Option<RawCors>) -> Option<Cors> {
        let raw = raw?;
        if raw.origins.is_empty() {
            self.missing(format!("{setting}: cors.origins"), "name the origins that browsers come from");
        }
        let mut cors = Cors {
            origins: vec![],
            methods: vec![],
            headers: vec![],
            credentials: raw.credentials,
            max_age: raw.max_age,
        };
        for text in &raw.origins {
            cors.origins.extend(self.keep(&format!("{setting}: cors.origins"), text, Origin::parse(text)));
        }
        for text in &raw.methods {
            let method = http::Method::from_bytes(text.as_bytes()).map_err(|_| "must be an HTTP method".to_owned());
            cors.methods.extend(self.keep(&format!("{setting}: cors.methods"), text, method));
        }
        for text in &raw.headers {
            let name = http::HeaderName::from_bytes(text.as_bytes()).map_err(|_| "must be a header name".to_owned());
            cors.headers.extend(self.keep(&format!("{setting}: cors.headers"), text, name));
        }
        Some(cors)
    }

    fn token(&mut self, raw: RawToken) -> Vec<Secret> {
        let from_file = raw.keys_file.is_some();
        if from_file && !raw.keys.is_empty() {
            self.missing("token.keys", "is set beside token.keys_file: keep one of the two");
        }
        let mut keys = raw.keys;
        if let Some(file) = raw.keys_file.map(|file| self.file(file)) {
            match std::fs::read_to_string(&file) {
                Ok(text) => keys = key_lines(&text),
                Err(error) => {
                    self.wrong("token.keys_file", file.display().to_string(), format!("cannot be read: {error}"))
                }
            }
            if keys.is_empty() {
                self.wrong("token.keys_file", file.display().to_string(), "must hold at least one key");
            }
        }
        if keys.iter().any(|key| key.expose().len() < KEY_BYTES_MIN) {
            let name = if from_file { "token.keys_file" } else { "token.keys" };
            self.missing(name, format!("each key must have at least {KEY_BYTES_MIN} bytes (openssl rand -base64 32)"));
        }
        keys
    }

    fn limits(&mut self, limits: &Limits) {
        let floors = [
            ("connections_max", limits.connections_max, 1),
            ("unattached_tokens_max", limits.unattached_tokens_max, 1),
            ("headers_max", limits.headers_max, 16),
            ("http2_streams_max", limits.http2_streams_max, 1),
            ("tls_handshakes_max", limits.tls_handshakes_max, 1),
            ("quic_handshakes_max", limits.quic_handshakes_max, 1),
            ("cors_answers_max", limits.cors_answers_max, 1),
            ("resumes_per_second_max", limits.resumes_per_second_max, 1),
        ];
        for (name, value, least) in floors {
            if value < least {
                self.wrong(format!("limits.{name}"), value.to_string(), format!("must be at least {least}"));
            }
        }
        let sizes = [
            ("buffered_bytes_max", limits.buffered_bytes_max, 1 << 20),
            ("waiting_bytes_max", limits.waiting_bytes_max, 1 << 10),
            ("stateful_buffer_bytes_max", limits.stateful_buffer_bytes_max, 1 << 10),
            ("client_message_bytes_max", limits.client_message_bytes_max, 1 << 10),
            ("hub_message_bytes_max", limits.hub_message_bytes_max, 1 << 10),
            ("post_bytes_max", limits.post_bytes_max, 1 << 10),
            ("negotiate_bytes_max", limits.negotiate_bytes_max, 1 << 10),
            ("header_bytes_max", limits.header_bytes_max, 8 << 10),
            ("quic_send_bytes_max", limits.quic_send_bytes_max, 16 << 10),
            ("quic_receive_bytes_max", limits.quic_receive_bytes_max, 16 << 10),
            ("udp_receive_buffer_bytes", limits.udp_receive_buffer_bytes, 64 << 10),
        ];
        for (name, value, least) in sizes {
            if value < least {
                let fix = format!("must be at least {}", size_text(least));
                self.wrong(format!("limits.{name}"), size_text(value), fix);
            }
        }
        if limits.buffered_bytes_max < limits.hub_message_bytes_max {
            let fix = "must be at least limits.hub_message_bytes_max, or no such message could be held";
            self.wrong("limits.buffered_bytes_max", size_text(limits.buffered_bytes_max), fix);
        }
    }

    fn timeouts(&mut self, timeouts: &Timeouts) {
        let may_be_zero = [
            "shutdown_delay",
            "negotiate_hold",
            "body_grace",
            "drain_timeout",
            "credentials_memory",
            "boundary_timeout",
        ];
        for (name, value) in timeouts.durations() {
            if value.is_zero() && !may_be_zero.contains(&name) {
                self.wrong(format!("timeouts.{name}"), "0 s", "must be longer than nothing");
            }
        }
        let day = Duration::from_secs(86_400);
        for (name, value) in timeouts.durations() {
            if value > day {
                self.wrong(format!("timeouts.{name}"), duration_text(value), "must be at most 24 h");
            }
        }
        if timeouts.backend_retry_delay > timeouts.backend_retry_delay_max {
            let fix = "must not be longer than timeouts.backend_retry_delay_max";
            self.wrong("timeouts.backend_retry_delay", duration_text(timeouts.backend_retry_delay), fix);
        }
        if timeouts.quic_idle_timeout < Duration::from_secs(1) {
            let fix = "must be at least 1 s";
            self.wrong("timeouts.quic_idle_timeout", duration_text(timeouts.quic_idle_timeout), fix);
        }
        if timeouts.credentials_memory > Duration::from_secs(60) {
            let fix = "must be at most 60 s";
            self.wrong("timeouts.credentials_memory", duration_text(timeouts.credentials_memory), fix);
        }
        if timeouts.backend_idle_timeout >= Duration::from_secs(130) {
            let text = "timeouts.backend_idle_timeout is not shorter than Kestrel's 130 s: requests may meet closing connections";
            self.warnings.push(text.to_owned());
        }
    }

    fn admin(&mut self, admin: &Admin, listeners: &[Arc<Listener>]) {
        let public = |listener: &Arc<Listener>| {
            let (ours, theirs) = (admin.address, listener.address);
            let same_ip = ours.ip() == theirs.ip() || ours.ip().is_unspecified() || theirs.ip().is_unspecified();
            ours.port() != 0 && ours.port() == theirs.port() && same_ip
        };
        if listeners.iter().any(public) {
            self.wrong("admin.address", admin.address.to_string(), "must not be a listener's: take another port");
        }
        if !admin.address.ip().is_loopback() {
            let text = format!("admin.address {} can be reached from outside: see that clients cannot", admin.address);
            self.warnings.push(text);
        }
    }

    fn name(&mut self, setting: &str, name: &str) {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            self.missing(setting, "its name must be 1 to 64 letters, digits, `-`, `_` or `.`");
        }
    }
}

/// The keys of a key file: one per line, empty lines and comments left out.
fn key_lines(text: &str) -> Vec<Secret> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(Secret::new).collect()
}

/// A path as a route may name it: written plainly, without anything that could be read in two ways.
fn route_path(text: &str, kind: RouteKind) -> Result<NormalPath, String> {
    let path =
        NormalPath::parse(text).map_err(|error| format!("{error}: write it as in \"/chat\", other letters escaped"))?;
    if let Some(ambiguity) = path.ambiguity() {
        return Err(format!("{ambiguity}: write it plainly"));
    }
    if text.contains(['?', '#', '*', '{']) {
        return Err("must be a plain path without query or patterns".to_owned());
    }
    if kind == RouteKind::Hub && path.negotiate_hub().is_some() {
        return Err("must be the hub's own path, without /negotiate".to_owned());
    }
    Ok(path)
}

impl Server {
    /// Tells whether this server needs a resolver.
    pub fn is_named(&self) -> bool {
        matches!(self.host, ServerHost::Name(_))
    }
}
