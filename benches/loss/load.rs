//! What clients do in a round: calls in a steady stream, calls now and then, and connects, all at times that were fixed before.
//!
//! Invariant: a sample is the time from the moment an operation was meant to begin to its answer; what has no right answer is a failure and
//! no sample.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use hubgate_client::{ClientError, HubConnection, Transport};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::stage::Stage;

/// How long an answer may take before it counts as a failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// An invocation of `EchoText` with this text has about 120 bytes.
const TEXT: &str = "fifty-six letters that go to a hub and come back from it";
/// Largest sample, in microseconds; also what PATIENCE allows.
const SAMPLE_MAX: u64 = 60_000_000;

/// Why a round could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0:?}: a connection for calls could not be opened: {1}")]
    Open(Transport, ClientError),
    #[error("a connection was opened over {1:?} instead of {0:?}")]
    OtherTransport(Transport, Option<Transport>),
    #[error("no histogram: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("a task of the load was lost: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Calls on several connections at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    /// Connections.
    pub(crate) connections: u32,
    /// Time from the beginning of one call of a connection to that of its next.
    pub(crate) every: Duration,
}

/// One round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// One call follows the other before its answer is there: what is lost holds up those after it.
    pub(crate) steady: Calls,
    /// The connection is silent between calls: nothing that follows tells the sender of a loss.
    pub(crate) sparse: Calls,
    /// Time from one connect to the next.
    pub(crate) connect_every: Duration,
    /// How long operations begin.
    pub(crate) window: Duration,
}

impl Plan {
    pub(crate) fn full(window: Duration) -> Self {
        Self {
            steady: Calls { connections: 20, every: Duration::from_millis(20) },
            sparse: Calls { connections: 60, every: Duration::from_secs(1) },
            connect_every: Duration::from_millis(75),
            window,
        }
    }

    pub(crate) fn quick() -> Self {
        Self {
            steady: Calls { connections: 5, every: Duration::from_millis(20) },
            sparse: Calls { connections: 5, every: Duration::from_secs(1) },
            connect_every: Duration::from_millis(300),
            window: Duration::from_secs(3),
        }
    }
}

/// Samples of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// Microseconds.
    pub(crate) times: Histogram<u64>,
    pub(crate) failed: u64,
}

impl Tally {
    pub(crate) fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self { times: Histogram::new_with_bounds(1, SAMPLE_MAX, 3)?, failed: 0 })
    }

    fn count(&mut self, outcome: &Result<Duration, String>) {
        match outcome {
            Ok(time) => self.times.saturating_record(u64::try_from(time.as_micros()).unwrap_or(SAMPLE_MAX)),
            Err(reason) => {
                self.failed += 1;
                eprintln!("failed: {reason}");
            }
        }
    }

    /// A quantile, in milliseconds.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        milliseconds(self.times.value_at_quantile(quantile))
    }

    fn summary(&self) -> String {
        let (count, failed) = (self.times.len(), self.failed);
        format!("{count} of p50 {:.0} ms, p99 {:.0} ms, {failed} failed", self.quantile(0.5), self.quantile(0.99))
    }
}

/// Microseconds as milliseconds.
#[expect(clippy::cast_precision_loss, reason = "samples are below 2^53 microseconds")]
pub(crate) fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

/// What a round gave.
#[derive(Debug)]
pub(crate) struct Samples {
    pub(crate) steady: Tally,
    pub(crate) sparse: Tally,
    pub(crate) connects: Tally,
}

impl Samples {
    /// One line.
    pub(crate) fn summary(&self) -> String {
        let parts = [("steady", &self.steady), ("sparse", &self.sparse), ("connects", &self.connects)];
        parts.map(|(name, tally)| format!("{name} {}", tally.summary())).join("; ")
    }
}

