//! The reader and writer of the `messagepack` protocol.
#![no_main]

#[path = "hub_message.rs"]
mod hub_message;

use hubgate_protocol::HubProtocol;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| hub_message::check(HubProtocol::MessagePack, data));
