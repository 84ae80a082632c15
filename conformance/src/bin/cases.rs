//! Runs the cases against a server and prints a table.
//!
//! Exit status 0 when nothing failed, 1 when something did, 2 when the server could not be started.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hubgate_conformance::runner::{self, Verdict};
use hubgate_conformance::servers::{Servers, patience};
use hubgate_conformance::target::Target;
use hubgate_conformance::{cases, map};

/// Runs SignalR conformance cases against the contract hub, straight or behind a gateway.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address of a running server (http://host:port); without it the ASP.NET Core application is started.
    #[arg(long)]
    url: Option<String>,
    /// Address of the same server for HTTP/2 with prior knowledge (host:port).
    #[arg(long)]
    http2: Option<String>,
    /// With --url: the server is a gateway.
    #[arg(long)]
    gateway: bool,
    /// Without --url: a gateway's program, started in front of the application.
    #[arg(long)]
    program: Option<PathBuf>,
    /// ASP.NET Core's major version, 10 or 8.
    #[arg(long, default_value_t = 10)]
    aspnet: u8,
    /// Only cases whose id begins with one of these (NEG, or NEG-01); may be repeated.
    #[arg(long)]
    filter: Vec<String>,
    /// Runs the long cases too.
    #[arg(long)]
    long: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (target, _running) = match &arguments.url {
        Some(url) => (running_target(&arguments, url), None),
        None => {
            let servers = Servers::find(arguments.aspnet, arguments.program.clone());
            let started = match servers {
                Ok(servers) => servers.start().await,
                Err(error) => Err(error),
            };
            match started {
                Ok(running) => (running.target.clone(), Some(running)),
                Err(error) => {
                    eprintln!("{error}");
                    return ExitCode::from(2);
                }
            }
        }
    };
    let wanted = |id: &str| arguments.filter.is_empty() || arguments.filter.iter().any(|start| id.starts_with(start));
    let chosen: Vec<_> = cases::all().into_iter().filter(|case| wanted(case.id)).collect();
    let entries = map::entries().unwrap_or_default();
    let reports = runner::run(&target, &chosen, arguments.long, |case| {
        let entry = entries.get(case.id)?;
        target.gateway.then(|| entry.not_through_gateway.clone()).flatten()
    })
    .await;
    println!("{}", runner::table(&reports));
    let failed = reports.iter().any(|report| matches!(report.verdict, Verdict::Failed(_)));
    ExitCode::from(u8::from(failed))
}

fn running_target(arguments: &Arguments, url: &str) -> Target {
    Target {
        address: url.trim_start_matches("http://").trim_end_matches('/').to_owned(),
        http2_address: arguments.http2.clone(),
        gateway: arguments.gateway,
        version: arguments.aspnet,
        short_address: None,
        servers: None,
        patience: patience(),
    }
}
