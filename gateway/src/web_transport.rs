//! WebTransport beside a listener: QUIC in, one SignalR connection per session (rules H1 to H6).
//!
//! A session's one bidirectional stream carries what a WebSocket's messages would hold, one after the other. Behind it the
//! connection is an [`Edge`](crate::edge::Edge) like that of an event stream: the client's bytes go up as they come, the
//! hub's are cut at whole messages. `endpoint` has the socket and its bounds, `session` what is spoken of HTTP/3, `arrival` judges the
//! CONNECT, `carry` has the stream, `closing` the close codes, `certificate` what browsers accept without an authority.
//!
//! Invariants: a session is accepted only after its hub has accepted (rule H4); what negotiate showed is used once; the
//! port answers nothing but WebTransport (rule H1).

mod arrival;
mod carry;
mod certificate;
mod closing;
mod endpoint;
mod session;

use std::net::SocketAddr;

use arc_swap::ArcSwap;
use hubgate_protocol::negotiate::WebTransportOffer;
use ring::digest::{SHA256, digest};

use crate::config;
use crate::tls::Certificates;

pub(crate) use self::endpoint::{Bound, OpenEndpoint, tls_of};

/// What clients of a TCP listener are told of its WebTransport (rule H2).
#[derive(Debug)]
pub(crate) struct Listener {
    port: u16,
    certificates: ArcSwap<Certificates>,
}

impl Listener {
    fn new(configured: &config::WebTransport, bound: SocketAddr, certificates: Certificates) -> Self {
        let port = configured.public_port.unwrap_or(bound.port());
        Self { port, certificates: ArcSwap::from_pointee(certificates) }
    }

    /// What to tell a client that reached us as `host`. A hash goes with a self-signed certificate only: with one, browsers
    /// no longer ask the authorities.
    pub(crate) fn told_to(&self, host: &str) -> WebTransportOffer {
        let name = config::host_name(host);
        let served = self.certificates.load().served_to(Some(&name));
        let hash = served.filter(|served| certificate::is_self_signed(served)).map(|certificate| {
            let mut hash = [0; 32];
            hash.iter_mut().zip(digest(&SHA256, &certificate).as_ref()).for_each(|(to, from)| *to = *from);
            hash
        });
        WebTransportOffer { port: self.port, certificate_hashes: hash.into_iter().collect() }
    }
}
