//! SignalR's wire protocols as plain values: no I/O, no clock, no randomness

pub mod sse;
pub mod websocket;
