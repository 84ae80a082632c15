//! What a negotiate answer says of WebTransport: the UDP port, and the certificate where no authority vouches for it.
//!
//! No SignalR server says this; the names are those of the browsers' WebTransport options, so that a page hands the
//! hashes on as they are (rule H2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;

use super::{AvailableTransport, UnknownField};
use crate::transport::Transport;

/// The most certificate hashes that are read.
pub const CERTIFICATE_HASHES_MAX: usize = 8;

const PORT: &str = "port";
const HASHES: &str = "serverCertificateHashes";
const SHA_256: &str = "sha-256";

/// Where and how a WebTransport session can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebTransportOffer {
    /// The UDP port, at the host of the negotiate.
    pub port: u16,
    /// SHA-256 of the certificates to be accepted, whoever issued them; none where the usual authorities vouch.
    pub certificate_hashes: Vec<[u8; 32]>,
}

#[derive(Serialize, Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

impl WebTransportOffer {
    /// As an entry of `availableTransports`.
    #[must_use]
    pub fn to_available(&self) -> AvailableTransport {
        let mut available = AvailableTransport::of(Transport::WebTransport);
        let hashes: Vec<Hash> = self
            .certificate_hashes
            .iter()
            .map(|hash| Hash { algorithm: SHA_256.to_owned(), value: STANDARD.encode(hash) })
            .collect();
        let mut put = |name: &str, value: serde_json::Result<_>| {
            if let Ok(value) = value {
                available.unknown.push(UnknownField { name: name.to_owned(), value });
            }
        };
        put(PORT, to_raw_value(&self.port));
        if !hashes.is_empty() {
            put(HASHES, to_raw_value(&hashes));
        }
        available
    }

    /// Reads an entry of `availableTransports`; `None` for another transport, or one without a port. Hashes of algorithms
    /// that we do not know are left out, as browsers do.
    #[must_use]
    pub fn from_available(available: &AvailableTransport) -> Option<Self> {
        if !available.is(Transport::WebTransport) {
            return None;
        }
        let field = |name: &str| available.unknown.iter().rev().find(|field| field.name == name);
        let port = serde_json::from_str(field(PORT)?.value.get()).ok().filter(|port| *port != 0)?;
        let hashes: Vec<Hash> = match field(HASHES) {
            Some(field) => serde_json::from_str(field.value.get()).ok()?,
            None => Vec::new(),
        };
        let certificate_hashes = hashes
            .iter()
            .filter(|hash| hash.algorithm.eq_ignore_ascii_case(SHA_256))
            .filter_map(|hash| STANDARD.decode(&hash.value).ok()?.try_into().ok())
            .take(CERTIFICATE_HASHES_MAX)
            .collect();
        Some(Self { port, certificate_hashes })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NegotiateResponse, NegotiatedConnection};
    use super::*;

    fn through_an_answer(offer: &WebTransportOffer) -> (String, Option<WebTransportOffer>) {
        let connection = NegotiatedConnection {
            negotiate_version: 1,
            connection_id: "c".to_owned(),
            connection_token: Some(crate::Secret::new("t")),
            available_transports: vec![offer.to_available(), AvailableTransport::of(Transport::WebSockets)],
            ..NegotiatedConnection::default()
        };
        let json = NegotiateResponse::Connection(connection).to_json();
        let NegotiateResponse::Connection(read) = NegotiateResponse::from_json(&json).unwrap() else { panic!() };
        let found = read.available_transports.iter().find_map(WebTransportOffer::from_available);
        (String::from_utf8(json).unwrap(), found)
    }

    #[test]
    fn er_h2_an_offer_has_the_names_that_browsers_know_and_is_read_back() {
        let offer = WebTransportOffer { port: 8443, certificate_hashes: vec![[7; 32]] };
        let (json, read) = through_an_answer(&offer);
        assert!(
            json.contains(concat!(
                r#"{"transport":"WebTransport","transferFormats":["Text","Binary"],"port":8443,"#,
                r#""serverCertificateHashes":[{"algorithm":"sha-256","value":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="}]}"#
            )),
            "{json}"
        );
        assert_eq!(read, Some(offer));
        let trusted = WebTransportOffer { port: 1, certificate_hashes: Vec::new() };
        let (json, read) = through_an_answer(&trusted);
        assert!(!json.contains("serverCertificateHashes"), "{json}");
        assert_eq!(read, Some(trusted));
    }

    #[test]
    fn an_offer_that_cannot_be_used_is_none() {
        let read = |fields: &str| {
            let json = format!(
                r#"{{"connectionId":"c","availableTransports":[{{"transport":"WebTransport","transferFormats":[]{fields}}}]}}"#
            );
            let NegotiateResponse::Connection(read) = NegotiateResponse::from_json(json.as_bytes()).unwrap() else {
                panic!()
            };
            WebTransportOffer::from_available(&read.available_transports[0])
        };
        assert_eq!(read(""), None);
        assert_eq!(read(r#","port":0"#), None);
        assert_eq!(read(r#","port":65536"#), None);
        assert_eq!(read(r#","port":"1""#), None);
        assert_eq!(read(r#","port":1,"serverCertificateHashes":7"#), None);
        let odd = r#","port":1,"serverCertificateHashes":[{"algorithm":"sha-512","value":"AA=="},{"algorithm":"sha-256","value":"AA=="}]"#;
        assert_eq!(read(odd), Some(WebTransportOffer { port: 1, certificate_hashes: Vec::new() }));
    }
}
