//! One QUIC connection from its handshake to its end: the CONNECT is judged, its hub reached, its session carried.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::ext::Protocol;
use quinn::Incoming;
use web_transport_proto::ConnectRequest;

use super::carry::{Waits, carry};
use super::session::{Asked, H3_NO_ERROR};
use crate::answer;
use crate::attach::{self, Opened};
use crate::body::Body;
use crate::config::Timeouts;
use crate::edge::Kind;
use crate::gate::Gate;
use crate::listen::{Counted, Handshake};
use crate::metrics::Transport;
use crate::observe::{Watching, connect_outcome, note_cause, note_connection};
use crate::query::Query;
use crate::table::{Entry, Shown, State};
use crate::visit::{Client, Visit};

/// Serves one newcomer. Its session is a task of its own, so that it does not carry what its beginning needed.
pub(super) async fn serve(gate: Arc<Gate>, incoming: Incoming, handshake: Handshake, counted: Counted) {
    let peer = incoming.remote_address();
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let live = gate.live.load_full();
    let Some(asked) = receive(incoming, handshake, &live.config.timeouts).await else { return };
    let waits = Waits::of(&live.config.timeouts);
    drop(live);
    let client = Arc::new(Client::new(peer, true, None));
    let request = request(&asked.request);
    let answered = answer(gate, client, request).await;
    match answered.session {
        Some(session) => {
            tokio::spawn(session.run(asked, waits, counted));
        }
        None => asked.refuse(answered.status).await,
    }
}

/// Shakes hands and reads the CONNECT; `None` where there is none.
async fn receive(incoming: Incoming, handshake: Handshake, timeouts: &Timeouts) -> Option<Asked> {
    let peer = incoming.remote_address();
    let connecting = match incoming.accept() {
        Ok(connecting) => connecting,
        Err(error) => {
            tracing::debug!(%peer, %error, "a QUIC handshake failed");
            return None;
        }
    };
    // A server may speak before the handshake is over: SETTINGS, which clients wait for, go with it and save a round trip. What the
    // client says is read after it alone, as there is no 0-RTT.
    let Ok((connection, shaken_hands)) = connecting.into_0rtt() else { return None };
    let mut asking = pin!(Asked::read(connection.clone()));
    let early = tokio::select! {
        biased;
        shaken = tokio::time::timeout(timeouts.tls_handshake_timeout, shaken_hands) => match shaken {
            Ok(_) => None,
            Err(_) => {
                tracing::debug!(%peer, "a QUIC handshake took too long");
                return None;
            }
        },
        // Nothing but an error comes before the handshake is over.
        asked = &mut asking => Some(asked),
    };
    drop(handshake);
    let asked = match early {
        Some(asked) => Ok(asked),
        None => tokio::time::timeout(timeouts.headers_timeout, asking).await,
    };
    match asked {
        Ok(Ok(asked)) => return Some(asked),
        Ok(Err(error)) => {
            // Ordinary HTTP/3 ends here too: the port answers none (rule H1).
            tracing::debug!(%peer, %error, "a QUIC connection asked for no WebTransport session");
            connection.close(H3_NO_ERROR, b"only WebTransport is served here");
        }
        Err(_) => connection.close(H3_NO_ERROR, b"the CONNECT request took too long"),
    }
    None
}

/// The CONNECT as an ordinary request.
fn request(asked: &ConnectRequest) -> Request<Body> {
    let mut request = Request::new(Body::Empty);
    *request.method_mut() = Method::CONNECT;
    *request.version_mut() = Version::HTTP_3;
    // A URL that was read once is one that `http` reads too; an odd one finds no route.
    *request.uri_mut() = asked.url.as_str().parse().unwrap_or_default();
    *request.headers_mut() = asked.headers.clone();
    request.extensions_mut().insert(Protocol::from_static("webtransport"));
    request
}

/// What became of a CONNECT.
struct Answered {
    status: StatusCode,
    session: Option<Admitted>,
}

/// A session whose hub has accepted it.
struct Admitted {
    opened: Opened,
    entry: Arc<Entry>,
}

