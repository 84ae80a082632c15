//! The calls that a run makes and the exact bytes that must answer them. Every call carries its connection's name and its
//! own number, so that an answer that is lost, doubled, out of order or another connection's cannot pass for the right one.

/// Digits of a call's number.
const DIGITS: usize = 12;

/// Bytes of a message to the bare hub.
const BARE_BYTES: usize = 120;

/// A message with a call number in one or more places.
#[derive(Debug, Clone)]
struct Numbered {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Numbered {
    /// Takes a text in which each `#` stands for the number.
    fn new(pattern: &str) -> Self {
        let mut bytes = Vec::with_capacity(pattern.len() + 3 * DIGITS);
        let mut places = Vec::new();
        for byte in pattern.bytes() {
            if byte == b'#' {
                places.push(bytes.len());
                bytes.extend_from_slice(&[b'0'; DIGITS]);
            } else {
                bytes.push(byte);
            }
        }
        Self { bytes, places }
    }

    fn with_number(&mut self, number: u64) -> &[u8] {
        let mut digits = [b'0'; DIGITS];
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            if rest == 0 {
                break;
            }
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        for place in &self.places {
            if let Some(slot) = self.bytes.get_mut(*place..*place + DIGITS) {
                slot.copy_from_slice(&digits);
            }
        }
        &self.bytes
    }
}

/// Which hub answers, which decides what an answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HubKind {
    /// The bare hub: a call comes back as it was sent.
    Bare,
    /// The contract hub: `Echo` completes with its argument.
    Contract,
}

/// A call with its answer, both as JSON hub messages with their record separator.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    request: Numbered,
    reply: Numbered,
}

impl Call {
    /// `Echo` of a text that names `connection`. Towards the bare hub a message has [`BARE_BYTES`].
    pub(crate) fn echo(kind: HubKind, connection: usize) -> Self {
        match kind {
            HubKind::Bare => {
                let message =
                    |text: &str| format!("{{\"type\":1,\"target\":\"Echo\",\"arguments\":[\"{text}\"]}}\u{1e}");
                // The mark in the text grows to all its digits.
                let text_bytes = BARE_BYTES - message("").len() - (DIGITS - 1);
                let request = Numbered::new(&message(&padded(&format!("#/{connection:06}/"), text_bytes)));
                Self { reply: request.clone(), request }
            }
            HubKind::Contract => {
                let text = padded(&format!("#/{connection:06}/"), 40);
                Self {
                    request: Numbered::new(&format!(
                        "{{\"type\":1,\"invocationId\":\"#\",\"target\":\"Echo\",\"arguments\":[\"{text}\"]}}\u{1e}"
                    )),
                    reply: Numbered::new(&format!("{{\"type\":3,\"invocationId\":\"#\",\"result\":\"{text}\"}}\u{1e}")),
                }
            }
        }
    }

    /// `SendToAll` of a text that names the run; the reply is what each client then receives.
    pub(crate) fn broadcast(run: &str) -> Self {
        let text = padded(&format!("#/{run}/"), 90);
        Self {
            request: Numbered::new(&format!(
                "{{\"type\":1,\"target\":\"SendToAll\",\"arguments\":[\"{text}\"]}}\u{1e}"
            )),
            reply: Numbered::new(&format!("{{\"type\":1,\"target\":\"Broadcast\",\"arguments\":[\"{text}\"]}}\u{1e}")),
        }
    }

    /// The bytes to send for call `number`.
    pub(crate) fn request(&mut self, number: u64) -> &[u8] {
        self.request.with_number(number)
    }

    /// The bytes that must arrive for call `number`.
    pub(crate) fn reply(&mut self, number: u64) -> &[u8] {
        self.reply.with_number(number)
    }
}

fn padded(start: &str, length: usize) -> String {
    format!("{start:x<length$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_gives_its_own_message() {
        let mut call = Call::echo(HubKind::Contract, 7);
        let first = String::from_utf8(call.request(41).to_vec()).unwrap();
        assert!(first.contains("\"invocationId\":\"000000000041\""), "{first}");
        assert!(first.contains("[\"000000000041/000007/xxx"), "{first}");
        assert_ne!(call.request(42), first.as_bytes());
        let reply = String::from_utf8(call.reply(41).to_vec()).unwrap();
        assert!(
            reply.starts_with("{\"type\":3,\"invocationId\":\"000000000041\",\"result\":\"000000000041/000007/"),
            "{reply}"
        );
    }

    #[test]
    fn a_bare_message_has_120_bytes() {
        let mut call = Call::echo(HubKind::Bare, 199);
        assert_eq!(call.request(123_456).len(), 120);
        assert_eq!(call.request(9).to_vec(), call.reply(9));
    }
}
