//! Long polls: one pending at a time, the newest wins (signalr-wire §5.4); an answer that was lost is not.
//!
//! A poll's answer is handed over when its last byte was given to the client's connection. One that was not goes back to
//! the front of the outbox. One that was is kept until the next poll: a browser, an HTTP library or a proxy whose reused
//! connection broke before the answer came sends the same request again, without the client's knowledge, and gets the same
//! bytes.
//!
//! Invariant: what a client can have read is not sent to it twice. When it cannot be told whether a poll is a repetition,
//! it is none.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::outbox::Outbox;
use super::{Edge, Taken};
use crate::query::Query;
use crate::visit::{Client, Fate};

/// A client that has waited that long for an answer takes another time stamp for its next poll, however coarse its clock.
const STAMPS_DIFFER_AFTER: Duration = Duration::from_millis(200);
/// How long a poll that may be a repetition waits for news of the connection that the last answer went to.
const NEWS_WAIT: Duration = Duration::from_millis(20);

/// How a poll is answered.
#[derive(Debug)]
pub(crate) enum Poll {
    /// 200 with these messages; they are given back unless they are handed over.
    Messages(Bytes, Arc<Handover>),
    /// 200, empty: the answer of the first poll again.
    First,
    /// 200, empty: nothing came for the poll time-out.
    TimedOut,
    /// 204: a newer poll has taken over.
    Replaced,
    /// 204: the connection is over.
    Ended,
}

/// What tells a poll from others.
#[derive(Debug)]
pub(crate) struct Asked {
    query: u64,
    /// What JS and Java put into `_`: the time in milliseconds. .NET sends none.
    stamp: Option<u64>,
    client: Arc<Client>,
    came: Instant,
}

impl Asked {
    /// A poll that has just come, with this query, over that client connection.
    pub(crate) fn new(query: &str, client: &Arc<Client>) -> Self {
        static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self {
            query: HASHES.hash_one(query),
            stamp: Query::new(query).value("_").and_then(|stamp| stamp.parse().ok()),
            client: Arc::clone(client),
            came: Instant::now(),
        }
    }
}

/// What is remembered of the polls of one connection.
#[derive(Debug, Default)]
pub(super) struct Polls {
    newest: u32,
    /// The stamp of the poll before, and whether stamps have been seen to differ.
    stamp: Option<u64>,
    stamps_differ: bool,
    last: Option<Last>,
}

/// The last answer with messages, or that of the first poll.
#[derive(Debug)]
struct Last {
    number: u32,
    query: u64,
    stamped: bool,
    client: Arc<Client>,
    /// Empty for the first poll.
    messages: Bytes,
    /// It was so long in coming that the same stamp again can only be a repetition.
    late: bool,
    handed_over: bool,
}

/// Whether a poll is the last one again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Yes,
    No,
    /// It is if the last one's connection turns out to be broken.
    IfBroken,
}

impl Last {
    fn comes_again(&self, asked: &Asked) -> Again {
        if self.query != asked.query {
            return Again::No;
        }
        match self.client.fate() {
            // The first poll's answer is empty, which costs a client that has it only one more poll.
            _ if !self.stamped && !self.messages.is_empty() => Again::No,
            _ if self.stamped && self.late => Again::Yes,
            _ if Arc::ptr_eq(&self.client, &asked.client) => Again::No,
            // Clients that open a connection for each poll end each in good order, and have the answer.
            Fate::Closed => Again::No,
            Fate::Broken => Again::Yes,
            Fate::Open => Again::IfBroken,
        }
    }
}

impl Polls {
    /// Bytes of the answer that is kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.last.as_ref().map_or(0, |last| last.messages.len())
    }

    /// Forgets the answer that is kept.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Enters a poll; its number.
    fn enter(&mut self, stamp: Option<u64>) -> u32 {
        self.newest = self.newest.wrapping_add(1);
        self.stamps_differ |= stamp.is_some() && self.stamp.is_some() && self.stamp != stamp;
        self.stamp = stamp;
        self.newest
    }

    fn keep(&mut self, number: u32, asked: &Asked, messages: Bytes) {
        self.last = Some(Last {
            number,
            query: asked.query,
            // A client whose stamp is always the same cannot be told from one that repeats itself.
            stamped: asked.stamp.is_some() && (self.stamps_differ || messages.is_empty()),
            client: Arc::clone(&asked.client),
            late: asked.came.elapsed() >= STAMPS_DIFFER_AFTER,
            handed_over: messages.is_empty(),
            messages,
        });
    }

    /// Whether the last answer is still on its way.
    fn is_handing_over(&self) -> bool {
        self.last.as_ref().is_some_and(|last| !last.handed_over)
    }

    fn repeat(&mut self, number: u32, asked: &Asked) -> Option<Bytes> {
        let last = self.last.as_mut()?;
        last.number = number;
        last.client = Arc::clone(&asked.client);
        last.handed_over = last.messages.is_empty();
        Some(last.messages.clone())
    }
}

/// An answer on its way: what was not [`handed_over`](Self::handed_over) when this is dropped goes back to the outbox.
#[derive(Debug)]
pub(crate) struct Handover {
    edge: Arc<Edge>,
    client: Arc<Client>,
    number: u32,
}

