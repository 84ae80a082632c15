//! [`HubConnection`]: what an application holds.
//!
//! Invariant: every method works on the state it finds and none blocks: while the connection is not up, sending fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hubgate_protocol::{HubProtocol, Transport};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot, watch};

use crate::builder::{Config, HubConnectionBuilder};
use crate::call::{Call, ItemStream};
use crate::connect;
use crate::error::ClientError;
use crate::handlers::{Handler, Handlers};
use crate::misbehave::Misbehave;
use crate::payload;
use crate::task::{self, Command};

/// Commands that wait for the connection's task.
const COMMANDS_MAX: usize = 64;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubConnectionState {
    /// Not started, stopped, or lost for good.
    Disconnected,
    /// `start` is under way.
    Connecting,
    /// Up.
    Connected,
    /// Lost, and trying again.
    Reconnecting,
}

/// What handle and task share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) handlers: Handlers,
    pub(crate) state: watch::Sender<HubConnectionState>,
    pub(crate) identity: Mutex<Identity>,
    next_id: AtomicU64,
    commands: Mutex<Option<mpsc::Sender<Command>>>,
}

/// Who the connection is at present.
#[derive(Debug, Default, Clone)]
pub(crate) struct Identity {
    pub(crate) connection_id: Option<String>,
    pub(crate) transport: Option<Transport>,
}

