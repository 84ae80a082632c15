//! Runs seeded histories of stateful reconnect: `stateful-histories [--histories N] [--first SEED]`, replays one with
//! a trace: `--seed SEED`, or shows for every guard how many histories it takes to notice its absence: `--mutants`.
//!
//! Progress goes to standard error. Exit code 1 when a promise was broken, with the seed; or when a million histories
//! did not meet what they are for.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "not shipped"
)]

#[path = "../tests/stateful/history/root.rs"]
mod history;

use std::io::Write;
use std::process::ExitCode;

use history::{Mutant, Plan, Seen};

/// Histories within which every mutant must be noticed.
const HISTORIES_PER_MUTANT_MAX: u64 = 10_000;

/// What a million histories must have met more often than a thousand times.
const MET: [&str; 7] = [
    "cuts during the server's repetition",
    "cuts during the client's repetition",
    "torn tails",
    "Acks lost",
    "overflows",
    "overflows in the gap",
    "gaps beyond the window",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    if arguments.iter().any(|argument| argument == "--mutants") {
        return mutants(value("--first").unwrap_or(0));
    }
    match value("--seed") {
        Some(seed) => replay(seed),
        None => histories(value("--first").unwrap_or(0), value("--histories").unwrap_or(10_000)),
    }
}

fn histories(first: u64, count: u64) -> ExitCode {
    let mut seen = Seen::default();
    for seed in first..first + count {
        if (seed - first).is_multiple_of(50_000) {
            eprintln!("{} of {count} histories", seed - first);
        }
        if let Err(error) = history::run(&Plan::drawn(seed), None, &mut seen) {
            println!("seed {seed}: {error}");
            return replay(seed);
        }
    }
    let mut out = std::io::stdout().lock();
    for (name, met) in seen.all() {
        writeln!(out, "{met:>12} {name}").expect("standard output");
    }
    let unmet: Vec<_> = seen.all().into_iter().filter(|(name, met)| MET.contains(name) && *met <= 1_000).collect();
    if count >= 1_000_000 && !unmet.is_empty() {
        println!("met too seldom: {unmet:?}");
        return ExitCode::FAILURE;
    }
    println!("nothing lost, doubled or reordered");
    ExitCode::SUCCESS
}

/// Shows a history, then the least of it that still fails.
fn replay(seed: u64) -> ExitCode {
    let plan = Plan::drawn(seed);
    let (trace, outcome) = history::trace(&plan, None);
    let Err(error) = outcome else {
        println!("{plan:?}\n{}", trace.join("\n"));
        return ExitCode::SUCCESS;
    };
    let least = history::shrink(&plan, None);
    println!("seed {seed}, {} of {} steps: {error}\n{least:?}", least.ops.len(), plan.ops.len());
    println!("{}", history::trace(&least, None).0.join("\n"));
    ExitCode::FAILURE
}

fn mutants(first: u64) -> ExitCode {
    let mut survived = 0;
    println!("| Taken out | Histories until noticed | Steps of the shortest | What was noticed |\n|---|---|---|---|");
    for mutant in Mutant::all() {
        let killed = (first..first + HISTORIES_PER_MUTANT_MAX).find_map(|seed| {
            let plan = Plan::drawn(seed);
            history::run(&plan, Some(mutant), &mut Seen::default()).err().map(|error| (seed - first + 1, plan, error))
        });
        match killed {
            Some((count, plan, error)) => {
                let steps = history::shrink(&plan, Some(mutant)).ops.len();
                println!("| `{mutant:?}` | {count} | {steps} | {} |", error.split(" b\"").next().unwrap());
            }
            None => {
                survived += 1;
                println!("| `{mutant:?}` | never in {HISTORIES_PER_MUTANT_MAX} | | |");
            }
        }
    }
    if survived == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
