//! The gateway that stands between SignalR clients and hub backends

pub mod config;
pub mod path;
pub mod query;
pub mod secret;
pub mod token;
