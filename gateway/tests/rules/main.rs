//! The edge rules, each by tests whose names begin with its id.
//!
//! Clients and backends are raw bytes of [`support`]; the embedded hub of `hubgate-fixtures` stands where a real hub matters.
//! What a rule says about one function alone is tested beside that function.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(missing_docs, reason = "names of tests say what they are")]

#[path = "../support/support.rs"]
mod support;

mod backends;
mod configuration;
mod http2;
mod hub_recognition;
mod identity;
mod limits;
mod origins;
mod polled_hubs;
mod polls;
mod redirects;
mod relaying;
mod requests;
mod stateful;
mod stopping;
mod tokens;
mod transcoding;
mod web_transport;
