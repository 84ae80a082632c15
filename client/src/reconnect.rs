//! When to try again after a connection was lost (signalr-wire §13).

use std::sync::Arc;
use std::time::Duration;

/// What a policy knows when it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryContext {
    /// Attempts made so far for this loss.
    pub previous_retry_count: usize,
    /// Time since the loss.
    pub elapsed: Duration,
}

/// Gives the delay before the next attempt, or `None` to give up.
pub(crate) type ReconnectPolicy = Arc<dyn Fn(RetryContext) -> Option<Duration> + Send + Sync>;

/// The official clients' delays: 0, 2, 10 and 30 seconds, then no more.
pub(crate) fn default_policy() -> ReconnectPolicy {
    delays(&[0, 2, 10, 30].map(Duration::from_secs))
}

/// Those delays, then no more.
pub(crate) fn delays(delays: &[Duration]) -> ReconnectPolicy {
    let delays = delays.to_vec();
    Arc::new(move |context| delays.get(context.previous_retry_count).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_gives_up_after_four_attempts() {
        let policy = default_policy();
        let delay = |previous_retry_count| policy(RetryContext { previous_retry_count, elapsed: Duration::ZERO });
        assert_eq!(
            [0, 1, 2, 3, 4].map(delay),
            [Some(0), Some(2), Some(10), Some(30), None].map(|delay| delay.map(Duration::from_secs))
        );
    }
}