impl Shared {
    pub(crate) fn identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn commands(&self) -> MutexGuard<'_, Option<mpsc::Sender<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh invocation or stream id.
    pub(crate) fn next_id(&self) -> String {
        self.next_id.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

/// A connection to a hub; clones are the same connection. It ends when the last clone is dropped.
#[derive(Clone)]
pub struct HubConnection {
    shared: Arc<Shared>,
    /// Closes, when the last clone goes, what tells the task that nobody is there any more.
    _alive: Arc<watch::Sender<()>>,
}

impl std::fmt::Debug for HubConnection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HubConnection").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl HubConnection {
    /// Starts to build a connection to the hub at `url`.
    #[must_use]
    pub fn builder(url: &str) -> HubConnectionBuilder {
        HubConnectionBuilder::new(url)
    }

    pub(crate) fn new(config: Config) -> Self {
        let shared = Shared {
            config,
            handlers: Handlers::default(),
            state: watch::channel(HubConnectionState::Disconnected).0,
            identity: Mutex::default(),
            next_id: AtomicU64::new(0),
            commands: Mutex::new(None),
        };
        Self { shared: Arc::new(shared), _alive: Arc::new(watch::channel(()).0) }
    }

    /// Connects: negotiate, transport, handshake.
    ///
    /// # Errors
    /// When the connection is started already, or what went wrong. A start that fails is not tried again by itself.
    pub async fn start(&self) -> Result<(), ClientError> {
        let free = self.shared.state.send_if_modified(|state| {
            let free = *state == HubConnectionState::Disconnected;
            if free {
                *state = HubConnectionState::Connecting;
            }
            free
        });
        if !free {
            return Err(ClientError::NotDisconnected);
        }
        // A start that is given up leaves the connection free again.
        let giving_up = GivenUp(&self.shared);
        let live = Box::pin(connect::connect(&self.shared.config)).await?;
        std::mem::forget(giving_up);
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        *self.shared.commands() = Some(commands);
        task::spawn(Arc::clone(&self.shared), live, receiver, self._alive.subscribe());
        Ok(())
    }

    /// Ends the connection in an orderly way; returns when it is over.
    pub async fn stop(&self) {
        let (stopped, done) = oneshot::channel();
        if self.command(Command::Stop(stopped)).await.is_ok() {
            // The task drops the sender when it ends, which is all there is to wait for.
            let _ = done.await;
        }
    }

    /// Starts a call of the hub's method `target`; see [`Call`].
    pub fn call<'a>(&'a self, target: &'a str) -> Call<'a> {
        Call::new(&self.shared, target)
    }

    /// Calls a method and waits for its result. `arguments`: a tuple, a list, or `()`.
    ///
    /// # Errors
    /// The hub's error text, or why the call could not be made.
    pub async fn invoke<R: DeserializeOwned>(&self, target: &str, arguments: impl Serialize) -> Result<R, ClientError> {
        self.call(target).arguments(arguments)?.invoke().await
    }

    /// Calls a method without waiting for anything.
    ///
    /// # Errors
    /// Why the call could not be made.
    pub async fn send(&self, target: &str, arguments: impl Serialize) -> Result<(), ClientError> {
        self.call(target).arguments(arguments)?.send().await
    }

    /// Calls a method that answers with a stream.
    ///
    /// # Errors
    /// Why the call could not be made; what the hub says comes through the stream.
    pub async fn stream<T: DeserializeOwned>(
        &self,
        target: &str,
        arguments: impl Serialize,
    ) -> Result<ItemStream<T>, ClientError> {
        self.call(target).arguments(arguments)?.stream().await
    }

    /// Runs `handler` when the hub calls `target`, on the connection's own task: it must not block. Calls whose arguments are of
    /// other types are passed over.
    pub fn on<A, F>(&self, target: &str, handler: F)
    where
        A: DeserializeOwned,
        F: Fn(A) + Send + Sync + 'static,
    {
        let plain = move |protocol: HubProtocol, raw: &bytes::Bytes| match payload::read_arguments(protocol, raw) {
            Ok(arguments) => handler(arguments),
            Err(error) => tracing::debug!(%error, "arguments do not fit the handler"),
        };
        self.shared.handlers.add(target, Handler::Plain(Arc::new(plain)));
    }

    /// Answers the hub's calls of `target` (client results); an `Err` becomes the hub's exception.
    pub fn on_with_result<A, R, F, T>(&self, target: &str, handler: F)
    where
        A: DeserializeOwned,
        T: Serialize,
        F: Fn(A) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, String>> + Send + 'static,
    {
        let answering = move |protocol: HubProtocol, raw: &bytes::Bytes| -> crate::handlers::Answering {
            let answer = payload::read_arguments(protocol, raw).map(&handler);
            Box::pin(async move {
                match answer {
                    Ok(answer) => payload::value(protocol, &answer.await?).map_err(|error| error.to_string()),
                    Err(_) => Err("Client failed to parse argument(s).".to_owned()),
                }
            })
        };
        self.shared.handlers.add(target, Handler::Answering(Arc::new(answering)));
    }

    /// Removes every handler of `target`.
    pub fn off(&self, target: &str) {
        self.shared.handlers.remove(target);
    }

    /// Runs `handler` when the connection was lost and is tried again, with the error.
    pub fn on_reconnecting(&self, handler: impl Fn(Option<&str>) + Send + Sync + 'static) {
        self.shared.handlers.lifecycle().reconnecting.push(Arc::new(handler));
    }

    /// Runs `handler` when the connection is up again, with its new id.
    pub fn on_reconnected(&self, handler: impl Fn(Option<&str>) + Send + Sync + 'static) {
        self.shared.handlers.lifecycle().reconnected.push(Arc::new(handler));
    }

    /// Runs `handler` when the connection is over, with the error that ended it.
    pub fn on_closed(&self, handler: impl Fn(Option<&str>) + Send + Sync + 'static) {
        self.shared.handlers.lifecycle().closed.push(Arc::new(handler));
    }

    /// The connection id; none while not connected, or when negotiation was skipped.
    #[must_use]
    pub fn connection_id(&self) -> Option<String> {
        self.shared.identity().connection_id.clone()
    }

    /// The transport in use; none while not connected.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        self.shared.identity().transport
    }

    /// Where the connection stands.
    #[must_use]
    pub fn state(&self) -> HubConnectionState {
        *self.shared.state.borrow()
    }

    /// Waits until the connection stands there.
    pub async fn wait_for(&self, wanted: HubConnectionState) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.shared.state.subscribe().wait_for(|state| *state == wanted).await;
    }

    /// Does what no client should.
    #[must_use]
    pub fn misbehave(&self) -> Misbehave<'_> {
        Misbehave(self)
    }

    pub(crate) async fn command(&self, command: Command) -> Result<(), ClientError> {
        task::command(&self.shared, command).await
    }
}

/// Frees the connection when its start fails or is dropped.
struct GivenUp<'a>(&'a Shared);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.state.send_replace(HubConnectionState::Disconnected);
    }
}
