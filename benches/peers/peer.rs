//! The peers: which there are, how each is started before a hub, and how it is ended, by its own process id.
//!
//! Invariant: a started process ends with its [`Running`], whatever happens to the run.

mod config;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{Probe, family};

/// How long a process may take until it accepts connections, or until it has ended.
const START_PATIENCE: Duration = Duration::from_secs(30);
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Why a peer or a hub could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0} is not installed")]
    Missing(String),
    #[error("{name} did not start, see {log}", log = log.display())]
    NotStarted { name: String, log: PathBuf },
    #[error("{name}: {error}")]
    Io { name: String, error: io::Error },
    #[error(transparent)]
    Line(#[from] crate::line::Error),
}

/// One row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// No proxy.
    Direct,
    /// A plain copy of bytes, see `tcp_copy`.
    TcpCopy,
    /// nginx as its usual recipe for SignalR has it: a new upstream connection for each request.
    Nginx,
    /// nginx with `keepalive` in its upstream block.
    NginxKeepalive,
    /// HAProxy in HTTP mode, one thread.
    Haproxy,
    /// YARP with its default threads.
    Yarp,
    /// hubgate with one worker thread.
    #[value(name = "hubgate-1")]
    HubgateOne,
    /// The same with clients that use stateful reconnect, which it terminates.
    #[value(name = "hubgate-1-stateful")]
    HubgateOneStateful,
    /// hubgate as it starts by default.
    Hubgate,
    /// hubgate with one worker thread, WebSockets over TLS; of the WebTransport case alone, as those that follow.
    #[value(name = "hubgate-1-tls")]
    HubgateOneTls,
    /// hubgate with one worker thread, WebTransport.
    #[value(name = "hubgate-1-webtransport")]
    HubgateOneWebTransport,
    /// An echo that knows no hub, see `web_transport_echo`.
    WebTransportEcho,
}

impl Peer {
    /// The peers of the WebTransport case in the order of its tables.
    pub(crate) const WEB_TRANSPORT: [Self; 4] =
        [Self::HubgateOne, Self::HubgateOneTls, Self::HubgateOneWebTransport, Self::WebTransportEcho];

    /// The peers of all other cases in the order of the tables.
    pub(crate) const ALL: [Self; 9] = [
        Self::Direct,
        Self::TcpCopy,
        Self::Nginx,
        Self::NginxKeepalive,
        Self::Haproxy,
        Self::Yarp,
        Self::HubgateOne,
        Self::HubgateOneStateful,
        Self::Hubgate,
    ];

    /// The name in tables and results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::TcpCopy => "TCP copy",
            Self::Nginx => "nginx",
            Self::NginxKeepalive => "nginx, keepalive",
            Self::Haproxy => "HAProxy",
            Self::Yarp => "YARP, default threads",
            Self::HubgateOne => "hubgate, 1 thread",
            Self::HubgateOneStateful => "hubgate, 1 thread, stateful reconnect",
            Self::Hubgate => "hubgate, default",
            Self::HubgateOneTls => "hubgate, 1 thread, WebSockets over TLS",
            Self::HubgateOneWebTransport => "hubgate, 1 thread, WebTransport",
            Self::WebTransportEcho => "wtransport, bare echo",
        }
    }

    /// Whether this is the product itself.
    pub(crate) fn is_hubgate(self) -> bool {
        matches!(
            self,
            Self::HubgateOne
                | Self::HubgateOneStateful
                | Self::Hubgate
                | Self::HubgateOneTls
                | Self::HubgateOneWebTransport
        )
    }

    /// Whether its clients use stateful reconnect.
    pub(crate) fn is_stateful(self) -> bool {
        self == Self::HubgateOneStateful
    }
}

/// Where the parts of a run lie.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// Configuration and logs of the started processes; may be deleted afterwards.
    pub(crate) scratch: PathBuf,
    /// The `hubgate` binary.
    pub(crate) hubgate: PathBuf,
    /// Arguments added to `hubgate serve`.
    pub(crate) hubgate_args: Vec<String>,
    /// The `dotnet` command; none when there is no .NET.
    pub(crate) dotnet: Option<PathBuf>,
    /// The built YARP application.
    pub(crate) yarp: Option<PathBuf>,
    /// The built contract hub.
    pub(crate) contract_hub: Option<PathBuf>,
}

