//! One call of a hub's method: arguments, streams that go along, and how the answer is taken.
//!
//! Invariant: whatever ends a call on this side tells the hub: a stream that is dropped is cancelled, an upload that is dropped fails.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{Stream, StreamExt};
use hubgate_protocol::message::{CancelInvocation, Completion, Invocation, StreamInvocation, StreamItem};
use hubgate_protocol::{HubMessage, HubProtocol};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use crate::connection::Shared;
use crate::error::ClientError;
use crate::payload;
use crate::task::{self, Command, Pending};

/// Raw items of an upload.
type RawItems = Pin<Box<dyn Stream<Item = Result<Bytes, ClientError>> + Send>>;

/// A call under construction.
#[must_use = "a call does nothing until it is invoked, sent or streamed"]
pub struct Call<'a> {
    shared: &'a Arc<Shared>,
    target: &'a str,
    arguments: Option<Bytes>,
    uploads: Vec<RawItems>,
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Call").field("target", &self.target).finish_non_exhaustive()
    }
}

impl<'a> Call<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, target: &'a str) -> Self {
        Self { shared, target, arguments: None, uploads: Vec::new() }
    }

    /// Sets the arguments: a tuple, a list, or `()`. Streams are not among them.
    ///
    /// # Errors
    /// When they cannot be written, or are no list.
    pub fn arguments(mut self, arguments: impl Serialize) -> Result<Self, ClientError> {
        self.arguments = Some(payload::arguments(self.protocol(), &arguments)?);
        Ok(self)
    }

    /// Adds a stream for the method's next stream parameter.
    pub fn upload<T: Serialize>(mut self, items: impl Stream<Item = T> + Send + 'static) -> Self {
        let protocol = self.protocol();
        self.uploads.push(Box::pin(items.map(move |item| payload::value(protocol, &item))));
        self
    }

    /// Calls and waits for the result, while the uploads go out.
    ///
    /// # Errors
    /// The hub's error text, or why the call could not be made.
    pub async fn invoke<R: DeserializeOwned>(mut self) -> Result<R, ClientError> {
        let (id, stream_ids) = (self.shared.next_id(), self.stream_ids());
        let (answer, answered) = oneshot::channel();
        let message = HubMessage::Invocation(Invocation {
            invocation_id: Some(id.clone()),
            target: self.target.to_owned(),
            arguments: self.raw_arguments()?,
            stream_ids: stream_ids.clone(),
            ..Invocation::default()
        });
        let framed = self.protocol().to_bytes(&message);
        task::command(self.shared, Command::Call { framed, id, pending: Pending::Invocation(answer) }).await?;
        let uploads = std::mem::take(&mut self.uploads);
        let uploading = Box::pin(upload_all(self.shared, stream_ids, uploads));
        let mut answered = answered;
        let result = tokio::select! {
            biased;
            result = &mut answered => result,
            () = uploading => answered.await,
        };
        payload::read(self.protocol(), result.map_err(|_| ClientError::Canceled)??.as_ref())
    }

    /// Calls without waiting for an answer; returns when the uploads are out.
    ///
    /// # Errors
    /// Why the call could not be made.
    pub async fn send(mut self) -> Result<(), ClientError> {
        let stream_ids = self.stream_ids();
        let message = HubMessage::Invocation(Invocation {
            target: self.target.to_owned(),
            arguments: self.raw_arguments()?,
            stream_ids: stream_ids.clone(),
            ..Invocation::default()
        });
        task::command(self.shared, Command::Bytes(self.protocol().to_bytes(&message))).await?;
        upload_all(self.shared, stream_ids, self.uploads).await;
        Ok(())
    }

    /// Calls a method that answers with a stream, while the uploads go out in the background.
    ///
    /// # Errors
    /// Why the call could not be made.
    pub async fn stream<T: DeserializeOwned>(mut self) -> Result<ItemStream<T>, ClientError> {
        let (id, stream_ids) = (self.shared.next_id(), self.stream_ids());
        let (items, received) = mpsc::channel(self.shared.config.stream_items_max + 1);
        let message = HubMessage::StreamInvocation(StreamInvocation {
            invocation_id: id.clone(),
            target: self.target.to_owned(),
            arguments: self.raw_arguments()?,
            stream_ids: stream_ids.clone(),
            ..StreamInvocation::default()
        });
        let framed = self.protocol().to_bytes(&message);
        let call = Command::Call { framed, id: id.clone(), pending: Pending::Stream(items) };
        task::command(self.shared, call).await?;
        if !self.uploads.is_empty() {
            let (shared, uploads) = (Arc::clone(self.shared), self.uploads);
            tokio::spawn(async move { upload_all(&shared, stream_ids, uploads).await });
        }
        let protocol = self.shared.config.protocol;
        let cancel = Some(Cancel { shared: Arc::clone(self.shared), id });
        Ok(ItemStream { received, protocol, cancel, item: PhantomData })
    }

    fn protocol(&self) -> HubProtocol {
        self.shared.config.protocol
    }

    fn raw_arguments(&mut self) -> Result<Bytes, ClientError> {
        match self.arguments.take() {
            Some(arguments) => Ok(arguments),
            None => payload::arguments(self.protocol(), &()),
        }
    }

    fn stream_ids(&self) -> Vec<String> {
        self.uploads.iter().map(|_| self.shared.next_id()).collect()
    }
}

