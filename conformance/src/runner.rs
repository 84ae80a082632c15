//! Runs cases against a target, many at once: most of them wait most of the time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::failure::{Outcome, Problem};
use crate::target::Target;

/// Cases that run at the same time.
const AT_ONCE: usize = 28;

/// A case of the table.
#[derive(Clone, Copy)]
pub struct Case {
    /// The id with its suffix, as in `conformance-cases.md`.
    pub id: &'static str,
    /// The function's name.
    pub name: &'static str,
    /// When it runs.
    pub run: Run,
    /// Its function.
    pub function: fn(Target) -> Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {}", self.id, self.name)
    }
}

/// When a case runs and for how long at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Always; it takes a moment.
    Quick,
    /// Always; it waits up to that many seconds for a time-out of the server.
    Waits(u64),
    /// Only when long cases are asked for (`HUBGATE_LONG=1`).
    Long(u64),
}

impl Case {
    /// Whether the reference is known to do something worse than what the case demands.
    #[must_use]
    pub fn is_defect_of_reference(&self) -> bool {
        self.id.ends_with('!')
    }

    fn limit(&self, target: &Target) -> Duration {
        match self.run {
            Run::Quick => target.seconds(45),
            Run::Waits(seconds) | Run::Long(seconds) => target.seconds(seconds + 25),
        }
    }
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It failed, with what was expected and seen.
    Failed(String),
    /// It failed where the reference is known to; the text says how.
    FailedAsKnown(String),
    /// It was not run, for a reason that is written down: in `cases.toml`, or it takes long.
    Skipped(String),
    /// It could not be run on this target, which lacks something; in CI that is a failure.
    Unable(String),
}

/// A case with its verdict.
#[derive(Debug, Clone)]
pub struct Report {
    /// The id.
    pub id: &'static str,
    /// The function's name.
    pub name: &'static str,
    /// What became of it.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// Runs all `cases` and reports in their order. `skipped` gives a reason not to run a case on this target.
pub async fn run(
    target: &Target,
    cases: &[Case],
    long: bool,
    skipped: impl Fn(&Case) -> Option<String>,
) -> Vec<Report> {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    let mut order: Vec<(usize, Case)> = cases.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, case)| std::cmp::Reverse(case.limit(target)));
    let mut reports: Vec<(usize, Report)> = Vec::new();
    for (index, case) in order {
        let reason = match case.run {
            Run::Long(_) if !long => Some("takes long: runs with HUBGATE_LONG=1".to_owned()),
            _ => skipped(&case),
        };
        if let Some(reason) = reason {
            let verdict = Verdict::Skipped(reason);
            reports.push((index, Report { id: case.id, name: case.name, verdict, took: Duration::ZERO }));
            continue;
        }
        let (target, room) = (target.clone(), Arc::clone(&room));
        running.spawn(async move {
            let _place = room.acquire_owned().await;
            (index, run_one(target, case).await)
        });
    }
    while let Some(done) = running.join_next().await {
        match done {
            Ok(report) => reports.push(report),
            // A panic in a case is a mistake in the case; it must not pass unseen.
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
    reports.sort_by_key(|(index, _)| *index);
    reports.into_iter().map(|(_, report)| report).collect()
}

async fn run_one(target: Target, case: Case) -> Report {
    let began = Instant::now();
    let (limit, gateway) = (case.limit(&target), target.gateway);
    let outcome = tokio::time::timeout(limit, (case.function)(target)).await;
    let known = case.is_defect_of_reference() && !gateway;
    let verdict = match outcome {
        Ok(Ok(())) if known => Verdict::Failed("passes at the reference, where it is known to fail".into()),
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(failure)) if matches!(failure.problem, Problem::Skipped(_)) => Verdict::Unable(failure.to_string()),
        Ok(Err(failure)) if known => Verdict::FailedAsKnown(failure.to_string()),
        Ok(Err(failure)) => Verdict::Failed(failure.to_string()),
        Err(_) => Verdict::Failed(format!("not finished within {limit:?}")),
    };
    Report { id: case.id, name: case.name, verdict, took: began.elapsed() }
}

/// Writes one line for each report and the totals.
#[must_use]
pub fn table(reports: &[Report]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut totals = [0_u32; 4];
    for report in reports {
        let (at, word, more) = match &report.verdict {
            Verdict::Passed => (0, "pass", ""),
            Verdict::FailedAsKnown(how) => (1, "known", how.as_str()),
            Verdict::Skipped(reason) => (2, "skip", reason.as_str()),
            Verdict::Unable(reason) => (2, "skip", reason.as_str()),
            Verdict::Failed(how) => (3, "FAIL", how.as_str()),
        };
        if let Some(total) = totals.get_mut(at) {
            *total += 1;
        }
        let seconds = report.took.as_secs_f32();
        let _ = writeln!(text, "{word:5} {:8} {seconds:5.1} s {} {more}", report.id, report.name);
    }
    let [passed, known, skipped, failed] = totals;
    let _ = write!(text, "{passed} passed, {known} failed as known, {skipped} skipped, {failed} failed");
    text
}