/// A started process, or the hub itself for [`Peer::Direct`].
#[derive(Debug)]
pub(crate) struct Running {
    /// Where it accepts connections.
    pub(crate) address: SocketAddr,
    child: Option<Child>,
}

impl Running {
    /// The probe for a proxy before a hub.
    pub(crate) fn probe(&self, hub: &Self) -> Probe {
        Probe { proxy: self.pids(), hub: hub.pids() }
    }

    /// Its processes as they are now, children included.
    fn pids(&self) -> Vec<u32> {
        self.child.as_ref().map_or_else(Vec::new, |child| family(child.id()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // A polite signal first: a killed nginx master would leave its worker behind.
        let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        let deadline = Instant::now() + STOP_PATIENCE;
        while asked.is_ok() && Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if child.kill().is_ok() {
            drop(child.wait());
        }
    }
}

/// Starts a peer before the hub at `hub`; `tag` keeps the files of several starts apart.
pub(crate) fn start(peer: Peer, hub: SocketAddr, places: &Places, tag: &str) -> Result<Running, Error> {
    let name = format!("{}-{tag}", peer.name().replace([' ', ','], "-"));
    match peer {
        Peer::Direct => Ok(Running { address: hub, child: None }),
        Peer::TcpCopy => start_self(&["tcp-copy", &hub.to_string()], &name),
        Peer::Nginx | Peer::NginxKeepalive => start_nginx(peer == Peer::NginxKeepalive, hub, places, &name),
        Peer::Haproxy => {
            let address = free_address(&name)?;
            let file = write_config(places, &name, "haproxy.cfg", &config::haproxy(address, hub))?;
            let mut command = Command::new("haproxy");
            command.args(["-db", "-f"]).arg(file);
            start_command(command, address, places, &name)
        }
        Peer::Yarp => {
            let (dotnet, app) = both(&places.dotnet, &places.yarp, "YARP")?;
            let address = free_address(&name)?;
            let mut command = Command::new(dotnet);
            command.arg(app).args(["--urls", &format!("http://{address}"), "--to", &format!("http://{hub}")]);
            start_command(command, address, places, &name)
        }
        Peer::HubgateOne | Peer::HubgateOneStateful | Peer::Hubgate => {
            let address = free_address(&name)?;
            let mut command = Command::new(&places.hubgate);
            command.args(["serve", "--listen", &address.to_string(), "--backend", &format!("http://{hub}")]);
            if peer != Peer::Hubgate {
                command.args(["--threads", "1"]);
            }
            command.args(&places.hubgate_args);
            start_command(command, address, places, &name)
        }
        Peer::WebTransportEcho => start_self(&["web-transport-echo"], &name),
        Peer::HubgateOneTls | Peer::HubgateOneWebTransport => Ok(start_hubgate_with_tls(hub, places, tag)?.process),
    }
}

/// hubgate with one worker thread and all that the WebTransport case asks it for.
#[derive(Debug)]
pub(crate) struct HubgateWithTls {
    /// Accepts in clear text, and offers WebTransport there.
    pub(crate) process: Running,
    /// Accepts over TLS.
    pub(crate) tls: SocketAddr,
}

/// Starts hubgate with a fresh certificate before the hub at `hub`.
pub(crate) fn start_hubgate_with_tls(hub: SocketAddr, places: &Places, tag: &str) -> Result<HubgateWithTls, Error> {
    let name = format!("hubgate-tls-{tag}");
    let (clear, tls) = (free_address(&name)?, free_address(&name)?);
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
        .map_err(|error| io_error(&name, io::Error::other(error)))?;
    let certificate_file = write_config(places, &name, "certificate.pem", &certificate.cert.pem())?;
    let key_file = write_config(places, &name, "key.pem", &certificate.signing_key.serialize_pem())?;
    let text = config::hubgate(clear, tls, hub, &certificate_file, &key_file);
    let file = write_config(places, &name, "hubgate.toml", &text)?;
    let mut command = Command::new(&places.hubgate);
    command.args(["serve", "--threads", "1", "--config"]).arg(file).args(&places.hubgate_args);
    Ok(HubgateWithTls { process: start_command(command, clear, places, &name)?, tls })
}

/// Starts the bare hub.
pub(crate) fn start_bare_hub(tag: &str) -> Result<Running, Error> {
    start_self(&["bare-hub"], &format!("bare-hub-{tag}"))
}

/// Starts the contract hub on ASP.NET Core.
pub(crate) fn start_contract_hub(places: &Places, tag: &str) -> Result<Running, Error> {
    let name = format!("contract-hub-{tag}");
    let (dotnet, app) = both(&places.dotnet, &places.contract_hub, "the contract hub on ASP.NET Core")?;
    let address = free_address(&name)?;
    let mut command = Command::new(dotnet);
    command.arg(app).args(["--urls", &format!("http://{address}"), "--stop-with-stdin"]);
    start_command(command, address, places, &name)
}

fn both<'a>(dotnet: &'a Option<PathBuf>, app: &'a Option<PathBuf>, name: &str) -> Result<(&'a Path, &'a Path), Error> {
    match (dotnet, app) {
        (Some(dotnet), Some(app)) => Ok((dotnet, app)),
        (None, _) => Err(Error::Missing(format!("{name} needs .NET, which"))),
        (_, None) => Err(Error::Missing(name.to_owned())),
    }
}

fn start_nginx(keepalive: bool, hub: SocketAddr, places: &Places, name: &str) -> Result<Running, Error> {
    let address = free_address(name)?;
    let prefix = places.scratch.join(name);
    fs::create_dir_all(&prefix).map_err(|error| io_error(name, error))?;
    let text = config::nginx(address, hub, keepalive, &prefix);
    let file = write_config(places, name, "nginx.conf", &text)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&prefix).args(["-e", "stderr", "-c"]).arg(file);
    start_command(command, address, places, name)
}

