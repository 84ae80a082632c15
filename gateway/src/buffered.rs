//! The account of bytes that wait for slow peers, over all connections (rule F1).
//!
//! Whoever holds bytes adds them here and takes them off again. A connection that holds any is not read from its hub
//! anyway; above `limits.buffered_bytes_max` the connections that have waited longest are given up until a quarter of the
//! room is free again.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;

/// Bytes that wait, and how many may.
#[derive(Debug, Default)]
pub(crate) struct Buffered {
    bytes: AtomicUsize,
    /// 0 until it is set.
    max: AtomicUsize,
    over: Notify,
    given_up: AtomicU64,
}

impl Buffered {
    /// Sets the bound, at start and at each reload.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// Adds bytes that have begun to wait.
    pub(crate) fn add(&self, bytes: usize) {
        let total = self.bytes.fetch_add(bytes, Relaxed) + bytes;
        let max = self.max.load(Relaxed);
        if max != 0 && total > max {
            self.over.notify_one();
        }
    }

    /// Takes off bytes that wait no longer.
    pub(crate) fn sub(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    /// Corrects what one holder has, from `before` to `after`.
    pub(crate) fn change(&self, before: usize, after: usize) {
        if after > before {
            self.add(after - before);
        } else if before > after {
            self.sub(before - after);
        }
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Waits until too many bytes wait.
    pub(crate) async fn overflow(&self) {
        loop {
            let notified = self.over.notified();
            if self.excess() > 0 {
                return;
            }
            notified.await;
        }
    }

    /// How many bytes must go, so that a quarter of the room is free; 0 while the bound is kept.
    pub(crate) fn excess(&self) -> usize {
        let (bytes, max) = (self.bytes(), self.max.load(Relaxed));
        if max == 0 || bytes <= max { 0 } else { bytes - (max - max / 4) }
    }

    /// Counts connections given up; the count so far.
    pub(crate) fn gave_up(&self, connections: usize) -> u64 {
        self.given_up.fetch_add(connections as u64, Relaxed) + connections as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn er_f1_too_many_bytes_are_told_and_a_quarter_is_freed() {
        let buffered = Buffered::default();
        buffered.add(1_000);
        assert_eq!(buffered.excess(), 0, "no bound is set");
        buffered.set_max(800);
        buffered.change(1_000, 900);
        assert_eq!(buffered.excess(), 300);
        buffered.overflow().await;
        buffered.sub(300);
        assert_eq!((buffered.bytes(), buffered.excess()), (600, 0));
    }
}
