//! The requests of a kept connection: its first WebSocket, and those of a client that comes back.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hubgate_protocol::stateful::{Config, ResumeRate};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::arrival::{Arrival, Verdict};
use super::pump::Pump;
use super::{Kept, Terms};
use crate::answer;
use crate::attach::{admit, credentials};
use crate::backend::{Backend, Share};
use crate::body::Body;
use crate::forward::upgrade_key;
use crate::identity::Admission;
use crate::io::Stream;
use crate::link::Link;
use crate::metrics::ResumeOutcome;
use crate::observe::Attached;
use crate::polling;
use crate::relay::{Ends, Outcome, Relay, Report, Spoken, Surroundings};
use crate::table::{Entry, State};
use crate::visit::Visit;

/// A connection whose hub has just been reached and whose client was granted stateful reconnect.
pub(crate) struct Granted {
    /// The client, once its side has been upgraded.
    pub(crate) client: OnUpgrade,
    /// The hub's stream and what was read ahead of it.
    pub(crate) hub: (Stream, Bytes),
    /// The hub's place among its backend's connections.
    pub(crate) share: Share,
    /// What the client showed at the connect.
    pub(crate) admission: Admission,
    /// The backend to be asked about new credentials.
    pub(crate) judge: Option<Arc<Backend>>,
    /// Frames for the hub before all else.
    pub(crate) early: Bytes,
}

/// Runs a connection that may turn out to be stateful; the entry follows it.
pub(crate) fn keep(visit: &Visit, entry: Arc<Entry>, granted: Granted, attached: Attached) {
    let visit = visit.clone();
    tokio::spawn(async move {
        let Ok(upgraded) = granted.client.await else {
            entry.set(State::Finished);
            return;
        };
        let (client, ahead) = Stream::from_upgraded(upgraded);
        let (hub, hub_ahead) = granted.hub;
        let link = Arc::new(Link::default());
        link.talked.store(visit.gate.clock.now(), Relaxed);
        let _entered = visit.gate.links.enter(Arc::clone(&link));
        let around = Surroundings {
            link: Arc::clone(&link),
            clock: Arc::clone(&visit.gate.clock),
            traffic: Arc::clone(&visit.route.traffic),
        };
        let mut arrival =
            Arrival { client, client_seen: BytesMut::from(&ahead[..]), hub, hub_seen: BytesMut::from(&hub_ahead[..]) };
        let verdict = if granted.early.is_empty() { arrival.verdict(&link).await } else { Verdict::Ordinary };
        let report = match verdict {
            Verdict::Stateful(protocol) => {
                let kept = Arc::new(Kept {
                    link,
                    newcomer: Mutex::default(),
                    over: AtomicBool::new(false),
                    rate: Mutex::new(ResumeRate::new(rate(&visit))),
                    since: Instant::now(),
                    admission: Mutex::new(granted.admission),
                    judge: granted.judge,
                });
                entry.set(State::Stateful(Arc::clone(&kept)));
                let terms = terms(&visit);
                // What a request had to do with is not what the connection needs.
                drop(visit);
                Pump::new(kept, around, terms, protocol, arrival).await
            }
            Verdict::Ordinary => {
                let Arrival { client, client_seen, hub, hub_seen } = arrival;
                let (client_ahead, hub_ahead) = (client_seen.freeze(), hub_seen.freeze());
                let ends = Ends { client, client_ahead, hub, hub_ahead, early: granted.early, passes_losses: false };
                drop(visit);
                Relay::new(ends, around).await
            }
            Verdict::Reset => {
                arrival.hub.reset_on_close();
                Report { outcome: Outcome::ClientLost, spoken: Spoken::Unknown, bytes: (0, 0) }
            }
        };
        tracing::debug!(outcome = ?report.outcome, spoken = report.spoken.name(), "a WebSocket has ended");
        entry.set(State::Finished);
        attached.ended(report.outcome.into(), report.spoken, report.bytes);
        drop(granted.share);
    });
}

/// Resumes a second that one client is granted.
pub(super) fn rate(visit: &Visit) -> u32 {
    u32::try_from(visit.live.config.limits.resumes_per_second_max).unwrap_or(u32::MAX)
}

fn terms(visit: &Visit) -> Terms {
    let (limits, timeouts) = (&visit.live.config.limits, &visit.live.config.timeouts);
    let endpoint = Config {
        unacknowledged_bytes_max: limits.stateful_buffer_bytes_max,
        held_bytes_max: limits.stateful_buffer_bytes_max.saturating_mul(2),
        overflow_wait: timeouts.stateful_buffer_timeout,
        window: timeouts.resume_window,
        ..Config::server()
    };
    Terms {
        endpoint,
        client_message_bytes_max: limits.client_message_bytes_max,
        hub_message_bytes_max: limits.hub_message_bytes_max,
        seed: visit.gate.chance(),
    }
}

/// Serves the upgrade of a client that comes back (rule A7): judged before anything is touched.
pub(crate) async fn resume(visit: &Visit, kept: &Arc<Kept>, mut request: Request<Incoming>) -> Response<Body> {
    let refuse = |outcome: ResumeOutcome, response: Response<Body>| {
        visit.gate.metrics.resumed(visit.route.name(), outcome);
        response
    };
    if kept.over.load(Relaxed) {
        return refuse(ResumeOutcome::Ended, gone());
    }
    if !kept.may_come() {
        return refuse(ResumeOutcome::TooOften, gone());
    }
    let credentials = credentials(visit, &request);
    let judged = admit(visit, || kept.admission(), kept.judge.as_ref(), &credentials, &request).await;
    if let Err(refusal) = judged {
        let outcome = match refusal.status() {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => ResumeOutcome::Refused,
            _ => ResumeOutcome::BackendError,
        };
        return refuse(outcome, refusal);
    }
    let to_http2 = request.version() == Version::HTTP_2;
    let key: HeaderValue = upgrade_key(visit, &request);
    let client = hyper::upgrade::on(&mut request);
    let kept = Arc::clone(kept);
    tokio::spawn(async move {
        if let Ok(upgraded) = client.await {
            let (client, ahead) = Stream::from_upgraded(upgraded);
            kept.come(client, ahead);
        }
    });
    visit.gate.metrics.resumed(visit.route.name(), ResumeOutcome::Ok);
    polling::switching(&key, to_http2)
}

/// 404 as a WebSocket's is: without a media type.
fn gone() -> Response<Body> {
    let mut response = answer::no_connection();
    response.headers_mut().remove(http::header::CONTENT_TYPE);
    response
}
