//! A SignalR client over WebTransport, WebSockets, Server-Sent Events and long polling; JSON and MessagePack; automatic
//! reconnect.
//!
//! ```no_run
//! # async fn example() -> Result<(), hubgate_client::ClientError> {
//! use hubgate_client::{HubConnection, HubProtocol};
//!
//! let connection = HubConnection::builder("http://127.0.0.1:5000/contract")
//!     .protocol(HubProtocol::MessagePack)
//!     .automatic_reconnect()
//!     .build()?;
//! connection.on("Message", |(text,): (String,)| println!("{text}"));
//! connection.start().await?;
//! let sum: i32 = connection.invoke("Add", (2, 3)).await?;
//! let mut counted = connection.stream::<i32>("Counter", (10,)).await?;
//! while let Some(item) = counted.next().await {
//!     println!("{}", item? + sum);
//! }
//! connection.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! **WebTransport** is what no ASP.NET Core server has and a gateway may offer. It is used where it is allowed and offered:
//!
//! ```no_run
//! # fn example() -> Result<(), hubgate_client::ClientError> {
//! use hubgate_client::{HubConnection, Transport};
//!
//! let connection = HubConnection::builder("https://hubs.example/contract")
//!     .transports(&[Transport::WebTransport, Transport::WebSockets])
//!     .automatic_reconnect()
//!     .build()?;
//! # Ok(())
//! # }
//! ```
//!
//! The crates below it, `web_transport_quinn` and `web_transport_proto`, write requests with their tokens to their log at debug
//! level. This crate silences them while it connects; a program should not enable these two targets all the same.
//!
//! In reading order: [`HubConnection`] and its [`HubConnectionBuilder`] — what an application uses; `connect` — negotiate, choice of
//! transport, handshake; `task` — what runs while connected; `transport` — the four transports behind one shape: bytes in, bytes out;
//! [`Misbehave`] — doing what no client should, for tests of servers.
//!
//! Invariants: one task drives a connection (uploads and HTTP sockets aside); every queue has a limit, and a stream that is not read
//! holds up the reading of its connection instead of growing.

mod builder;
mod call;
mod connect;
mod connection;
mod error;
mod handlers;
mod http_client;
mod io;
mod misbehave;
mod payload;
mod reconnect;
mod task;
mod transport;

pub use builder::HubConnectionBuilder;
pub use call::{Call, ItemStream};
pub use connection::{HubConnection, HubConnectionState};
pub use error::ClientError;
pub use hubgate_protocol::{HubProtocol, Transport};
pub use misbehave::{Frame, Misbehave};
pub use reconnect::RetryContext;
