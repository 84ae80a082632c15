//! Gateways in this process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use hubgate_gateway::config::{Config, Environment};
use hubgate_gateway::{Gateway, Resolver};

use super::soon;
use super::wire::{Answer, Wire};

/// A configuration in the making; by default one route that serves everything of its servers as quick use does.
#[derive(Debug, Clone)]
pub struct Setup {
    servers: Vec<String>,
    top: String,
    listener: String,
    pool: String,
    route: String,
    more: String,
}

impl Setup {
    /// In front of servers at these addresses.
    pub fn new(servers: &[SocketAddr]) -> Self {
        Self::of_urls(servers.iter().map(|address| format!("http://{address}")).collect())
    }

    /// In front of servers with these URLs.
    pub fn of_urls(servers: Vec<String>) -> Self {
        Self {
            servers,
            top: String::new(),
            listener: String::new(),
            pool: String::new(),
            route: "hubs = \"/\"\nprotocol = \"any\"".to_owned(),
            more: String::new(),
        }
    }

    /// Settings of the whole.
    pub fn top(mut self, lines: &str) -> Self {
        self.top = lines.to_owned();
        self
    }

    /// Settings of the listener.
    pub fn listener(mut self, lines: &str) -> Self {
        self.listener = lines.to_owned();
        self
    }

    /// Settings of the pool `app`.
    pub fn pool(mut self, lines: &str) -> Self {
        self.pool = lines.to_owned();
        self
    }

    /// Further settings of the route `app`.
    pub fn route(mut self, lines: &str) -> Self {
        self.route = format!("{}\n{lines}", self.route);
        self
    }

    /// The route `app` from the ground up.
    pub fn only_route(mut self, lines: &str) -> Self {
        self.route = lines.to_owned();
        self
    }

    /// Further tables.
    pub fn more(mut self, tables: &str) -> Self {
        self.more = format!("{}\n{tables}", self.more);
        self
    }

    /// The whole text.
    pub fn text(&self) -> String {
        let Self { servers, top, listener, pool, route, more } = self;
        let admin = if more.contains("[admin]") { "" } else { "[admin]\naddress = \"off\"" };
        format!(
            "{top}\n[[listener]]\naddress = \"127.0.0.1:0\"\n{listener}\n[backend.app]\nservers = {servers:?}\n{pool}\n\
             [[route]]\nname = \"app\"\nbackend = \"app\"\n{route}\n{more}\n{admin}\n"
        )
    }

    /// The checked configuration.
    pub fn config(&self) -> Arc<Config> {
        let text = self.text();
        let config = Config::parse(&text, Path::new(""), &Environment::default());
        Arc::new(config.unwrap_or_else(|error| panic!("{error}\n{text}")))
    }

    pub async fn start(&self) -> Front {
        self.start_with(Resolver::default()).await
    }

    /// Starts with names of the test's own.
    pub async fn start_with(&self, resolver: Resolver) -> Front {
        let gateway = Gateway::start_with(self.config(), resolver).await.unwrap();
        let address = gateway.addresses().next().unwrap();
        Front { address, gateway }
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Front {
    pub address: SocketAddr,
    pub gateway: Gateway,
}

impl Front {
    /// In front of these servers, as in quick use.
    pub async fn quick(servers: &[SocketAddr]) -> Self {
        Setup::new(servers).start().await
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// Sends one request on a connection of its own: `GET /path`, then header lines after `\n`.
    pub async fn request(&self, request: &str, body: impl AsRef<[u8]>) -> Answer {
        self.connect().await.request(request, body).await
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.request(&format!("GET {target}"), "").await
    }

    pub async fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Answer {
        self.request(&format!("POST {target}"), body).await
    }

    pub async fn delete(&self, target: &str) -> Answer {
        self.request(&format!("DELETE {target}"), "").await
    }

    /// Opens an event stream; its head has been read.
    pub async fn event_stream(&self, target: &str) -> (Answer, Wire) {
        let mut wire = self.connect().await;
        wire.send(super::wire::request_bytes(&format!("GET {target}\nAccept: text/event-stream"), b"")).await;
        let answer = wire.answer_head().await;
        (answer, wire)
    }

    /// Swaps in another configuration.
    pub async fn reload(&self, setup: &Setup) {
        soon("a reload", self.gateway.reload(setup.config())).await.unwrap();
    }
}
