//! How often something may happen: a bucket that fills evenly and holds two seconds' worth.

use core::time::Duration;

/// A bucket of resumes (rule A7).
#[derive(Debug)]
pub struct ResumeRate {
    /// Time that refills one place; `None` when nothing is ever granted.
    interval: Option<Duration>,
    /// Places of a full bucket.
    places: u32,
    /// When the bucket will be full again.
    full_at: Duration,
}

impl ResumeRate {
    /// A full bucket that grants so many a second.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self {
            interval: Duration::from_secs(1).checked_div(per_second),
            places: per_second.saturating_mul(2),
            full_at: Duration::ZERO,
        }
    }

    /// Takes a place if there is one.
    pub fn take(&mut self, now: Duration) -> bool {
        let Some(interval) = self.interval else { return false };
        let full_at = self.full_at.max(now).saturating_add(interval);
        let granted = full_at.saturating_sub(now) <= interval.saturating_mul(self.places);
        if granted {
            self.full_at = full_at;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seconds_worth_at_once_then_evenly() {
        let mut rate = ResumeRate::new(5);
        let at = Duration::from_millis;
        assert_eq!((0..20).filter(|_| rate.take(at(1_000))).count(), 10);
        assert!(!rate.take(at(1_199)));
        assert!(rate.take(at(1_200)));
        assert!(!rate.take(at(1_200)));
        assert_eq!((0..20).filter(|_| rate.take(at(9_000))).count(), 10);
    }

    #[test]
    fn none_per_second_is_never() {
        assert!(!ResumeRate::new(0).take(Duration::MAX));
    }
}
