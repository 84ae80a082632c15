//! What runs while a connection is started: moves bytes, hands messages out, notices losses, reconnects.
//!
//! Invariant: messages are handed out in the order they came. A stream whose reader is slow stops the reading of the connection, never its
//! writing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use hubgate_protocol::HubMessage;
use hubgate_protocol::message::{Close, Completion, Invocation, Outcome};
use hubgate_protocol::session::{End, Output};
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::connect::{self, Live};
use crate::connection::{HubConnectionState, Identity, Shared};
use crate::error::ClientError;
use crate::handlers::Handler;
use crate::misbehave::Frame;
use crate::reconnect::{ReconnectPolicy, RetryContext};
use crate::transport::Event;

/// Bytes that may wait for the transport before callers wait.
const QUEUED_BYTES_MAX: usize = 256 * 1024;

type Item = Result<Bytes, ClientError>;

/// What handles tell the task.
#[derive(Debug)]
pub(crate) enum Command {
    /// A call that is answered.
    Call { framed: Bytes, id: String, pending: Pending },
    /// Bytes for the server, whole messages unless a test wants it otherwise.
    Bytes(Bytes),
    /// A raw frame.
    Frame(Frame),
    /// Drop the transport.
    Cut,
    /// Stop or resume reading.
    StopReading(bool),
    /// End in an orderly way; the sender is dropped when that is done.
    Stop(oneshot::Sender<()>),
}

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Pending {
    /// A call: its raw result, none for void.
    Invocation(oneshot::Sender<Result<Option<Bytes>, ClientError>>),
    /// A stream: its raw items.
    Stream(mpsc::Sender<Item>),
}

/// A registered [`Pending`]; a stream keeps a place for its last word.
enum Waiting {
    Invocation(oneshot::Sender<Result<Option<Bytes>, ClientError>>),
    Stream { items: mpsc::Sender<Item>, last: Option<OwnedPermit<Item>> },
}

/// How serving ended.
enum Ended {
    /// `stop` was called, or nobody holds the connection any more.
    Stopped(Option<oneshot::Sender<()>>),
    /// The server ended it for good.
    ClosedByServer(Option<ClientError>),
    /// It was lost, or the server invites to come back.
    Lost(Option<ClientError>),
}

/// Gives a command to the task of a connection that is up.
pub(crate) async fn command(shared: &Shared, command: Command) -> Result<(), ClientError> {
    let is_stop = matches!(command, Command::Stop(_));
    if !is_stop && *shared.state.borrow() != HubConnectionState::Connected {
        return Err(ClientError::NotConnected);
    }
    let sender = shared.commands().clone().ok_or(ClientError::NotConnected)?;
    sender.send(command).await.map_err(|_| ClientError::NotConnected)
}

/// The same where nobody can wait.
pub(crate) fn command_later(shared: &Arc<Shared>, late: Command) {
    let Some(sender) = shared.commands().clone() else { return };
    if let Err(TrySendError::Full(late)) = sender.try_send(late)
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        runtime.spawn(async move {
            // A connection that is gone needs no command.
            let _ = sender.send(late).await;
        });
    }
}

/// Starts the task.
pub(crate) fn spawn(shared: Arc<Shared>, live: Live, commands: mpsc::Receiver<Command>, alive: watch::Receiver<()>) {
    let mut task = Task {
        shared,
        commands,
        alive,
        waiting: HashMap::new(),
        held_up: None,
        inbox: VecDeque::new(),
        end: None,
        deaf: false,
    };
    task.up(&live);
    tokio::spawn(async move { Box::pin(task.run(live)).await });
}

struct Task {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    alive: watch::Receiver<()>,
    waiting: HashMap<String, Waiting>,
    /// An item whose stream has no room: nothing is read until it has.
    held_up: Option<(mpsc::Sender<Item>, Bytes)>,
    /// Messages that wait behind it: at most what was read at once.
    inbox: VecDeque<HubMessage>,
    end: Option<End>,
    deaf: bool,
}

impl Task {
    async fn run(mut self, mut live: Live) {
        let (error, stopped) = loop {
            let ended = self.serve(&mut live).await;
            self.shared.identity().connection_id = None;
            self.fail_waiting();
            match ended {
                Ended::Stopped(stopped) => {
                    live.transport.stop().await;
                    break (None, stopped);
                }
                Ended::ClosedByServer(error) => {
                    live.transport.stop().await;
                    break (error, None);
                }
                Ended::Lost(error) => {
                    live.transport.cut();
                    match self.reconnect(error).await {
                        Ok(again) => live = again,
                        Err(given_up) => break given_up,
                    }
                }
            }
        };
        *self.shared.identity() = Identity::default();
        *self.shared.commands() = None;
        // Commands that came too late are answered by their dropping.
        self.commands.close();
        self.shared.state.send_replace(HubConnectionState::Disconnected);
        let text = error.map(|error| error.to_string());
        self.shared.handlers.tell(|lifecycle| &lifecycle.closed, text.as_deref());
        drop(stopped);
    }

