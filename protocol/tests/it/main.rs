//! Tests of the protocol core through its public interface: golden vectors, the reference's error texts, recorded
//! traffic, and properties over random streams.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod errors;
mod garbage;
mod golden;
mod handshake;
mod long_polling;
mod negotiate;
mod recorded;
mod session;
mod splits;
mod stateful;
mod strategy;
mod transcode;
mod values;

/// Bytes out of hexadecimal digits.
fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().map(|digit| digit.to_digit(16).expect("a hexadecimal digit")).collect();
    assert!(digits.len().is_multiple_of(2), "odd number of digits");
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}
