//! The gateway that stands between SignalR clients and hub backends.
//!
//! In reading order:
//!
//! - [`config`] — everything that can be set, checked once.
//! - `listen`, `http` — connections and requests: refuse what is ambiguous, find the route, tell hubs from all else.
//! - `negotiate`, `attach` — the hub's connection under our sealed token; transports that come with that token.
//! - `relay` — WebSocket ⇄ WebSocket, frames verbatim. `edge` — Server-Sent Events and long polling ⇄ WebSocket.
//! - `polling` — hubs without WebSockets, made to look as if they had them.
//! - `forward` — what is not SignalR's, as by a good reverse proxy.
//! - `backend`, `live` — who can be reached, with what connections; what a reload replaces.
//! - `table`, `link`, `gate` — the connections there are, the one clock of their time-outs, what all requests share.
//!
//! Rules that no protocol text decides carry an id (`er_b3_…` in tests): tokens and identity A, HTTP B, browsers C,
//! backends D, relaying E, bounds F, configuration and logs G.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod access_log;
pub mod admin;
pub mod config;
pub mod cookie;
pub mod cors;
pub mod headers;
pub mod identity;
pub mod metrics;
pub mod notify;
pub mod path;
pub mod query;
pub mod secret;
pub mod token;
mod transcoding;

mod answer;
mod attach;
mod backend;
mod body;
mod buffered;
mod descriptors;
mod edge;
mod flow;
mod forward;
mod gate;
mod http;
mod io;
mod link;
mod listen;
mod live;
mod negotiate;
mod observe;
mod outbound;
mod pace;
mod polling;
mod relay;
mod relief;
mod resolver;
mod run;
mod stateful;
mod table;
mod tls;
mod visit;
mod web_transport;

pub use self::live::BuildError;
pub use self::resolver::Resolver;
pub use self::run::{Gateway, StartError};
pub use self::tls::Error as TlsError;
