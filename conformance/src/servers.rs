//! Starts the ASP.NET Core application, and a gateway in front of it, as child processes on free ports.
//!
//! Invariant: a child ends with the [`Running`] that owns it, whatever the test does.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::target::Target;

/// Longest time that a server may take to say its address.
const START_MAX: Duration = Duration::from_secs(60);

/// Origin that the application allows to call with credentials.
pub const CORS_ORIGIN: &str = "http://app.example";

/// The gateway's time-outs that equal those of [`crate::target::SHORT_TRANSPORT`].
const SHORT_TIMES: [(&str, &str); 3] = [
    ("HUBGATE_TIMEOUTS_POLL_TIMEOUT", "2 s"),
    ("HUBGATE_TIMEOUTS_SEND_TIMEOUT", "2 s"),
    ("HUBGATE_TIMEOUTS_CLOSE_TIMEOUT", "1 s"),
];

/// What is needed to start servers.
#[derive(Debug, Clone)]
pub struct Servers {
    /// The `dotnet` program.
    pub dotnet: PathBuf,
    /// The application's `Hubs.dll`.
    pub application: PathBuf,
    /// ASP.NET Core's major version there.
    pub version: u8,
    /// The gateway's program, when one stands in front.
    pub gateway: Option<PathBuf>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no .NET runtime on this machine.
    #[error("no dotnet: neither in DOTNET_ROOT nor in PATH")]
    NoDotnet,
    /// The application is not built.
    #[error("{0} is missing: run fixtures/aspnet/build")]
    NotBuilt(PathBuf),
    /// The program could not be started.
    #[error("starting {program}: {cause}")]
    Start {
        /// The program.
        program: PathBuf,
        /// The operating system's word.
        cause: std::io::Error,
    },
    /// The program ended, or said nothing in time.
    #[error("{program} did not say where it listens; it said: {said}")]
    Silent {
        /// The program.
        program: PathBuf,
        /// Its first lines.
        said: String,
    },
}

/// Servers that run until this is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where they are reached.
    pub target: Target,
    /// Address of the application itself.
    pub application_address: String,
    front: Child,
    behind: Vec<Child>,
}

impl Servers {
    /// Finds `dotnet` and the application built for that version below the `target` directory of the repository.
    ///
    /// # Errors
    /// [`Error::NoDotnet`] or [`Error::NotBuilt`].
    pub fn find(version: u8, gateway: Option<PathBuf>) -> Result<Self, Error> {
        let dotnet = find_dotnet().ok_or(Error::NoDotnet)?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let built = std::env::var_os("HUBGATE_ASPNET").map_or_else(|| root.join("target/aspnet"), PathBuf::from);
        let application = built.join(format!("net{version}.0")).join("Hubs.dll");
        if !application.exists() {
            return Err(Error::NotBuilt(application));
        }
        Ok(Self { dotnet, application, version, gateway })
    }

    /// Starts the application, and the gateway if there is one, and waits until both listen.
    ///
    /// # Errors
    /// [`Error::Start`] or [`Error::Silent`].
    pub async fn start(&self) -> Result<Running, Error> {
        let mut command = Command::new(&self.dotnet);
        command.arg(&self.application).args(["--urls", "http://127.0.0.1:0", "--h2c-urls", "http://127.0.0.1:0"]);
        command.args(["--cors", CORS_ORIGIN]).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut application = spawn(command, &self.dotnet)?;
        let said = first_line(application.stdout.take(), "ready ", &self.application).await?;
        let mut addresses = said.split(' ').map(authority);
        let address = addresses.next().unwrap_or_default();
        let target = Target {
            address: address.clone(),
            http2_address: addresses.next(),
            gateway: false,
            version: self.version,
            short_address: None,
            servers: Some(std::sync::Arc::new(self.clone())),
            patience: patience(),
        };
        let mut running =
            Running { target, application_address: address.clone(), front: application, behind: Vec::new() };
        if let Some(program) = &self.gateway {
            let (short, short_address) = start_gateway(program, &address, &SHORT_TIMES).await?;
            let (front, front_address) = start_gateway(program, &address, &[]).await?;
            running.behind = vec![std::mem::replace(&mut running.front, front), short];
            running.target.http2_address = Some(front_address.clone());
            running.target.address = front_address;
            running.target.short_address = Some(short_address);
            running.target.gateway = true;
        }
        Ok(running)
    }
}

/// Starts `hubgate serve` before an application and gives its address.
async fn start_gateway(program: &Path, backend: &str, times: &[(&str, &str)]) -> Result<(Child, String), Error> {
    let mut command = Command::new(program);
    command.args(["serve", "--listen", "127.0.0.1:0", "--backend", &format!("http://{backend}")]);
    command.envs(times.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut gateway = spawn(command, program)?;
    let said = first_line(gateway.stderr.take(), "listening on ", program).await?;
    let address = authority(said.split_whitespace().next().unwrap_or_default());
    Ok((gateway, address))
}

impl Running {
    /// Asks what stands in front to stop (SIGTERM).
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub async fn stop(&self) -> std::io::Result<()> {
        let process_id = self.front.id().ok_or_else(|| std::io::Error::other("it has ended already"))?;
        let status = Command::new("kill").args(["-TERM", &process_id.to_string()]).status().await?;
        if status.success() { Ok(()) } else { Err(std::io::Error::other("kill failed")) }
    }

    /// Process ids of what stands behind.
    #[must_use]
    pub fn behind(&self) -> Vec<u32> {
        self.behind.iter().filter_map(Child::id).collect()
    }

    /// Waits until what stands in front has ended; false when it has not within `limit`.
    pub async fn stopped(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.front.wait()).await.is_ok()
    }
}

/// The factor by which all waits are stretched: `HUBGATE_PATIENCE`, 1 unless set.
#[must_use]
pub fn patience() -> u32 {
    std::env::var("HUBGATE_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn find_dotnet() -> Option<PathBuf> {
    let root = std::env::var_os("DOTNET_ROOT").map(|root| PathBuf::from(root).join("dotnet"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join("dotnet"));
    root.into_iter().chain(in_path).find(|program| program.is_file())
}

fn spawn(mut command: Command, program: &Path) -> Result<Child, Error> {
    command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|cause| Error::Start { program: program.to_owned(), cause })
}

/// Reads lines until one contains `mark`, and gives what stands behind it. The rest is read on, so that the child
/// never waits for its reader.
async fn first_line<R>(output: Option<R>, mark: &str, program: &Path) -> Result<String, Error>
where
    R: AsyncRead + Unpin + Send + 'static,
{
    let mut said = String::new();
    if let Some(output) = output {
        let mut lines = BufReader::new(output).lines();
        let reading = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, address)) = line.split_once(mark) {
                    return Some(address.to_owned());
                }
                said.push_str(&line);
                said.push('\n');
            }
            None
        };
        if let Ok(Some(found)) = tokio::time::timeout(START_MAX, reading).await {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(found);
        }
    }
    Err(Error::Silent { program: program.to_owned(), said })
}

fn authority(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().to_owned()
}
