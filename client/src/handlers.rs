//! What runs when the server calls.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hubgate_protocol::HubProtocol;

/// The future of a client result: its raw value, or the error text.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

/// Takes the raw arguments of a call.
type OnCall = Arc<dyn Fn(HubProtocol, &Bytes) + Send + Sync>;
/// Answers the raw arguments of a call.
type OnQuestion = Arc<dyn Fn(HubProtocol, &Bytes) -> Answering + Send + Sync>;
/// Takes an error's text or a connection id.
type OnEvent = Arc<dyn Fn(Option<&str>) + Send + Sync>;

/// A handler of one method.
#[derive(Clone)]
pub(crate) enum Handler {
    /// Takes calls.
    Plain(OnCall),
    /// Answers calls.
    Answering(OnQuestion),
}

/// What is told about the connection itself.
#[derive(Default)]
pub(crate) struct Lifecycle {
    pub(crate) reconnecting: Vec<OnEvent>,
    pub(crate) reconnected: Vec<OnEvent>,
    pub(crate) closed: Vec<OnEvent>,
}

/// The handlers of a connection. Methods are found whatever their letter case.
#[derive(Default)]
pub(crate) struct Handlers {
    methods: Mutex<HashMap<String, Vec<Handler>>>,
    lifecycle: Mutex<Lifecycle>,
}

impl Handlers {
    pub(crate) fn add(&self, target: &str, handler: Handler) {
        let mut methods = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        methods.entry(target.to_lowercase()).or_default().push(handler);
    }

    pub(crate) fn remove(&self, target: &str) {
        self.methods.lock().unwrap_or_else(PoisonError::into_inner).remove(&target.to_lowercase());
    }

    pub(crate) fn of(&self, target: &str) -> Vec<Handler> {
        let methods = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        methods.get(&target.to_lowercase()).cloned().unwrap_or_default()
    }

    pub(crate) fn lifecycle(&self) -> MutexGuard<'_, Lifecycle> {
        self.lifecycle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the handlers that `which` picks.
    pub(crate) fn tell(&self, which: fn(&Lifecycle) -> &Vec<OnEvent>, text: Option<&str>) {
        // Handlers may register handlers, so the lock is not held while they run.
        let handlers = which(&self.lifecycle()).clone();
        for handler in handlers {
            handler(text);
        }
    }
}
