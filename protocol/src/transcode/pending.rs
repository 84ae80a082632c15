//! Which calls and upload streams have hints for what is still to come.
//!
//! Invariant: what is kept is bounded in bytes; calls to targets without hints take no room.

use std::collections::BTreeMap;

use super::Error;

/// Most bytes of ids, entries counted with [`ENTRY_BYTES`] each, that one connection keeps.
const PENDING_BYTES_MAX: usize = 256 * 1024;
const ENTRY_BYTES: usize = 64;

/// An upload stream: number of the target, and of the stream in its call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Upload {
    pub(super) target: usize,
    pub(super) stream: u32,
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    client_calls: BTreeMap<String, usize>,
    hub_calls: BTreeMap<String, usize>,
    uploads: BTreeMap<String, Upload>,
    bytes: usize,
}

impl Pending {
    /// Keeps a call, of the client or of the hub, and its streams, if its target has hints.
    pub(super) fn called(
        &mut self,
        by_client: bool,
        id: Option<&str>,
        stream_ids: &[String],
        target: Option<usize>,
    ) -> Result<(), Error> {
        let Some(target) = target else { return Ok(()) };
        let streams = if by_client { stream_ids } else { &[] };
        let ids = id.into_iter().chain(streams.iter().map(String::as_str));
        let bytes: usize = ids.map(|id| id.len() + ENTRY_BYTES).sum();
        if self.bytes + bytes > PENDING_BYTES_MAX {
            return Err(Error::TooManyCalls);
        }
        if let Some(id) = id {
            let calls = if by_client { &mut self.client_calls } else { &mut self.hub_calls };
            if calls.insert(id.to_owned(), target).is_none() {
                self.bytes += id.len() + ENTRY_BYTES;
            }
        }
        for (stream, id) in (0..).zip(streams) {
            if self.uploads.insert(id.clone(), Upload { target, stream }).is_none() {
                self.bytes += id.len() + ENTRY_BYTES;
            }
        }
        Ok(())
    }

    pub(super) fn call(&self, by_client: bool, id: &str) -> Option<usize> {
        let calls = if by_client { &self.client_calls } else { &self.hub_calls };
        calls.get(id).copied()
    }

    pub(super) fn upload(&self, id: &str) -> Option<Upload> {
        self.uploads.get(id).copied()
    }

    /// Forgets a call, of the client or of the hub, or an upload stream of the client, that has ended; gives the
    /// target of the call.
    pub(super) fn completed(&mut self, by_client: bool, id: &str) -> Option<usize> {
        let calls = if by_client { &mut self.client_calls } else { &mut self.hub_calls };
        let found = calls.remove(id);
        let known = found.is_some() || (!by_client && self.uploads.remove(id).is_some());
        if known {
            self.bytes = self.bytes.saturating_sub(id.len() + ENTRY_BYTES);
        }
        found
    }
}
