//! Routes: what is served under which host and path, and how one is found.
//!
//! Why: every request asks this once. Routes stand in the order of their precision (a host before none, a longer path
//! before a shorter one, an exact hub before a prefix), so the first that matches is the right one, and a catch-all can
//! never hide another by its place in the file.
//!
//! Invariant: a path that servers may read in two ways never passes by a hub route or a refusing route (rule B1).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hubgate_protocol::HubProtocol;
use hubgate_protocol::transcode::Rules;

use super::backend::Backend;
use super::digest::Digest;
use super::raw::{Affinity, RouteProtocol, StatefulReconnect, TransportName};
use crate::path::{Ambiguity, NormalPath};

/// One route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The name in configuration, logs, metrics and error answers.
    pub name: Arc<str>,
    /// The hosts it serves; empty means all.
    pub hosts: Vec<HostPattern>,
    /// What it serves.
    pub kind: RouteKind,
    /// The path of `hub`, `hubs` or `prefix`.
    pub path: NormalPath,
    /// The pool; `None` only where [`RouteKind::Refuse`] needs none.
    pub backend: Option<Arc<Backend>>,
    /// What stands in place of `path` towards the servers, without a trailing slash (empty cuts it off).
    pub replace_prefix: Option<Box<str>>,
    /// What may be behind a connection.
    pub protocol: RouteProtocol,
    /// The transports offered to clients; empty means those of the hub.
    pub transports: Vec<TransportName>,
    /// Who keeps a connection whose WebSocket is lost (rule I1).
    pub stateful_reconnect: StatefulReconnect,
    /// What the hubs speak, where that may not be what their clients speak (rule I6).
    pub transcoding: Option<Transcoding>,
    /// Whether clients come back to their server (rule D6).
    pub affinity: Affinity,
    /// What becomes of redirects in negotiate answers (rule B7).
    pub redirects: Redirects,
    /// Whether another user on a connection is refused (rule A4).
    pub bind_identity: bool,
    /// Answers to browsers of other origins; `None` leaves them to the hub (rule C1).
    pub cors: Option<Cors>,
    /// The digest that names this route in tokens (rule A1).
    pub digest: Digest,
}

/// How hub messages are put into the hubs' protocol and back (rule I6).
#[derive(Debug, Clone, PartialEq)]
pub struct Transcoding {
    /// What the hubs speak.
    pub hub: HubProtocol,
    /// Names of members, and what bytes alone do not tell.
    pub rules: Arc<Rules>,
}

/// What a route serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// One hub path and its `/negotiate`.
    Hub,
    /// Every path beneath; hubs are recognised by their answers (rule B5).
    Hubs {
        /// Whether what is no hub's is forwarded; else 404.
        forward: bool,
    },
    /// Every path beneath, forwarded as it is.
    Forward,
    /// Nothing: 404.
    Refuse,
}

/// What becomes of redirects in negotiate answers (rule B7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirects {
    /// The client gets them.
    Pass,
    /// The gateway follows them to these origins only.
    Follow(Vec<Origin>),
}

/// A web origin as browsers write it: scheme, host in lower case, port unless it is the default one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(Box<str>);

impl Origin {
    /// Reads an origin: `https://www.example.com`, `http://localhost:3000`.
    ///
    /// # Errors
    /// A sentence that says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wanted = "must be an origin such as \"https://www.example.com\", without a path";
        let uri: http::Uri = text.parse().map_err(|_| wanted.to_owned())?;
        if uri.path() != "/" && !uri.path().is_empty() || uri.query().is_some() || text.ends_with('/') {
            return Err(wanted.to_owned());
        }
        Self::of(&uri).ok_or_else(|| wanted.to_owned())
    }

    /// The origin of an absolute `http` or `https` URL.
    pub fn of(uri: &http::Uri) -> Option<Self> {
        let (scheme, default_port) = match uri.scheme_str()? {
            "http" => ("http", 80),
            "https" => ("https", 443),
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let host = authority.host().to_ascii_lowercase();
        let port: u16 = match authority.as_str().strip_prefix(authority.host())? {
            "" => default_port,
            rest => rest.strip_prefix(':')?.parse().ok()?,
        };
        Some(Self(match port {
            port if port != default_port => format!("{scheme}://{host}:{port}").into(),
            _ => format!("{scheme}://{host}").into(),
        }))
    }

    /// The origin as a header holds it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What browsers of other origins may do on a route that answers them itself (rule C1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// The origins.
    pub origins: Vec<Origin>,
    /// The methods.
    pub methods: Vec<http::Method>,
    /// The request headers.
    pub headers: Vec<http::HeaderName>,
    /// Whether credentials are allowed.
    pub credentials: bool,
    /// How long a pre-flight may be remembered.
    pub max_age: Option<Duration>,
}

