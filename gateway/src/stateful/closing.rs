//! The end of a kept connection: what each side is told, and for how long its answer is waited for.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use hubgate_protocol::HubMessage;
use hubgate_protocol::message::Close;

use super::pump::{Pump, opcode};
use crate::relay::Outcome;

/// How long a peer has to finish its side (as the reference's `CloseTimeout`).
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// What a client is told at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Nothing: it is not there.
    Nothing,
    /// A close frame at once.
    Close(Option<(u16, String)>),
    /// What the hub has said before, then its close frame.
    AfterMessages(Option<(u16, String)>),
    /// What the hub has said before, then a Close that tells it to come back, then 1000 (rule E4).
    ComeBack,
    /// A Close with an error at once, past all that waits, then 1000.
    Error,
    /// The same, with the reason.
    Because(String),
}

/// What a hub is told at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ToHub {
    /// Nothing: its client is lost, or it is lost itself.
    Reset,
    /// A close frame.
    Close(Option<(u16, String)>),
}

/// How far the end has got.
#[derive(Debug)]
pub(super) struct Closing {
    outcome: Outcome,
    farewell: Farewell,
    to_hub: ToHub,
    client_told: bool,
    client_shut: bool,
    hub_told: bool,
    hub_done: bool,
    /// The time for an orderly end is over.
    pub(super) hurry: bool,
}

impl Closing {
    pub(super) fn new(outcome: Outcome, farewell: Farewell, to_hub: ToHub) -> Self {
        Self {
            outcome,
            farewell,
            to_hub,
            client_told: false,
            client_shut: false,
            hub_told: false,
            hub_done: false,
            hurry: false,
        }
    }
}

impl Pump {
    /// Goes on with the end; resolves when both sides are done or the time is over.
    pub(super) fn close(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(mut closing) = self.closing.take() else { return Poll::Pending };
        let hub_done = self.close_hub(cx, &mut closing);
        let client_done = self.close_client(cx, &mut closing);
        let outcome = closing.outcome;
        let over = closing.hurry || (hub_done && client_done);
        if closing.hurry
            && let Some(client) = &mut self.client
        {
            client.cut();
        }
        self.closing = Some(closing);
        if over { Poll::Ready(outcome) } else { Poll::Pending }
    }

    fn close_hub(&mut self, cx: &mut Context<'_>, closing: &mut Closing) -> bool {
        if closing.hub_done {
            return true;
        }
        if !closing.hub_told {
            closing.hub_told = true;
            match &closing.to_hub {
                ToHub::Reset => {
                    self.hub.socket.cut();
                    closing.hub_done = true;
                }
                ToHub::Close(close) => {
                    self.hub.socket.put_close(close.as_ref().map(|(code, reason)| (*code, reason.as_str())));
                }
            }
        }
        if closing.hub_done {
            return true;
        }
        match self.hub.socket.flush(cx) {
            Poll::Pending => return false,
            Poll::Ready(Err(_)) => closing.hub_done = true,
            Poll::Ready(Ok(())) => {}
        }
        closing.hub_done |= closing.outcome == Outcome::HubClosed || self.hub.socket.drain(cx).is_ready();
        closing.hub_done
    }

    fn close_client(&mut self, cx: &mut Context<'_>, closing: &mut Closing) -> bool {
        if !closing.client_told {
            let waits = matches!(closing.farewell, Farewell::AfterMessages(_) | Farewell::ComeBack);
            if waits && self.client.is_some() {
                let written = self.write_client(cx);
                let unsaid = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.has_unwritten());
                match written {
                    Poll::Ready(false) => self.client = None,
                    Poll::Pending => return false,
                    // What must not be said yet comes when its time has come (rule I3).
                    Poll::Ready(true) if unsaid => {
                        self.wake_at_deadline(cx);
                        return false;
                    }
                    Poll::Ready(true) => {}
                }
            }
            closing.client_told = true;
            self.say_farewell(&closing.farewell.clone());
        }
        let Some(client) = &mut self.client else { return true };
        match client.flush(cx) {
            Poll::Pending => return false,
            Poll::Ready(Err(_)) => {
                self.client = None;
                return true;
            }
            Poll::Ready(Ok(())) => {}
        }
        if !closing.client_shut {
            match client.shut(cx) {
                Poll::Pending => return false,
                Poll::Ready(_) => closing.client_shut = true,
            }
        }
        // Its stream is read to the end so that the farewell is not lost to a reset.
        closing.outcome == Outcome::ClientClosed || client.drain(cx).is_ready()
    }

    fn say_farewell(&mut self, farewell: &Farewell) {
        let (protocol, said_close) = (self.protocol(), self.hub.said_close);
        let connected = self.endpoint.is_some();
        let Some(client) = &mut self.client else { return };
        let mut message = BytesMut::new();
        let close = match farewell {
            Farewell::Nothing => return,
            Farewell::Close(close) | Farewell::AfterMessages(close) => {
                client.put_close(close.as_ref().map(|(code, reason)| (*code, reason.as_str())));
                return;
            }
            Farewell::ComeBack => Close::reconnect(),
            Farewell::Error => Close::with_error(None),
            Farewell::Because(reason) => Close::with_error(Some(reason)),
        };
        if !connected {
            client.put_close(Some((1001, "")));
            return;
        }
        if !said_close {
            protocol.write(&HubMessage::Close(close), &mut message);
            client.put(opcode(protocol), &message);
        }
        client.put_close(Some((1000, "")));
    }
}
