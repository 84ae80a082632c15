//! The gateway that stands between SignalR clients and hub backends

pub mod config;
pub mod cookie;
pub mod cors;
pub mod headers;
pub mod identity;
pub mod path;
pub mod query;
pub mod secret;
pub mod token;
