//! `hubgate demo`: the gateway in front of the embedded hubs, with a page to try every transport.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use hubgate_fixtures::demo;
use hubgate_gateway::Gateway;
use hubgate_gateway::config::{Config, Environment};

use crate::cli::complain;
use crate::log;
use crate::serve::told_to_stop;

/// What `hubgate demo` takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DemoArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

/// The gateway's configuration: all transports before hubs that themselves have WebSockets only.
fn configuration(listen: SocketAddr, hub: SocketAddr) -> String {
    format!(
        r#"[[listener]]
address = "{listen}"

[backend.embedded]
servers = ["http://{hub}"]

[[route]]
name = "demo"
hubs = "/"
backend = "embedded"
transports = ["WebSockets", "ServerSentEvents", "LongPolling"]

[admin]
address = "127.0.0.1:0"
"#
    )
}

/// Runs until told to stop.
pub(crate) async fn run(args: &DemoArgs) -> ExitCode {
    let hub = match demo::server().bind(SocketAddr::from(([127, 0, 0, 1], 0))).await {
        Ok(hub) => hub,
        Err(error) => return complain(&error),
    };
    let text = configuration(args.listen, hub.local_addr());
    let config = match Config::parse(&text, std::path::Path::new(""), &Environment::none()) {
        Ok(config) => config,
        Err(error) => return complain(&error),
    };
    log::start(&config.log);
    let gateway = match Gateway::start(Arc::new(config)).await {
        Ok(gateway) => gateway,
        Err(error) => return complain(&error),
    };
    for url in gateway.urls() {
        println!("listening on {url}");
        println!();
        println!("  Open     {url}/   in two tabs, choose a transport in each, and chat.");
        if let Some(admin) = gateway.admin_address() {
            println!("  Watch    http://{admin}/metrics   while you do.");
        }
        println!("  Connect  any SignalR client to {url}/contract (methods: docs/guide/contract-hub.md).");
        println!(
            "  Next     hubgate serve --listen {url_host} --backend http://127.0.0.1:5000",
            url_host = args.listen
        );
        println!("           puts the gateway before your own application.");
        println!();
        println!("Ctrl-C ends it.");
    }
    told_to_stop().await;
    gateway.stop().await;
    hub.shutdown().await;
    ExitCode::SUCCESS
}
