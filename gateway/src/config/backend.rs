//! Pools of hub servers, as configured.
//!
//! Why: the I/O side resolves names and keeps connections; what it may connect to and how is decided here once.
//!
//! Invariant: nothing that a client sends changes the address connected to (rule B2); a [`Server`] holds all of it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::digest::Digest;
use super::raw::HostHeader;

/// A named pool of servers that serve the same hubs.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// The name in configuration, logs and metrics.
    pub name: Arc<str>,
    /// At least one server.
    pub servers: Vec<Arc<Server>>,
    /// The `Host` that the servers see (rule B3).
    pub host: HostHeader,
    /// How `https` servers are verified (rule D7).
    pub verification: Verification,
}

/// How the certificates of `https` servers are verified (rule D7).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verification {
    /// A PEM file of authorities instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The name that certificates must have, instead of the server's.
    pub server_name: Option<String>,
    /// Accepts every certificate; warned about at start.
    pub insecure_skip_verify: bool,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In clear text.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme as URLs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A server's host: an address, or a name that is resolved anew now and then (rule D1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerHost {
    /// An IP address.
    Address(IpAddr),
    /// A DNS name in lower case.
    Name(Box<str>),
}

/// One configured server; a name may stand for several addresses, each a backend of its own (rule D1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Where it is.
    pub host: ServerHost,
    /// Its port.
    pub port: u16,
}

impl Server {
    /// Reads an origin: `http://127.0.0.1:5000`, `https://hubs.internal`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wanted = "must be an origin such as \"http://127.0.0.1:5000\" or \"https://hubs.internal\"";
        let uri: http::Uri = text.parse().map_err(|_| wanted.to_owned())?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(wanted.to_owned()),
        };
        if uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return Err("must have no path or query: a path belongs to the route (`replace_prefix`)".to_owned());
        }
        let authority = uri.authority().ok_or(wanted)?;
        if authority.as_str().contains('@') {
            return Err("must hold no user name or password".to_owned());
        }
        let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
        let host = match bare.parse::<IpAddr>() {
            Ok(address) => ServerHost::Address(address),
            Err(_) if bare.is_empty() => return Err(wanted.to_owned()),
            Err(_) => ServerHost::Name(bare.to_ascii_lowercase().into()),
        };
        let default_port = if scheme == Scheme::Http { 80 } else { 443 };
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => default_port,
            Some(rest) => {
                rest.strip_prefix(':').and_then(|port| port.parse().ok()).filter(|port| *port != 0).ok_or(wanted)?
            }
            None => return Err(wanted.to_owned()),
        };
        Ok(Self { scheme, host, port })
    }

    /// The name to verify and to ask for by SNI.
    pub fn host_text(&self) -> String {
        match &self.host {
            ServerHost::Address(address) => address.to_string(),
            ServerHost::Name(name) => name.to_string(),
        }
    }

    /// The `Host` header that names this server (`host = "backend"`): without a default port.
    pub fn authority(&self) -> String {
        let host = match &self.host {
            ServerHost::Address(IpAddr::V6(address)) => format!("[{address}]"),
            ServerHost::Address(IpAddr::V4(address)) => address.to_string(),
            ServerHost::Name(name) => name.to_string(),
        };
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// The digest that names this server at one of its addresses in tokens and cookies (rules A1, D1, D6).
    pub fn digest(&self, address: SocketAddr) -> Digest {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port()).to_string();
        let host = self.host_text();
        let fields = [self.scheme.as_str().as_bytes(), host.as_bytes(), address.as_bytes()];
        Digest::of("hubgate backend 1", fields)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_origins() {
        for (text, shown, port) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000", 5000),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5000", 5000),
            ("https://Hubs.Internal", "https://hubs.internal", 443),
            ("http://[::1]:80", "http://[::1]", 80),
            ("https://[::1]:5001", "https://[::1]:5001", 5001),
        ] {
            let server = Server::parse(text).expect(text);
            assert_eq!((server.to_string().as_str(), server.port), (shown, port), "{text}");
        }
        for wrong in [
            "127.0.0.1:5000",
            "ftp://x",
            "http://",
            "http://x/path",
            "http://x?y",
            "http://u:p@x",
            "http://x:0",
            "http://x:99999",
            "/x",
            "",
        ] {
            assert!(Server::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn er_a1_the_digest_names_the_address() {
        let server = Server::parse("http://hubs.internal:80").expect("an origin");
        let [one, two, mapped] =
            ["10.0.0.1:80", "10.0.0.2:80", "[::ffff:10.0.0.1]:80"].map(|text| server.digest(text.parse().expect(text)));
        assert_ne!(one, two);
        assert_eq!(one, mapped);
        let other = Server::parse("http://other.internal:80").expect("an origin");
        assert_ne!(one, other.digest("10.0.0.1:80".parse().expect("an address")));
    }
}