    fn up(&mut self, live: &Live) {
        *self.shared.identity() = Identity { connection_id: live.connection_id.clone(), transport: Some(live.kind) };
        self.deaf = false;
        self.shared.state.send_replace(HubConnectionState::Connected);
    }

    /// Tries again as the policy says. The error: why the connection is over, and who waits for its stop.
    async fn reconnect(
        &mut self,
        error: Option<ClientError>,
    ) -> Result<Live, (Option<ClientError>, Option<oneshot::Sender<()>>)> {
        let Some(policy) = self.shared.config.reconnect.clone() else { return Err((error, None)) };
        let (lost_at, mut previous_retry_count) = (Instant::now(), 0);
        let mut delay = next_delay(&policy, lost_at, previous_retry_count);
        if delay.is_none() {
            return Err((error, None));
        }
        self.shared.state.send_replace(HubConnectionState::Reconnecting);
        let text = error.as_ref().map(ToString::to_string);
        self.shared.handlers.tell(|lifecycle| &lifecycle.reconnecting, text.as_deref());
        while let Some(wait) = delay {
            let shared = Arc::clone(&self.shared);
            let attempt = async {
                tokio::time::sleep(wait).await;
                Box::pin(connect::connect(&shared.config)).await
            };
            let connected = tokio::select! {
                biased;
                stopped = self.stopped() => return Err((None, stopped)),
                connected = attempt => connected,
            };
            match connected {
                Ok(live) => {
                    self.up(&live);
                    let id = live.connection_id.clone();
                    self.shared.handlers.tell(|lifecycle| &lifecycle.reconnected, id.as_deref());
                    return Ok(live);
                }
                Err(error) => tracing::debug!(%error, "reconnecting failed"),
            }
            previous_retry_count += 1;
            delay = next_delay(&policy, lost_at, previous_retry_count);
        }
        Err((None, None))
    }