/// A host that a route serves, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name or address.
    Exact(Box<str>),
    /// Every name beneath this one (`*.example.com` is `.example.com`).
    Beneath(Box<str>),
}

impl HostPattern {
    /// Reads a name or `*.name`.
    ///
    /// # Errors
    /// A sentence that says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let (beneath, name) = lower.strip_prefix("*.").map_or((false, lower.as_str()), |name| (true, name));
        let is_v6 = name.starts_with('[') && name.ends_with(']');
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        if name.is_empty() || !(is_name || is_v6 && !beneath) {
            return Err("must be a host name without a port, or \"*.example.com\"".to_owned());
        }
        Ok(if beneath { Self::Beneath(format!(".{name}").into()) } else { Self::Exact(name.into()) })
    }

    /// Tells whether `host` (as [`host_name`] gives it) is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Beneath(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => out.write_str(name),
            Self::Beneath(suffix) => write!(out, "*{suffix}"),
        }
    }
}

/// The name in a `Host` header: lower case, without port and trailing dot.
pub fn host_name(host: &str) -> Cow<'_, str> {
    let end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let name = host.get(..end).unwrap_or(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

impl Route {
    /// Tells whether `path` is this route's.
    pub fn serves(&self, path: &NormalPath) -> bool {
        match self.kind {
            RouteKind::Hub => path.is_same_hub(&self.path) || path.negotiate_hub() == Some(self.path.hub()),
            RouteKind::Hubs { .. } | RouteKind::Forward | RouteKind::Refuse => path.is_within(&self.path),
        }
    }

    /// The path to send to the servers.
    pub fn backend_path<'a>(&self, path: &'a NormalPath) -> Cow<'a, str> {
        match &self.replace_prefix {
            Some(replacement) => path.replace_prefix(&self.path, replacement),
            None => Cow::Borrowed(path.as_str()),
        }
    }

    /// Tells whether a path with two readings is refused here (rule B1).
    ///
    /// Under `hubs` with forwarding it is not: there it is forwarded, and never taken for a hub's.
    fn refuses_ambiguity(&self) -> bool {
        matches!(self.kind, RouteKind::Hub | RouteKind::Refuse | RouteKind::Hubs { forward: false })
    }

    /// The order of precision: smaller goes first.
    fn rank(&self) -> (u8, usize, bool) {
        let host = match self.hosts.iter().all(|host| matches!(host, HostPattern::Exact(_))) {
            _ if self.hosts.is_empty() => 2,
            true => 0,
            false => 1,
        };
        (host, usize::MAX - self.path.hub().matches('/').count(), self.kind != RouteKind::Hub)
    }

    /// The digest of what makes a route this one: its name, hosts and paths (rule A1).
    pub(super) fn digest_of(name: &str, hosts: &[HostPattern], path: &NormalPath) -> Digest {
        let hosts: Vec<String> = hosts.iter().map(HostPattern::to_string).collect();
        let fields = [name.as_bytes(), path.hub().as_bytes()];
        Digest::of("hubgate route 1", fields.into_iter().chain(hosts.iter().map(String::as_bytes)))
    }
}

/// All routes, in the order in which they are tried, and by digest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routes {
    ordered: Vec<Arc<Route>>,
    by_digest: BTreeMap<Digest, Arc<Route>>,
}

impl Routes {
    /// Puts routes in order.
    pub(super) fn new(mut ordered: Vec<Arc<Route>>) -> Self {
        ordered.sort_by_key(|route| route.rank());
        let by_digest = ordered.iter().map(|route| (route.digest, Arc::clone(route))).collect();
        Self { ordered, by_digest }
    }

    /// Finds the route of a request by its `Host` (or `:authority`, empty if there is none) and path.
    ///
    /// # Errors
    /// The [`Ambiguity`] of a path that is, or by another reading would be, a hub's or a refusing route's (rule B1):
    /// answered 400.
    pub fn find(&self, host: &str, path: &NormalPath) -> Result<Option<&Arc<Route>>, Ambiguity> {
        let host = host_name(host);
        let found = self.first(&host, path);
        if let Some(ambiguity) = path.ambiguity() {
            let other = path.other_reading();
            let other = other.as_ref().and_then(|other| self.first(&host, other));
            if [found, other].into_iter().flatten().any(|route| route.refuses_ambiguity()) {
                return Err(ambiguity);
            }
        }
        Ok(found)
    }

    /// The route that a token names.
    pub fn by_digest(&self, digest: Digest) -> Option<&Arc<Route>> {
        self.by_digest.get(&digest)
    }

    /// All routes in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.ordered.iter()
    }

    fn first(&self, host: &str, path: &NormalPath) -> Option<&Arc<Route>> {
        self.ordered.iter().find(|route| {
            (route.hosts.is_empty() || route.hosts.iter().any(|pattern| pattern.matches(host))) && route.serves(path)
        })
    }
}
