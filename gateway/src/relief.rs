//! Relief when too many bytes wait over all connections (rule F1): the slowest are ended.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::edge::{Edge, End};
use crate::gate::Gate;
use crate::link::{Link, Orders};
use crate::metrics::Limit;
use crate::table::{Entry, State};

/// How long connections that were given up have to let go of their bytes before more are.
const RELIEF_PAUSE: Duration = Duration::from_millis(50);

/// Gives up the connections that have waited longest whenever too many bytes wait over all (rule F1).
pub(crate) async fn relieve(gate: Arc<Gate>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = gate.clock.buffered().overflow() => {}
        }
        forget_answers(&gate);
        let given_up = give_up_slowest(&gate, gate.clock.buffered().excess());
        let (bytes, total) = (gate.clock.buffered().bytes(), gate.clock.buffered().gave_up(given_up));
        gate.metrics.limit_reached(Limit::BufferedBytes);
        tracing::warn!(
            bytes,
            given_up,
            total,
            "limits.buffered_bytes_max is reached: the slowest connections are ended"
        );
        tokio::time::sleep(RELIEF_PAUSE).await;
    }
}

/// Forgets the answers of polls that are kept in case they were lost: most were not.
fn forget_answers(gate: &Gate) {
    for entry in gate.table.edges() {
        if let State::Edge(edge) = &*entry.state() {
            edge.forget_answer();
        }
    }
}

/// Ends as many connections as hold that many bytes, those first that have waited longest.
fn give_up_slowest(gate: &Gate, excess: usize) -> usize {
    let (mut slow, mut freed, mut given_up) = (Vec::new(), 0, 0);
    for link in gate.links.all() {
        if link.given_up.load(Relaxed) {
            // It takes its time to end, on a busy machine more than others: nobody else must go for its bytes.
            freed += usize::try_from(link.held_bytes.load(Relaxed)).unwrap_or(usize::MAX);
            continue;
        }
        let marks = [link.stuck_since.load(Relaxed), link.unacknowledged_since.load(Relaxed)];
        let held = link.held_bytes.load(Relaxed);
        if let Some(since) = marks.into_iter().filter(|since| *since != 0).min() {
            slow.push((since - 1, usize::try_from(held).unwrap_or(usize::MAX), Slow::WebSocket(link)));
        }
    }
    for entry in gate.table.edges() {
        let found = match &*entry.state() {
            State::Edge(edge) if edge.waits_since() != u32::MAX => Some(Arc::clone(edge)),
            _ => None,
        };
        if let Some(edge) = found {
            slow.push((edge.waits_since(), edge.waiting_bytes(), Slow::Edge(edge, entry)));
        }
    }
    slow.sort_by_key(|(since, held, _)| (*since, std::cmp::Reverse(*held)));
    for (_, held, slow) in slow {
        if freed >= excess {
            break;
        }
        freed += held;
        given_up += 1;
        match slow {
            Slow::WebSocket(link) => {
                link.given_up.store(true, Relaxed);
                link.order(Orders::GIVE_UP);
            }
            Slow::Edge(edge, entry) => {
                edge.end(End::ClientGone, true);
                edge.over.cancel();
                edge.abort();
                entry.set(State::Finished);
            }
        }
    }
    given_up
}

/// A connection for whose client bytes wait.
enum Slow {
    WebSocket(Arc<Link>),
    Edge(Arc<Edge>, Arc<Entry>),
}
