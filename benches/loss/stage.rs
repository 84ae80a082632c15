//! What is measured: at one end of the link a gateway with TLS and WebTransport and an embedded hub behind it; the clients are at the
//! other.
//!
//! Invariant: both processes end with [`Stage`], and with the link at the latest.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use hubgate_client::{ClientError, HubConnection, Transport};
use hubgate_fixtures::certificates::{CertificateAuthority, CertificateError};
use hubgate_fixtures::link::{End, Link};

/// Where the gateway listens, TCP and UDP.
const PORT: u16 = 8443;
/// Where the hub listens, on the loopback device of its end.
const HUB: &str = "127.0.0.1:5000";

/// Why the stage could not be set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("hubgate does not build")]
    Build,
    #[error("{name} ended before it listened: {told}")]
    NotListening { name: &'static str, told: String },
    #[error("the end {0:?} of the link does not take the settings for TCP")]
    Settings(End),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A gateway and a hub that run.
#[derive(Debug)]
pub(crate) struct Stage {
    url: String,
    tls: Arc<rustls::ClientConfig>,
    _gateway: Process,
    _hub: Process,
    _files: tempfile::TempDir,
}

impl Stage {
    /// Starts both and waits until they listen.
    pub(crate) fn set(link: &Link, hubgate: Option<&Path>, root: &Path) -> Result<Self, Error> {
        for end in [End::A, End::B] {
            prepare_tcp(link, end)?;
        }
        let hubgate = hubgate.map_or_else(|| build(root), |given| Ok(given.to_path_buf()))?;
        let files = tempfile::tempdir()?;
        let authority = CertificateAuthority::new()?;
        let address = Link::address(End::A).to_string();
        authority.issue(&[&address])?.write_to(files.path())?;
        let config = files.path().join("hubgate.toml");
        std::fs::write(&config, configuration(&address))?;
        let mut hub = link.command(End::A, &hubgate);
        hub.args(["hub", "--listen", HUB]).stdout(Stdio::piped());
        let hub = Process::start("hubgate hub", hub)?;
        let mut gateway = link.command(End::A, &hubgate);
        gateway.arg("serve").arg("--config").arg(&config).stderr(Stdio::piped());
        let gateway = Process::start("hubgate serve", gateway)?;
        let tls = authority.client_config(&["http/1.1"])?;
        let url = format!("https://{address}:{PORT}/contract");
        Ok(Self { url, tls, _gateway: gateway, _hub: hub, _files: files })
    }

    /// A connection over one transport, not started.
    pub(crate) fn connection(&self, transport: Transport) -> Result<HubConnection, ClientError> {
        HubConnection::builder(&self.url).transport(transport).tls(Arc::clone(&self.tls)).build()
    }
}

fn configuration(address: &str) -> String {
    format!(
        r#"[[listener]]
address = "{address}:{PORT}"
tls = {{ certificates = [{{ certificate_file = "certificate.pem", key_file = "key.pem" }}] }}
web_transport = {{}}

[backend.hub]
servers = ["http://{HUB}"]

[[route]]
name = "hub"
hub = "/contract"
backend = "hub"
"#
    )
}

/// Cubic on both ends, as quinn has it and as most systems do, whatever the kernel's own default is, and by the route, since namespaces
/// may not choose every algorithm; and nothing that one connection learns of the network is kept for the next.
fn prepare_tcp(link: &Link, end: End) -> Result<(), Error> {
    let settings =
        "ip route replace 10.77.0.0/30 dev link0 congctl cubic && echo 1 > /proc/sys/net/ipv4/tcp_no_metrics_save";
    let status = link.command(end, "sh").args(["-c", settings]).status()?;
    if status.success() { Ok(()) } else { Err(Error::Settings(end)) }
}

/// Builds the release binary and yields its path.
fn build(root: &Path) -> Result<PathBuf, Error> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["build", "--release", "--quiet", "--package", "hubgate", "--bin", "hubgate"]);
    if !cargo.stdout(io::stderr()).status()?.success() {
        return Err(Error::Build);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/hubgate"))
}

/// A program that has said that it listens.
#[derive(Debug)]
struct Process(Child);

impl Process {
    /// Starts a command with one piped output and reads that until the line that it listens.
    fn start(name: &'static str, mut command: Command) -> Result<Self, Error> {
        let mut process = Self(command.stdin(Stdio::null()).spawn()?);
        let output: Option<Box<dyn io::Read + Send>> = match (process.0.stdout.take(), process.0.stderr.take()) {
            (Some(stdout), _) => Some(Box::new(stdout)),
            (None, Some(stderr)) => Some(Box::new(stderr)),
            (None, None) => None,
        };
        let mut lines = BufReader::new(output.ok_or_else(|| io::Error::other("no output is piped"))?).lines();
        let mut told = String::new();
        loop {
            let Some(line) = lines.next().transpose()? else { return Err(Error::NotListening { name, told }) };
            if line.starts_with("listening on ") {
                break;
            }
            told.push_str(&line);
            told.push('\n');
        }
        // What it says later is passed on; without a reader it would stop at a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{name}: {line}")));
        Ok(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