/// Opens the connections, runs the loads at once for the window and waits for every answer.
pub(crate) async fn round(stage: &Stage, transport: Transport, plan: &Plan) -> Result<Samples, Error> {
    let steady = open(stage, transport, plan.steady.connections).await?;
    let sparse = open(stage, transport, plan.sparse.connections).await?;
    let begin = Instant::now() + Duration::from_millis(100);
    let samples = tokio::try_join!(
        calls(&steady, plan.steady, begin, plan.window),
        calls(&sparse, plan.sparse, begin, plan.window),
        connects(stage, transport, plan.connect_every, begin, plan.window),
    );
    let (steady_tally, sparse_tally, connects) = samples?;
    let mut closing = JoinSet::new();
    for connection in steady.into_iter().chain(sparse) {
        closing.spawn(async move { timeout(PATIENCE, connection.stop()).await });
    }
    while let Some(closed) = closing.join_next().await {
        if closed?.is_err() {
            eprintln!("a connection took more than {PATIENCE:?} to stop");
        }
    }
    Ok(Samples { steady: steady_tally, sparse: sparse_tally, connects })
}

async fn open(stage: &Stage, transport: Transport, count: u32) -> Result<Vec<Arc<HubConnection>>, Error> {
    let mut opening = JoinSet::new();
    for _ in 0..count {
        let connection = Arc::new(stage.connection(transport)?);
        opening.spawn(async move {
            connection.start().await.map_err(|error| Error::Open(transport, error))?;
            match connection.transport() {
                Some(used) if used == transport => Ok(connection),
                other => Err(Error::OtherTransport(transport, other)),
            }
        });
    }
    let mut open = Vec::new();
    while let Some(opened) = opening.join_next().await {
        open.push(opened??);
    }
    Ok(open)
}

/// Calls on all connections, spread evenly over the time between two calls of one.
async fn calls(
    connections: &[Arc<HubConnection>],
    plan: Calls,
    begin: Instant,
    window: Duration,
) -> Result<Tally, Error> {
    let mut running = JoinSet::new();
    let apart = plan.every / plan.connections.max(1);
    for (offset, connection) in (0..).map(|place| apart * place).zip(connections) {
        running.spawn(call_in_turn(Arc::clone(connection), begin + offset, plan.every, begin + window));
    }
    let mut tally = Tally::new()?;
    while let Some(outcomes) = running.join_next().await {
        outcomes?.iter().for_each(|outcome| tally.count(outcome));
    }
    Ok(tally)
}

/// Calls at fixed times, whether the calls before have their answers or not.
async fn call_in_turn(
    connection: Arc<HubConnection>,
    first: Instant,
    every: Duration,
    end: Instant,
) -> Vec<Result<Duration, String>> {
    let mut running = JoinSet::new();
    let mut intended = first;
    while intended < end {
        sleep_until(intended).await;
        let connection = Arc::clone(&connection);
        running.spawn(async move {
            match timeout(PATIENCE, connection.invoke::<String>("EchoText", (TEXT,))).await {
                Ok(Ok(text)) if text == TEXT => Ok(intended.elapsed()),
                Ok(Ok(other)) => Err(format!("a call was answered {other:?}")),
                Ok(Err(error)) => Err(format!("a call: {error}")),
                Err(_) => Err(format!("a call had no answer after {PATIENCE:?}")),
            }
        });
        intended += every;
    }
    running.join_all().await
}

/// Connects at fixed times: negotiate, transport and handshake, each with new sockets, stopped when connected.
async fn connects(
    stage: &Stage,
    transport: Transport,
    every: Duration,
    begin: Instant,
    window: Duration,
) -> Result<Tally, Error> {
    let mut running = JoinSet::new();
    let mut intended = begin;
    while intended < begin + window {
        sleep_until(intended).await;
        let connection = stage.connection(transport)?;
        running.spawn(async move {
            let outcome = match timeout(PATIENCE, connection.start()).await {
                Ok(Ok(())) => Ok(intended.elapsed()),
                Ok(Err(error)) => Err(format!("a connect over {transport:?}: {error}")),
                Err(_) => Err(format!("a connect over {transport:?} took more than {PATIENCE:?}")),
            };
            // Not part of the time; the connection is of no use any more.
            let _ = timeout(PATIENCE, connection.stop()).await;
            outcome
        });
        intended += every;
    }
    let mut tally = Tally::new()?;
    running.join_all().await.iter().for_each(|outcome| tally.count(outcome));
    Ok(tally)
}