/// Sends every upload to its end, all at once.
async fn upload_all(shared: &Shared, ids: Vec<String>, uploads: Vec<RawItems>) {
    join_all(ids.into_iter().zip(uploads).map(|(id, items)| upload(shared, id, items))).await;
}

async fn upload(shared: &Shared, id: String, mut items: RawItems) {
    let protocol = shared.config.protocol;
    let mut completion = Completion::void(id.as_str());
    while let Some(item) = items.next().await {
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                completion = Completion::error(id.as_str(), error.to_string());
                break;
            }
        };
        let message = StreamItem { invocation_id: id.clone(), item, ..StreamItem::default() };
        let framed = protocol.to_bytes(&HubMessage::StreamItem(message));
        if task::command(shared, Command::Bytes(framed)).await.is_err() {
            return;
        }
    }
    let framed = protocol.to_bytes(&HubMessage::Completion(completion));
    // A connection that is gone needs no end of its streams.
    let _ = task::command(shared, Command::Bytes(framed)).await;
}

/// The items that a hub's method streams. Dropping it cancels the stream.
#[derive(Debug)]
pub struct ItemStream<T> {
    received: mpsc::Receiver<Result<Bytes, ClientError>>,
    protocol: HubProtocol,
    cancel: Option<Cancel>,
    item: PhantomData<fn() -> T>,
}

/// Cancels a stream when dropped.
struct Cancel {
    shared: Arc<Shared>,
    id: String,
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Cancel").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> ItemStream<T> {
    /// Waits for the next item; none at the end.
    ///
    /// # Errors
    /// The hub's error text, [`ClientError::Canceled`] when the connection ended first, or an item of another type. An error is
    /// the last there is.
    pub async fn next(&mut self) -> Option<Result<T, ClientError>> {
        let received = self.received.recv().await;
        let item = match received {
            Some(Ok(item)) => payload::read(self.protocol, Some(&item)),
            Some(Err(error)) => {
                self.cancel = ended(self.cancel.take());
                return Some(Err(error));
            }
            None => {
                self.cancel = ended(self.cancel.take());
                return None;
            }
        };
        Some(item)
    }

    /// Collects all items.
    ///
    /// # Errors
    /// As [`ItemStream::next`].
    pub async fn collect(mut self) -> Result<Vec<T>, ClientError> {
        let mut items = Vec::new();
        while let Some(item) = self.next().await {
            items.push(item?);
        }
        Ok(items)
    }

    /// Cancels the stream; what is under way still arrives, then the end.
    pub fn cancel(&mut self) {
        self.cancel = None;
    }
}

/// A stream that has ended needs no cancellation.
fn ended(cancel: Option<Cancel>) -> Option<Cancel> {
    if let Some(mut cancel) = cancel {
        cancel.id.clear();
    }
    None
}

impl Drop for Cancel {
    fn drop(&mut self) {
        if self.id.is_empty() {
            return;
        }
        let message = CancelInvocation { invocation_id: self.id.clone(), ..CancelInvocation::default() };
        let framed = self.shared.config.protocol.to_bytes(&HubMessage::CancelInvocation(message));
        task::command_later(&self.shared, Command::Bytes(framed));
    }
}
