//! A WebTransport client, and a carrier of its datagrams that can fall silent.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use web_transport_quinn as wt;

use super::soon;

/// An open session with its one stream.
pub struct Session {
    pub session: wt::Session,
    pub sending: wt::SendStream,
    pub receiving: wt::RecvStream,
}

/// A client that accepts any certificate.
pub fn client() -> wt::Client {
    wt::ClientBuilder::new().dangerous().with_no_certificate_verification().unwrap()
}

/// A client that accepts the certificate with this hash.
pub fn client_by_hash(hash: &[u8]) -> wt::Client {
    wt::ClientBuilder::new().with_server_certificate_hashes(vec![hash.to_vec()]).unwrap()
}

/// The CONNECT of a session; `headers` are pairs of name and value.
pub fn request(port: u16, target: &str, headers: &[(&str, &str)]) -> wt::proto::ConnectRequest {
    let url: url::Url = format!("https://127.0.0.1:{port}{target}").parse().unwrap();
    headers.iter().fold(wt::proto::ConnectRequest::new(url), |request, (name, value)| {
        request.with_header(name.parse().unwrap(), value.parse().unwrap())
    })
}

/// The status of a refusal.
pub fn status(error: &wt::ClientError) -> u16 {
    use wt::proto::ConnectError as Proto;
    match error {
        wt::ClientError::HttpError(wt::ConnectError::ErrorStatus(status)) => status.as_u16(),
        wt::ClientError::HttpError(wt::ConnectError::ProtoError(
            Proto::ErrorStatus(status) | Proto::WrongStatus(Some(status)),
        )) => status.as_u16(),
        other => panic!("no answer but {other:?}"),
    }
}

impl Session {
    /// Asks for a session; a refusal is its status.
    pub async fn ask(port: u16, target: &str, headers: &[(&str, &str)]) -> Result<wt::Session, u16> {
        let client = client();
        let opened = soon("a session", client.connect(request(port, target, headers))).await;
        opened.map_err(|error| status(&error))
    }

    /// Opens a session and its stream, on which nothing is said yet.
    pub async fn open(port: u16, target: &str, headers: &[(&str, &str)]) -> Self {
        Self::of(Self::ask(port, target, headers).await.unwrap()).await
    }

    /// Opens the stream of a session.
    pub async fn of(session: wt::Session) -> Self {
        let (sending, receiving) = soon("a stream", session.open_bi()).await.unwrap();
        Self { session, sending, receiving }
    }

    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        soon("room on the stream", self.sending.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Reads as many bytes as `expected` has, and compares them.
    pub async fn hears(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut bytes = vec![0; expected.len()];
        soon("bytes of the stream", self.receiving.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(expected));
    }

    /// Reads on to the end of the stream.
    pub async fn rest(&mut self) -> Vec<u8> {
        soon("the end of the stream", self.receiving.read_to_end(64 << 20)).await.unwrap()
    }

    /// Waits for the close of the session: code and reason, `None` for a loss.
    pub async fn closed(&self) -> Option<(u32, String)> {
        match soon("the session's close", self.session.closed()).await {
            wt::SessionError::WebTransportError(wt::WebTransportError::Closed(code, reason)) => Some((code, reason)),
            _ => None,
        }
    }
}

/// Carries datagrams to a server and back, as many each way as it is told.
pub struct Carrier {
    pub address: SocketAddr,
    up: Arc<AtomicUsize>,
    down: Arc<AtomicUsize>,
    carried_up: watch::Receiver<usize>,
    _carrying: JoinSet<()>,
}

impl Carrier {
    /// Carries for one client.
    pub async fn to(port: u16) -> Self {
        let near = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let far = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        far.connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let address = near.local_addr().unwrap();
        let (up, down) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(usize::MAX)));
        let client = Arc::new(tokio::sync::OnceCell::new());
        let (count, carried_up) = watch::channel(0);
        let mut carrying = JoinSet::new();
        let (from, to, room, whose) = (Arc::clone(&near), Arc::clone(&far), Arc::clone(&up), Arc::clone(&client));
        carrying.spawn(async move {
            let mut datagram = [0; 65_536];
            while let Ok((len, peer)) = from.recv_from(&mut datagram).await {
                let _the_same = whose.set(peer);
                if takes(&room) {
                    let _gone = to.send(&datagram[..len]).await;
                    count.send_modify(|count| *count += 1);
                }
            }
        });
        let room = Arc::clone(&down);
        carrying.spawn(async move {
            let mut datagram = [0; 65_536];
            while let Ok(len) = far.recv(&mut datagram).await {
                if let (true, Some(peer)) = (takes(&room), client.get()) {
                    let _gone = near.send_to(&datagram[..len], *peer).await;
                }
            }
        });
        Self { address, up, down, carried_up, _carrying: carrying }
    }

    /// Waits until so many datagrams have gone up.
    pub async fn has_carried_up(&self, count: usize) {
        let mut carried = self.carried_up.clone();
        soon("datagrams of a client", carried.wait_for(|carried| *carried >= count)).await.unwrap();
    }

    /// Lets so many datagrams more go up and down.
    pub fn carry_only(&self, up: usize, down: usize) {
        self.up.store(up, SeqCst);
        self.down.store(down, SeqCst);
    }
}

fn takes(room: &AtomicUsize) -> bool {
    room.fetch_update(SeqCst, SeqCst, |left| (left > 0).then(|| if left == usize::MAX { left } else { left - 1 }))
        .is_ok()
}
