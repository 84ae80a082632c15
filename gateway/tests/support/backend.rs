//! A server that does what a test scripts, and records exactly what it got.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hubgate_protocol::websocket::accept_key;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinSet;

use super::soon;
use super::wire::{Wire, parse_head};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Number of the TCP connection, from 0.
    pub connection: usize,
    /// Request line, headers and empty line, byte for byte.
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    pub fn path(&self) -> &str {
        self.target().split('?').next().unwrap()
    }

    pub fn query(&self) -> &str {
        self.target().split_once('?').map_or("", |(_, query)| query)
    }

    /// All values of a header, in order.
    pub fn all(&self, name: &str) -> Vec<String> {
        let (_, headers) = parse_head(&self.head);
        headers.into_iter().filter(|(other, _)| other == name).map(|(_, value)| value).collect()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    pub fn is_upgrade(&self) -> bool {
        self.header("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket"))
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Sends these bytes and reads on.
    Send(Vec<u8>),
    /// Sends these bytes and closes.
    Close(Vec<u8>),
    /// Answers the upgrade rightly, with further header lines, and hands the connection to [`Backend::socket`].
    WebSocket(String),
    /// Hands the connection to [`Backend::socket`] without any answer.
    HandOver,
}

impl Reply {
    /// An answer with a length; `head` is the status and header lines with `\n` between them.
    pub fn answer(head: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut text = String::from("HTTP/1.1 ");
        for line in head.lines().map(str::trim).filter(|line| !line.is_empty()) {
            text += line;
            text += "\r\n";
        }
        text += &format!("Content-Length: {}\r\n\r\n", body.len());
        Self::Send([text.as_bytes(), body].concat())
    }

    pub fn json(body: impl AsRef<[u8]>) -> Self {
        Self::answer("200 OK\nContent-Type: application/json", body)
    }

    pub fn web_socket() -> Self {
        Self::WebSocket(String::new())
    }
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    reads_bodies: bool,
    seen: Mutex<Vec<Seen>>,
    count: watch::Sender<usize>,
    open: watch::Sender<usize>,
    accepted: AtomicUsize,
    sockets: UnboundedSender<(Seen, Wire)>,
}

/// A running server; dropping it cuts all its connections that no test holds.
pub struct Backend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    sockets: AsyncMutex<UnboundedReceiver<(Seen, Wire)>>,
    _accepting: JoinSet<()>,
}

impl Backend {
    /// Starts one that answers each request by `script`.
    pub async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), script).await
    }

    /// The same at an address.
    pub async fn start_at(address: SocketAddr, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_as(address, true, script).await
    }

    /// Starts one that hands every connection over behind the head of its first request.
    pub async fn of_heads() -> Self {
        Self::start_as(([127, 0, 0, 1], 0).into(), false, |_| Reply::HandOver).await
    }

    async fn start_as(
        address: SocketAddr,
        reads_bodies: bool,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sockets) = unbounded_channel();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            reads_bodies,
            seen: Mutex::default(),
            count: watch::channel(0).0,
            open: watch::channel(0).0,
            accepted: AtomicUsize::new(0),
            sockets: sender,
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, sockets: AsyncMutex::new(sockets), _accepting: accepting }
    }

    /// Starts a hub: negotiates with ids `id-0`, `id-1` … and tokens `token-0` …, and accepts all WebSockets.
    pub async fn hub() -> Self {
        Self::hub_with(|_| None).await
    }

    /// A hub that asks `script` first.
    pub async fn hub_with(script: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let negotiates = AtomicUsize::new(0);
        Self::start(move |seen| {
            if let Some(reply) = script(seen) {
                return reply;
            }
            match seen.method() {
                "POST" if seen.path().ends_with("/negotiate") => {
                    let n = negotiates.fetch_add(1, Ordering::Relaxed);
                    Reply::json(super::hub::negotiate_answer(&format!("id-{n}"), &format!("token-{n}")))
                }
                "GET" if seen.is_upgrade() => Reply::web_socket(),
                _ => Reply::answer("404 Not Found", "no such thing"),
            }
        })
        .await
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The only request so far.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen.into_iter().next().unwrap()
    }

    /// The newest request.
    pub fn last(&self) -> Seen {
        self.seen().pop().unwrap()
    }

    /// Waits until this many requests have come.
    pub async fn wait_seen(&self, count: usize) {
        let mut seen = self.shared.count.subscribe();
        soon("a request to the backend", seen.wait_for(|seen| *seen >= count)).await.unwrap();
    }

    /// Waits until exactly this many connections are open, handed over ones not counted.
    pub async fn wait_open(&self, count: usize) {
        let mut open = self.shared.open.subscribe();
        soon("the backend's connections to end", open.wait_for(|open| *open == count)).await.unwrap();
    }

    /// TCP connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// The next connection that was handed over, with its request.
    pub async fn socket(&self) -> (Seen, Wire) {
        let mut sockets = self.sockets.lock().await;
        soon("a WebSocket at the backend", sockets.recv()).await.unwrap()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
        connections.spawn(serve(tcp, number, Arc::clone(&shared)));
    }
}

async fn serve(tcp: TcpStream, connection: usize, shared: Arc<Shared>) {
    shared.open.send_modify(|open| *open += 1);
    converse(Wire::accepted(tcp), connection, &shared).await;
    shared.open.send_modify(|open| *open -= 1);
}

async fn converse(mut wire: Wire, connection: usize, shared: &Shared) {
    while let Some(head) = wire.head().await {
        let (_, headers) = parse_head(&head);
        let body = if shared.reads_bodies { wire.request_body(&headers).await } else { Vec::new() };
        let seen = Seen { connection, head, body };
        let reply = (shared.script)(&seen);
        shared.seen.lock().unwrap().push(seen.clone());
        shared.count.send_modify(|count| *count += 1);
        match reply {
            Reply::Send(bytes) => {
                if wire.try_send(bytes).await.is_err() {
                    return;
                }
            }
            Reply::Close(bytes) => {
                let _gone_already = wire.try_send(bytes).await;
                return;
            }
            Reply::WebSocket(more) => {
                let accept = accept_key(seen.header("sec-websocket-key").unwrap().as_bytes());
                let mut answer = String::from("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n");
                answer += &format!("Upgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n");
                for line in more.lines() {
                    answer += &format!("{line}\r\n");
                }
                if wire.try_send(answer + "\r\n").await.is_err() {
                    return;
                }
                let _no_test_waits = shared.sockets.send((seen, wire));
                return;
            }
            Reply::HandOver => {
                let _no_test_waits = shared.sockets.send((seen, wire));
                return;
            }
        }
    }
}
