//! Runs the table of cases against one pair of servers and judges the reports.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test module; the lints' own exemption sees test functions only"
)]

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use hubgate_conformance::runner::{self, Verdict};
use hubgate_conformance::servers::{Error, Servers};
use hubgate_conformance::{cases, map};

/// Suites run one after the other: each fills the machine, and half of the cases look at times.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A pair of servers.
pub(crate) struct Suite {
    /// ASP.NET Core's major version.
    pub(crate) version: u8,
    /// The gateway's program.
    pub(crate) gateway: Option<PathBuf>,
}

/// The gateway's program: `HUBGATE_BIN`, or the one beside the test programs.
#[allow(dead_code, reason = "only one of the two test programs has a gateway")]
pub(crate) fn hubgate() -> PathBuf {
    std::env::var_os("HUBGATE_BIN").map_or_else(
        || {
            let own = std::env::current_exe().unwrap();
            own.parent().and_then(|deps| deps.parent()).unwrap().join("hubgate")
        },
        PathBuf::from,
    )
}

/// Runs all cases; panics when one fails. With `HUBGATE_CI` set, what cannot be run fails too: no .NET, say.
pub(crate) fn run(suite: Suite) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = suite.gateway.as_ref().filter(|program| !program.exists()) {
        panic!("{} is missing: cargo build", program.display());
    }
    let servers = match Servers::find(suite.version, suite.gateway) {
        Ok(servers) => servers,
        Err(error @ (Error::NoDotnet | Error::NotBuilt(_))) if std::env::var_os("HUBGATE_CI").is_none() => {
            println!("skipped: {error}; with HUBGATE_CI set this is a failure");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let long = std::env::var_os("HUBGATE_LONG").is_some();
    let entries = map::entries().unwrap();
    let reports = runtime.block_on(async {
        let running = servers.start().await.unwrap();
        let gateway = running.target.gateway;
        let table = cases::all();
        runner::run(&running.target, &table, long, |case| {
            let entry = entries.get(case.id)?;
            gateway.then(|| entry.not_through_gateway.clone()).flatten()
        })
        .await
    });
    println!("{}", runner::table(&reports));
    let strict = std::env::var_os("HUBGATE_CI").is_some();
    let failed: Vec<_> = reports
        .into_iter()
        .filter(|report| match report.verdict {
            Verdict::Failed(_) => true,
            Verdict::Unable(_) => strict,
            Verdict::Passed | Verdict::FailedAsKnown(_) | Verdict::Skipped(_) => false,
        })
        .collect();
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), runner::table(&failed));
}