impl Admitted {
    async fn run(self, asked: Asked, waits: Waits, _counted: Counted) {
        let Self { opened, entry } = self;
        let edge = Arc::clone(&opened.edge);
        let carrying = async {
            match asked.accept().await {
                Ok(session) => carry(&edge, session, waits).await,
                Err(_) => edge.client_left(None),
            }
        };
        tokio::join!(opened.read(), carrying);
        entry.set(State::Finished);
    }
}

/// Judges a CONNECT and reaches its hub; counted and logged like any request.
async fn answer(gate: Arc<Gate>, client: Arc<Client>, request: Request<Body>) -> Answered {
    let watching = Watching::begin(&gate, client.peer.ip(), &request);
    let metrics = Arc::clone(&gate.metrics);
    let (found, mut response, session) = match crate::http::visit(gate, client, &request) {
        Ok(visit) => {
            let (response, session) = open(&visit, request).await;
            (Some(visit.route), response, session)
        }
        Err(refusal) => (None, *refusal, None),
    };
    if session.is_none() {
        note_cause(&mut response, "a WebTransport session was refused");
    }
    let status = response.status();
    metrics.answered(found.as_ref().map(|route| &route.meters), status);
    if let Some(watching) = watching {
        // The line is written when the answer is dropped.
        drop(watching.follow(found.as_deref(), response));
    }
    Answered { status, session }
}

async fn open(visit: &Visit, mut request: Request<Body>) -> (Response<Body>, Option<Admitted>) {
    let started = Instant::now();
    let mut connection_id: Box<str> = "".into();
    let result = match find(visit, &request) {
        Ok(entry) => {
            connection_id = entry.connection_id.clone();
            match show(visit, &entry, &mut request) {
                Ok(()) => reach(visit, entry, request).await,
                Err(status) => Err(Box::new(answer::empty(status))),
            }
        }
        Err(status) => Err(Box::new(answer::empty(status))),
    };
    let (mut response, session) = match result {
        Ok(session) => (answer::empty(StatusCode::OK), Some(session)),
        Err(refusal) => (*refusal, None),
    };
    let outcome = connect_outcome(response.status());
    visit.gate.metrics.connected(&visit.route.meters, Transport::WebTransport, outcome, started.elapsed());
    note_connection(&mut response, &connection_id);
    (response, session)
}

/// The waiting connection of a session. A token that only another gateway knows is none: what its negotiate showed is there.
fn find(visit: &Visit, request: &Request<Body>) -> Result<Arc<Entry>, StatusCode> {
    if visit.gate.draining.load(Relaxed) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    if visit.path.ambiguity().is_some() {
        return Err(StatusCode::BAD_REQUEST);
    }
    let id = Query::new(request.uri().query().unwrap_or_default()).id().ok_or(StatusCode::NOT_FOUND)?;
    let presented = attach::presented(visit, &id).ok_or(StatusCode::NOT_FOUND)?;
    attach::find(visit, &presented).ok().flatten().ok_or(StatusCode::NOT_FOUND)
}

/// Gives the request what negotiate showed (rule H4), if it comes from the same origin and in time.
fn show(visit: &Visit, entry: &Entry, request: &mut Request<Body>) -> Result<(), StatusCode> {
    let shown: Shown = match &*entry.state() {
        State::Waiting(waiting) => waiting.shown.as_deref().cloned().ok_or(StatusCode::NOT_FOUND)?,
        State::Finished => return Err(StatusCode::NOT_FOUND),
        _ => return Err(StatusCode::CONFLICT),
    };
    let headers = request.headers_mut();
    shown.judge(visit.gate.clock.now(), headers.get(http::header::ORIGIN))?;
    for name in shown.credentials.keys() {
        // What a client outside of browsers shows itself goes first.
        if headers.contains_key(name) {
            continue;
        }
        let values: Vec<HeaderValue> = shown.credentials.get_all(name).iter().cloned().collect();
        for value in values {
            headers.append(name.clone(), value);
        }
    }
    Ok(())
}

async fn reach(visit: &Visit, entry: Arc<Entry>, request: Request<Body>) -> Result<Admitted, Box<Response<Body>>> {
    let waiting = attach::take(visit, &entry, Kind::WebTransport).map_err(Box::new)?;
    let opened = attach::open_edge(visit, &entry, Kind::WebTransport, waiting, request).await?;
    Ok(Admitted { opened, entry })
}
