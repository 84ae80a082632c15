//! Close codes: those of WebSockets on both sides. WebTransport's own default, 0, means 1000.

use crate::edge::End;

/// Bytes of a reason in a WebSocket close frame.
const REASON_BYTES_MAX: usize = 123;
/// A normal end.
pub(super) const NORMAL: u16 = 1000;
/// A page was closed, a server stops.
pub(super) const GOING_AWAY: u16 = 1001;
/// What a WebSocket calls a close frame without a code; never in a frame, but here it can be said.
const NO_CODE: u16 = 1005;
/// The hub was lost without a close frame; never in a frame either.
const LOST: u16 = 1006;
/// The gateway refuses to go on.
const REFUSED: u16 = 1011;

/// What the hub is told of a session's close: the code if it may stand in a close frame, else 1000.
pub(super) fn to_hub(code: u32, reason: &str) -> (u16, String) {
    let code = match u16::try_from(code) {
        Ok(code @ (1000..=1003 | 1007..=1014 | 3000..=4999)) => code,
        _ => NORMAL,
    };
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    (code, reason.get(..end).unwrap_or_default().to_owned())
}

/// What the client is told of its connection's end; `said` where a Close message went before.
pub(super) fn to_client(end: End, hub: Option<(u16, String)>, said: bool) -> (u16, String) {
    match (end, hub) {
        (End::HubClosed, Some(close)) => close,
        (End::HubClosed, None) => (NO_CODE, String::new()),
        (End::HubLost, _) => (LOST, "The hub's connection was lost.".to_owned()),
        (End::Refused, _) => (REFUSED, "The gateway cannot pass a message of the hub on.".to_owned()),
        (End::Drained, _) if said => (NORMAL, String::new()),
        (End::Drained, _) => (GOING_AWAY, "The gateway is stopping.".to_owned()),
        (End::ClientClosed | End::ClientGone, _) => (NORMAL, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn er_h4_codes_that_a_close_frame_may_hold_are_passed_on() {
        for (code, told) in [
            (0, 1000),
            (1000, 1000),
            (1001, 1001),
            (1004, 1000),
            (1005, 1000),
            (1006, 1000),
            (1011, 1011),
            (1015, 1000),
            (2999, 1000),
            (3000, 3000),
            (4999, 4999),
            (5000, 1000),
            (u32::MAX, 1000),
        ] {
            assert_eq!(to_hub(code, "why"), (told, "why".to_owned()), "{code}");
        }
        let long = to_hub(0, &"ä".repeat(200)).1;
        assert_eq!(long, "ä".repeat(61), "cut between letters, within 123 bytes");
    }

    #[test]
    fn a_client_is_told_how_its_connection_ended() {
        assert_eq!(to_client(End::HubClosed, Some((4001, "x".to_owned())), true), (4001, "x".to_owned()));
        assert_eq!(to_client(End::HubClosed, None, true).0, 1005);
        assert_eq!(to_client(End::HubLost, None, true).0, 1006);
        assert_eq!(to_client(End::Drained, None, true).0, 1000);
        assert_eq!(to_client(End::Drained, None, false).0, 1001);
        assert_eq!(to_client(End::Refused, None, false).0, 1011);
    }
}