    /// Waits for a stop; other commands are for a connection that is gone.
    async fn stopped(&mut self) -> Option<oneshot::Sender<()>> {
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Stop(stopped)) => return Some(stopped),
                    Some(_) => {}
                    None => return None,
                },
                _ = self.alive.changed() => return None,
            }
        }
    }

    /// Serves a live connection until it ends.
    async fn serve(&mut self, live: &mut Live) -> Ended {
        let mut lost = None;
        let mut timer = Box::pin(tokio::time::sleep(std::time::Duration::ZERO));
        loop {
            if let Some(end) = self.hand_out(live) {
                return ended(end, lost);
            }
            // The timer may fire early, never late: then the session is asked for nothing.
            let due = live.session.deadline().and_then(|due| live.origin.checked_add(due));
            let due = due.unwrap_or_else(|| Instant::now() + std::time::Duration::from_secs(3600));
            if timer.is_elapsed() || timer.deadline() > due {
                timer.as_mut().reset(due);
            }
            let read = self.held_up.is_none() && !self.deaf;
            let may_queue = live.transport.queued_bytes() < QUEUED_BYTES_MAX;
            tokio::select! {
                event = live.transport.drive(read) => match event {
                    Some(Event::Received(bytes)) => {
                        let now = live.now();
                        live.session.receive(&bytes, now);
                    }
                    Some(Event::Ended(error)) => {
                        lost = error;
                        self.held_up = None;
                        let now = live.now();
                        live.session.input_ended(now);
                    }
                    None => {}
                },
                command = self.commands.recv(), if may_queue => match command {
                    Some(Command::Stop(stopped)) => return self.say_goodbye(live, Some(stopped)),
                    Some(Command::Cut) => return Ended::Lost(Some(ClientError::Transport("cut on purpose".to_owned()))),
                    Some(command) => self.obey(command, live),
                    None => return self.say_goodbye(live, None),
                },
                _ = self.alive.changed() => return self.say_goodbye(live, None),
                () = make_room(&self.held_up) => self.deliver_held_up(),
                () = timer.as_mut() => {
                    // While nothing is read the server cannot be heard, so it is not given up.
                    if read {
                        let now = live.now();
                        live.session.timer(now);
                    } else {
                        timer.as_mut().reset(Instant::now() + std::time::Duration::from_secs(1));
                    }
                }
            }
        }
    }

    /// Takes what the session gives, as far as the streams have room; the session's end once everything is handed out.
    fn hand_out(&mut self, live: &mut Live) -> Option<End> {
        loop {
            while let Some(output) = live.session.next_output() {
                match output {
                    Output::Write(bytes) => live.transport.queue(bytes),
                    Output::Connected { .. } => {}
                    Output::Message(message) => self.inbox.push_back(message),
                    Output::Ended(end) => self.end = Some(end),
                }
            }
            if self.held_up.is_some() {
                return None;
            }
            match self.inbox.pop_front() {
                Some(message) => self.handle(message, live),
                None => return self.end.take(),
            }
        }
    }

    /// Writes the Close that a client sends when it stops (signalr-wire §11.5).
    fn say_goodbye(&self, live: &mut Live, stopped: Option<oneshot::Sender<()>>) -> Ended {
        live.session.close(Close::default());
        while let Some(output) = live.session.next_output() {
            if let Output::Write(bytes) = output {
                live.transport.queue(bytes);
            }
        }
        Ended::Stopped(stopped)
    }

    fn obey(&mut self, command: Command, live: &mut Live) {
        match command {
            Command::Call { framed, id, pending } => {
                let waiting = match pending {
                    Pending::Invocation(answer) => Waiting::Invocation(answer),
                    // The channel is fresh, so there is room for its last word.
                    Pending::Stream(items) => Waiting::Stream { last: items.clone().try_reserve_owned().ok(), items },
                };
                self.waiting.insert(id, waiting);
                self.write(framed, live);
            }
            Command::Bytes(bytes) => self.write(bytes, live),
            Command::Frame(frame) => live.transport.queue_frame(frame),
            Command::StopReading(stop) => self.deaf = stop,
            Command::Cut | Command::Stop(_) => {}
        }
    }

    fn write(&self, bytes: Bytes, live: &mut Live) {
        let now = live.now();
        if live.session.send_framed(bytes, now).is_err() {
            tracing::debug!("the session is over; a message is dropped");
        }
    }

    fn handle(&mut self, message: HubMessage, live: &mut Live) {
        match message {
            HubMessage::Invocation(invocation) => self.called(invocation, live),
            HubMessage::StreamItem(item) => {
                if let Some(Waiting::Stream { items, .. }) = self.waiting.get(&item.invocation_id)
                    && let Err(TrySendError::Full(Ok(raw))) = items.try_send(Ok(item.item))
                {
                    self.held_up = Some((items.clone(), raw));
                }
            }
            HubMessage::Completion(completion) => match self.waiting.remove(&completion.invocation_id) {
                Some(Waiting::Invocation(answer)) => {
                    let result = match completion.outcome {
                        Outcome::Error(error) if !error.is_empty() => Err(ClientError::Invocation(error)),
                        Outcome::Error(_) | Outcome::Void => Ok(None),
                        Outcome::Result(result) => Ok(Some(result)),
                    };
                    // Who no longer waits has lost its interest.
                    let _ = answer.send(result);
                }
                Some(Waiting::Stream { last, .. }) => {
                    if let (Outcome::Error(error), Some(last)) = (completion.outcome, last) {
                        last.send(Err(ClientError::Invocation(error)));
                    }
                }
                None => {}
            },
            _ => {}
        }
    }

    /// The hub calls a method here.
    fn called(&self, invocation: Invocation, live: &mut Live) {
        let protocol = self.shared.config.protocol;
        let handlers = self.shared.handlers.of(&invocation.target);
        let mut answering = None;
        for handler in handlers {
            match handler {
                Handler::Plain(run) => run(protocol, &invocation.arguments),
                Handler::Answering(run) => answering = Some(run(protocol, &invocation.arguments)),
            }
        }
        let Some(id) = invocation.invocation_id else { return };
        let Some(answering) = answering else {
            let refusal = Completion::error(id, "Client didn't provide a result.");
            self.write(protocol.to_bytes(&HubMessage::Completion(refusal)), live);
            return;
        };
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let completion = match answering.await {
                Ok(result) => Completion::result(id, result),
                Err(error) => Completion::error(id, error),
            };
            let framed = protocol.to_bytes(&HubMessage::Completion(completion));
            // A connection that is gone needs no answer.
            let _ = command(&shared, Command::Bytes(framed)).await;
        });
    }

    fn deliver_held_up(&mut self) {
        if let Some((items, raw)) = self.held_up.take()
            && let Err(TrySendError::Full(Ok(raw))) = items.try_send(Ok(raw))
        {
            self.held_up = Some((items, raw));
        }
    }

    fn fail_waiting(&mut self) {
        self.held_up = None;
        self.inbox.clear();
        self.end = None;
        for (_, waiting) in self.waiting.drain() {
            if let Waiting::Stream { last: Some(last), .. } = waiting {
                last.send(Err(ClientError::Canceled));
            }
        }
    }
}

/// Waits until the stream that holds everything up has room, or is dropped.
async fn make_room(held_up: &Option<(mpsc::Sender<Item>, Bytes)>) {
    match held_up {
        Some((items, _)) => drop(items.reserve().await),
        None => std::future::pending().await,
    }
}

fn next_delay(policy: &ReconnectPolicy, lost_at: Instant, previous_retry_count: usize) -> Option<std::time::Duration> {
    policy(RetryContext { previous_retry_count, elapsed: lost_at.elapsed() })
}

/// What the end of the session means for the connection.
fn ended(end: End, lost: Option<String>) -> Ended {
    match end {
        End::PeerClosed(close) => {
            let error = close.error.filter(|text| !text.is_empty()).map(ClientError::ServerClosed);
            if close.allow_reconnect { Ended::Lost(error) } else { Ended::ClosedByServer(error) }
        }
        End::Timeout => Ended::Lost(Some(ClientError::ServerTimeout)),
        End::Protocol(error) => Ended::Lost(Some(ClientError::Protocol(error.to_string()))),
        End::Framing(error) => Ended::Lost(Some(ClientError::Protocol(error.to_string()))),
        _ => Ended::Lost(lost.map(ClientError::Transport)),
    }
}
