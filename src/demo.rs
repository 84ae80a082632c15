//! `hubgate demo`: the gateway in front of the embedded hubs, with a page to try every transport, WebTransport included.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hubgate_fixtures::certificates::ServerCertificate;
use hubgate_fixtures::demo;
use hubgate_gateway::Gateway;
use hubgate_gateway::config::{Config, Environment};

use tempfile::TempDir;

use crate::cli::complain;
use crate::log;
use crate::serve::told_to_stop;

/// Browsers accept 14 days.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(13 * 86_400);

/// What `hubgate demo` takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DemoArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

/// The gateway's configuration: all transports before hubs that themselves have WebSockets only.
fn configuration(listen: SocketAddr, hub: SocketAddr, certificates: &Path) -> String {
    let directory = certificates.display();
    format!(
        r#"[[listener]]
address = "{listen}"
web_transport = {{ certificates = [{{ certificate_file = '{directory}/certificate.pem', key_file = '{directory}/key.pem' }}] }}

[backend.embedded]
servers = ["http://{hub}"]

[[route]]
name = "demo"
hubs = "/"
backend = "embedded"
transports = ["WebSockets", "ServerSentEvents", "LongPolling", "WebTransport"]

[admin]
address = "127.0.0.1:0"
"#
    )
}

/// A certificate for WebTransport as browsers accept it by its hash, in a directory that goes with the process.
fn fresh_certificate(listen: SocketAddr) -> io::Result<TempDir> {
    let directory = TempDir::with_prefix("hubgate-demo-")?;
    let own = listen.ip().to_string();
    let certificate =
        ServerCertificate::self_signed(&["localhost", "127.0.0.1", &own], SystemTime::now(), CERTIFICATE_LIFE);
    certificate.map_err(io::Error::other)?.write_to(directory.path())?;
    Ok(directory)
}

/// Runs until told to stop.
pub(crate) async fn run(args: &DemoArgs) -> ExitCode {
    let hub = match demo::server().bind(SocketAddr::from(([127, 0, 0, 1], 0))).await {
        Ok(hub) => hub,
        Err(error) => return complain(&error),
    };
    let certificates = match fresh_certificate(args.listen) {
        Ok(directory) => directory,
        Err(error) => return complain(&error),
    };
    let text = configuration(args.listen, hub.local_addr(), certificates.path());
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
