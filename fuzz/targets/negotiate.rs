//! Negotiate answers and queries: a good answer reads again after being written, an offer of WebTransport too; queries lose what
//! they must.
#![no_main]

use hubgate_protocol::negotiate::{NegotiateRequest, NegotiateResponse, WebTransportOffer};
use hubgate_protocol::query;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(response) = NegotiateResponse::from_json(data) {
        let written = response.to_json();
        // Escapes may make an answer longer than what is read.
        if written.len() <= hubgate_protocol::limits::NEGOTIATE_ANSWER_BYTES_MAX {
            let again = NegotiateResponse::from_json(&written).unwrap();
            assert_eq!(again.to_json(), written);
        }
        if let NegotiateResponse::Connection(connection) = response {
            for offer in connection.available_transports.iter().filter_map(WebTransportOffer::from_available) {
                assert_eq!(WebTransportOffer::from_available(&offer.to_available()), Some(offer));
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = NegotiateRequest::from_query(text);
        let rest = query::without(text, &["id"]);
        assert_eq!(query::value(&rest, "id"), None);
        assert_eq!(query::value(&query::with(&rest, "id", "T"), "id").as_deref(), Some("T"));
        assert_eq!(query::decode(&query::encode(text)), text);
    }
});
