//! What a case says when the server did something else.
//!
//! Invariant: a failure carries what was expected and what was seen, so that nobody has to run it again to know.

use std::fmt::{Debug, Display};

use crate::wire;

/// Result of a case or of a step in it.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a case did not pass.
#[derive(Debug, thiserror::Error)]
#[error("{}{problem}", steps.iter().rev().map(|step| format!("{step}: ")).collect::<String>())]
pub struct Failure {
    /// The steps that led here, the innermost first.
    pub steps: Vec<String>,
    /// What went wrong there.
    pub problem: Problem,
}

/// The kinds of failure.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Something else was seen than expected.
    #[error("expected {expected}, saw {seen}")]
    Mismatch {
        /// What had to be observed.
        expected: String,
        /// What was observed.
        seen: String,
    },
    /// The talk with the server broke down.
    #[error("{0}")]
    Wire(#[from] wire::Error),
    /// The target lacks what the case needs; not a failure of the server.
    #[error("skipped: {0}")]
    Skipped(String),
}

impl<E: Into<Problem>> From<E> for Failure {
    fn from(problem: E) -> Self {
        Self { steps: Vec::new(), problem: problem.into() }
    }
}

/// Adds the step at which something failed.
pub trait Step<T> {
    /// Names the step.
    ///
    /// # Errors
    /// The same failure with the step in front of it.
    fn step(self, name: impl Display) -> Outcome<T>;
}

impl<T, E: Into<Failure>> Step<T> for Result<T, E> {
    fn step(self, name: impl Display) -> Outcome<T> {
        self.map_err(|error| {
            let mut failure = error.into();
            failure.steps.push(name.to_string());
            failure
        })
    }
}

/// A mismatch, for checks that [`same`] cannot express.
///
/// # Errors
/// Always.
pub fn mismatch<T>(what: impl Display, expected: impl Display, seen: impl Display) -> Outcome<T> {
    let problem = Problem::Mismatch { expected: expected.to_string(), seen: seen.to_string() };
    Err(Failure { steps: vec![what.to_string()], problem })
}

/// Requires that two values are equal.
///
/// # Errors
/// A mismatch when they are not.
pub fn same<T: Debug + PartialEq<U>, U: Debug>(what: impl Display, expected: T, seen: U) -> Outcome {
    if expected == seen { Ok(()) } else { mismatch(what, format!("{expected:?}"), format!("{seen:?}")) }
}

/// Requires that a statement holds.
///
/// # Errors
/// A mismatch that shows `seen` when it does not.
pub fn holds(what: impl Display, holds: bool, seen: impl Debug) -> Outcome {
    if holds { Ok(()) } else { mismatch(what, "that it holds", format!("{seen:?}")) }
}

/// Ends a case because the target lacks what it needs.
///
/// # Errors
/// Always.
pub fn skip<T>(reason: impl Display) -> Outcome<T> {
    Err(Problem::Skipped(reason.to_string()).into())
}
