//! Cases that decide whether a SignalR server speaks the protocol.
//!
//! In reading order: [`wire`] talks to a server and shows every byte; [`target`] is the server under test;
//! [`link`] is a hub connection over any transport; [`cases`] are the rows of the case list, each an async function;
//! [`runner`] runs them; [`map`] ties every id of the list to a case or to a reason; [`servers`] starts the ASP.NET
//! Core application and the gateway.
//!
//! Invariant: the crate never uses `hubgate-protocol`. What it expects is written down here from the digest and from
//! recordings of the reference, so an error in the gateway's codecs cannot hide.

pub mod cases;
pub mod expected;
pub mod failure;
pub mod jwt;
pub mod link;
pub mod map;
pub mod runner;
pub mod servers;
pub mod target;
pub mod wire;
