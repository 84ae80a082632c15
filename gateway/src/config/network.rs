//! IP networks, as in `trusted_proxies`.
//!
//! Why own code: it is two dozen lines, and a v4 address that arrives on a v6 socket (`::ffff:10.0.0.1`) must count as
//! the v4 address it is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An IP network in CIDR form; a bare address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl Network {
    /// Tells whether `address` lies in this network; v4 addresses mapped into v6 count as v4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                shifted(network.to_bits().into(), 32 - self.prefix_bits)
                    == shifted(address.to_bits().into(), 32 - self.prefix_bits)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                shifted(network.to_bits(), 128 - self.prefix_bits) == shifted(address.to_bits(), 128 - self.prefix_bits)
            }
            _ => false,
        }
    }
}

fn shifted(bits: u128, by: u32) -> u128 {
    bits.checked_shr(by).unwrap_or(0)
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("`{text}` must be an IP address or network (as in \"10.0.0.0/8\")");
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse::<IpAddr>().map_err(|_| wanted())?.to_canonical();
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = bits.map_or(Ok(whole), str::parse).map_err(|_| wanted())?;
        if prefix_bits > whole { Err(wanted()) } else { Ok(Self { address, prefix_bits }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_by_prefix() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "::1", true),
        ] {
            let parsed: Network = network.parse().expect(network);
            assert_eq!(parsed.contains(address.parse().expect(address)), inside, "{network} {address}");
        }
        for wrong in ["10.0.0.0/33", "x", "10.0.0.0/", "", "::/129", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