impl Handover {
    /// All bytes were written to the client's connection; its next flush hands them over.
    pub(crate) fn written(self: Arc<Self>) {
        let client = Arc::clone(&self.client);
        client.has_written(self);
    }

    /// All bytes have left us.
    pub(crate) fn handed_over(&self) {
        self.edge.handed_over(self.number);
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.edge.take_back(self.number);
    }
}

/// Marks the connection as polled while a poll is pending; also when the client gives the poll up.
struct Pending<'a> {
    edge: &'a Edge,
    number: u32,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.edge.outbox().polls.newest == self.number {
            self.edge.last_poll.store(self.edge.clock.now(), Relaxed);
        }
    }
}

impl Edge {
    /// Notes the first poll, which is answered at once.
    pub(crate) fn first_poll(&self, asked: &Asked) {
        let mut outbox = self.outbox();
        let number = outbox.polls.enter(asked.stamp);
        outbox.polls.keep(number, asked, Bytes::new());
    }

    /// Waits for messages, a newer poll, the end or the time-out.
    pub(crate) async fn poll(self: &Arc<Self>, asked: &Asked) -> Poll {
        let number = self.outbox().polls.enter(asked.stamp);
        self.last_poll.store(u32::MAX, Relaxed);
        self.out_ready.notify_waiters();
        let _pending = Pending { edge: self, number };
        let deadline = Instant::now() + self.bounds.poll_timeout;
        let news_until = Instant::now() + NEWS_WAIT;
        loop {
            let ready = self.out_ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            let until = match self.look(number, asked, Instant::now() < news_until) {
                Look::Answer(poll) => return poll,
                Look::Wait => deadline,
                Look::WaitForNews => news_until.min(Instant::now() + NEWS_WAIT / 4),
            };
            if tokio::time::timeout_at(until, ready).await.is_err() && until == deadline {
                return Poll::TimedOut;
            }
        }
    }

    /// Looks what poll `number` can be answered with.
    fn look(self: &Arc<Self>, number: u32, asked: &Asked, news_may_come: bool) -> Look {
        let look = self.with_outbox(|outbox| {
            if outbox.polls.newest != number {
                return Look::Answer(Poll::Replaced);
            }
            if outbox.polls.is_handing_over() {
                return Look::Wait;
            }
            match outbox.polls.last.as_ref().map_or(Again::No, |last| last.comes_again(asked)) {
                Again::Yes => return self.repeated(outbox, number, asked),
                Again::IfBroken if news_may_come => return Look::WaitForNews,
                Again::IfBroken | Again::No => outbox.polls.forget(),
            }
            match outbox.take() {
                Taken::Messages(messages) => {
                    outbox.polls.keep(number, asked, messages.clone());
                    Look::Answer(self.handing_over(messages, number, asked))
                }
                Taken::Ended(_) => Look::Answer(Poll::Ended),
                Taken::Nothing => Look::Wait,
            }
        });
        if matches!(look, Look::Answer(Poll::Messages(..))) {
            self.out_room.notify_waiters();
        }
        look
    }

    fn repeated(self: &Arc<Self>, outbox: &mut Outbox, number: u32, asked: &Asked) -> Look {
        let messages = outbox.polls.repeat(number, asked).unwrap_or_default();
        tracing::debug!(bytes = messages.len(), "a poll's answer was lost: it is given again");
        self.traffic.repeated_polls.inc();
        Look::Answer(if messages.is_empty() { Poll::First } else { self.handing_over(messages, number, asked) })
    }

    fn handing_over(self: &Arc<Self>, messages: Bytes, number: u32, asked: &Asked) -> Poll {
        let (edge, client) = (Arc::clone(self), Arc::clone(&asked.client));
        Poll::Messages(messages, Arc::new(Handover { edge, client, number }))
    }

    /// The answer of that poll has left us.
    fn handed_over(&self, number: u32) {
        if let Some(last) = self.outbox().polls.last.as_mut().filter(|last| last.number == number) {
            last.handed_over = true;
        }
        self.out_ready.notify_waiters();
    }

    /// The answer of that poll was not handed over: its messages wait again, before all others.
    fn take_back(&self, number: u32) {
        let taken_back = self.with_outbox(|outbox| {
            let lost = outbox.polls.last.take_if(|last| last.number == number && !last.handed_over);
            lost.map(|last| outbox.put_back(&last.messages))
        });
        if taken_back.is_some() {
            tracing::debug!("a poll's answer was not handed over: its messages wait again");
            self.traffic.returned_polls.inc();
            self.out_ready.notify_waiters();
        }
    }

    /// Forgets the last answer, though it may be asked for again: memory is short (rule F1).
    pub(crate) fn forget_answer(&self) {
        self.with_outbox(|outbox| {
            if !outbox.polls.is_handing_over() {
                outbox.polls.forget();
            }
        });
    }
}

/// What a look gave.
enum Look {
    Answer(Poll),
    /// For messages, the end, or the last answer's handing over.
    Wait,
    /// For news of the last answer's connection.
    WaitForNews,
}