/// Starts this program again with another job; it tells its address on standard output and ends with standard input.
fn start_self(args: &[&str], name: &str) -> Result<Running, Error> {
    let program = std::env::current_exe().map_err(|error| io_error(name, error))?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| io_error(name, error))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line).map_err(|error| io_error(name, error))?;
    }
    let address = line.trim().strip_prefix("listening ").and_then(|address| address.parse().ok());
    let mut running = Running { address: hub_of_nobody(), child: Some(child) };
    running.address = address.ok_or_else(|| Error::NotStarted { name: name.to_owned(), log: PathBuf::new() })?;
    Ok(running)
}

/// Starts a program that was told where to listen and waits until it does.
fn start_command(mut command: Command, address: SocketAddr, places: &Places, name: &str) -> Result<Running, Error> {
    let log = places.scratch.join(format!("{name}.log"));
    let out = File::create(&log).map_err(|error| io_error(name, error))?;
    let err = out.try_clone().map_err(|error| io_error(name, error))?;
    // An open standard input that nobody writes to: it ends with this process, and with it who watches it.
    command.stdin(Stdio::piped()).stdout(out).stderr(err);
    let child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::Missing(command.get_program().to_string_lossy().into_owned()),
        _ => io_error(name, error),
    })?;
    let mut running = Running { address, child: Some(child) };
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        let ended = running.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        if ended || Instant::now() > deadline {
            return Err(Error::NotStarted { name: name.to_owned(), log });
        }
        if answers(address).is_ok() {
            return Ok(running);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks for a page and waits for the first byte of whatever the answer is: a port can be open before its server works.
fn answers(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(START_PATIENCE))?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    stream.read_exact(&mut [0])
}

/// A loopback address whose port was free a moment ago: nginx and the like cannot tell which port 0 became.
fn free_address(name: &str) -> Result<SocketAddr, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| io_error(name, error))
}

fn hub_of_nobody() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
}

fn write_config(places: &Places, name: &str, file: &str, text: &str) -> Result<PathBuf, Error> {
    let path = places.scratch.join(format!("{name}-{file}"));
    fs::write(&path, text).map_err(|error| io_error(name, error))?;
    Ok(path)
}

fn io_error(name: &str, error: io::Error) -> Error {
    Error::Io { name: name.to_owned(), error }
}
