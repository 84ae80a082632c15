//! What can be wrong with a configuration.
//!
//! Invariant: a problem names the setting, the value it has (never a secret's) and what to write instead.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Why a configuration is not taken.
#[derive(Debug, Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The configuration file, or a file that it names.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is no TOML, or a setting in it is unknown or of the wrong kind.
    #[error("line {line}: {message}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong and, where it can be said, what to write.
        message: String,
    },
    /// Settings are readable but cannot be meant.
    #[error("{}", problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid {
        /// All of them.
        problems: Vec<Problem>,
    },
}

/// One setting that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting: `limits.header_bytes_max`, `route "chat": hub`.
    pub setting: String,
    /// Its value as it stands there; `None` for secrets and for what is missing.
    pub value: Option<String>,
    /// What to write instead.
    pub fix: String,
}

impl Problem {
    pub(super) fn new(setting: impl Into<String>, value: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { setting: setting.into(), value: Some(value.into()), fix: fix.into() }
    }

    pub(super) fn without_value(setting: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { setting: setting.into(), value: None, fix: fix.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(out, "{} = {value}: {}", self.setting, self.fix),
            None => write!(out, "{}: {}", self.setting, self.fix),
        }
    }
}
