//! A connection that its hub keeps itself (`stateful_reconnect = "backend"`): each of the client's WebSockets becomes one
//! of the hub's, and the hub decides what it is worth (rule I5).

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use bytes::BytesMut;
use http::{Request, Response, StatusCode, Version};
use hubgate_protocol::stateful::ResumeRate;
use hyper::body::Incoming;

use super::resume::rate;
use crate::answer;
use crate::attach::{connect, credentials};
use crate::backend::Backend;
use crate::body::Body;
use crate::cookie::HubCookies;
use crate::forward::{Agreed, join, upgrade_key};
use crate::identity::{Admission, Verdict};
use crate::link::Clock;
use crate::metrics::ResumeOutcome;
use crate::negotiate::{Elsewhere, seconds};
use crate::observe::Attached;
use crate::relay::Report;
use crate::secret::Secret;
use crate::table::{Entry, State, Waiting};
use crate::visit::Visit;

/// What leads back to the hub.
#[derive(Debug)]
pub(crate) struct Passed {
    backend: Arc<Backend>,
    hub_token: Secret,
    elsewhere: Option<Elsewhere>,
    admission: Mutex<Admission>,
    rate: Mutex<ResumeRate>,
    /// The origin of the rate's time.
    since: Instant,
    /// Sockets that are open.
    open: AtomicUsize,
    /// Second after which no socket will come any more, while none is open.
    until: AtomicU32,
}

impl Passed {
    /// A connection whose first socket is about to be relayed.
    pub(crate) fn new(visit: &Visit, waiting: &Waiting, admission: Admission) -> Arc<Self> {
        Arc::new(Self {
            backend: Arc::clone(waiting.share.backend()),
            hub_token: waiting.hub_token.clone(),
            elsewhere: waiting.elsewhere.clone(),
            admission: Mutex::new(admission),
            rate: Mutex::new(ResumeRate::new(rate(visit))),
            since: Instant::now(),
            open: AtomicUsize::new(0),
            until: AtomicU32::new(u32::MAX),
        })
    }

    /// Whether no socket is open and none can come back.
    pub(crate) fn is_over(&self, now: u32) -> bool {
        self.open.load(Relaxed) == 0 && now > self.until.load(Relaxed)
    }

    fn opened(&self) {
        self.open.fetch_add(1, Relaxed);
    }

    /// A socket has ended; the hub keeps the connection for its own time-out, which is longer than said by up to 2 s.
    fn closed(&self, clock: &Clock, window: u32) {
        self.until.store(clock.now().saturating_add(window).saturating_add(3), Relaxed);
        self.open.fetch_sub(1, Relaxed);
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Relays one socket of a connection that its hub keeps.
pub(crate) fn relay_passed(
    visit: &Visit,
    passed: &Arc<Passed>,
    client: hyper::upgrade::OnUpgrade,
    waiting: Waiting,
    agreed: Agreed,
    attached: Attached,
) -> Response<Body> {
    passed.opened();
    let (kept, clock) = (Arc::clone(passed), Arc::clone(&visit.gate.clock));
    let window = seconds(visit.live.config.timeouts.resume_window);
    let ended = move |report: &Report| {
        kept.closed(&clock, window);
        attached.ended(report.outcome.into(), report.spoken, report.bytes);
    };
    join(visit, client, agreed.hub, waiting.share, crate::attach::early_frames(&waiting.early), true, ended);
    agreed.response
}

/// Serves the upgrade of a client that comes back: the hub answers it.
pub(crate) async fn resume_passed(
    visit: &Visit,
    entry: &Arc<Entry>,
    passed: &Arc<Passed>,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let tell = |outcome: ResumeOutcome| visit.gate.metrics.resumed(visit.route.name(), outcome);
    if !passed.rate.lock().unwrap_or_else(PoisonError::into_inner).take(passed.since.elapsed()) {
        tell(ResumeOutcome::TooOften);
        return answer::no_connection();
    }
    // New credentials are the hub's to judge: it sees this very request.
    let verdict = passed.admission().judge(&credentials(visit, &request), SystemTime::now());
    if verdict == Verdict::AnotherUser {
        tell(ResumeOutcome::Refused);
        return answer::text(StatusCode::FORBIDDEN, answer::USER_CHANGED);
    }
    let waiting = Waiting {
        share: passed.backend.share(),
        hub_token: passed.hub_token.clone(),
        held: None,
        cookies: HubCookies::default(),
        early: BytesMut::new(),
        hub_has_web_sockets: true,
        elsewhere: passed.elsewhere.clone(),
        shown: None,
    };
    let to_http2 = request.version() == Version::HTTP_2;
    let client = hyper::upgrade::on(&mut request);
    let key = upgrade_key(visit, &request);
    match connect(visit, waiting, request.map(|_| Body::Empty), &key, to_http2).await {
        Ok((waiting, agreed)) => {
            tell(ResumeOutcome::Ok);
            let attached =
                Attached::new(visit, crate::edge::Kind::WebSocket, passed.backend.address, &*entry.connection_id);
            relay_passed(visit, passed, client, waiting, agreed, attached)
        }
        Err(refusal) => {
            let status = refusal.status();
            if status == StatusCode::NOT_FOUND {
                tell(ResumeOutcome::Ended);
                if passed.open.load(Relaxed) == 0 {
                    entry.set(State::Finished);
                }
            } else {
                tell(if status.is_client_error() { ResumeOutcome::Refused } else { ResumeOutcome::BackendError });
            }
            *refusal
        }
    }
}
