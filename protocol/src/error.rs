//! Why a hub message could not be read, and the text that the reference gives for it.
//!
//! Each parser has its own error; this one joins the two hub protocols for code that speaks both.

use crate::{json, messagepack};

/// A hub message that violates its protocol. Always fatal for the connection (signalr-wire §7).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The JSON protocol was violated (signalr-wire §8.4).
    #[error(transparent)]
    Json(#[from] json::Error),
    /// The MessagePack protocol was violated (signalr-wire §9.5).
    #[error(transparent)]
    MessagePack(#[from] messagepack::Error),
}

impl ParseError {
    /// The exception type and text that the reference shows with detailed errors: `InvalidDataException: …`.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Json(error) => format!("{}: {error}", error.exception()),
            Self::MessagePack(error) => format!("{}: {error}", error.exception()),
        }
    }
}
