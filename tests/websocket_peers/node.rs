//! The npm `ws` package, pinned in `node/package-lock.json`, as client and server in a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Set where everything must be there: a missing Node then fails the tests instead of skipping them.
const CI: &str = "HUBGATE_CI";

/// Where the scripts and the package are; `None` is a skip whose reason has been printed.
pub fn installed() -> Option<&'static PathBuf> {
    static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match INSTALLED.get_or_init(install) {
        Ok(directory) => Some(directory),
        Err(reason) => {
            assert!(std::env::var_os(CI).is_none(), "{CI} is set and npm ws cannot be run: {reason}");
            println!("skipped: npm ws as a peer: {reason}");
            None
        }
    }
}

fn install() -> Result<PathBuf, String> {
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/websocket_peers/node");
    let to = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("websocket-peers");
    std::fs::create_dir_all(&to).map_err(|error| error.to_string())?;
    for name in ["package.json", "package-lock.json", "server.mjs", "client.mjs"] {
        std::fs::copy(from.join(name), to.join(name)).map_err(|error| error.to_string())?;
    }
    let installed = std::fs::read_to_string(to.join("node_modules/ws/package.json")).unwrap_or_default();
    if !installed.contains("\"version\": \"8.18.3\"") {
        let npm =
            Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&to).output();
        let npm = npm.map_err(|error| format!("npm: {error}"))?;
        if !npm.status.success() {
            return Err(format!("npm ci: {}", String::from_utf8_lossy(&npm.stderr)));
        }
    }
    let node = Command::new("node").arg("--version").output().map_err(|error| format!("node: {error}"))?;
    if node.status.success() { Ok(to) } else { Err("node does not run".to_owned()) }
}

/// The echo server.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts it.
    pub fn start(directory: &PathBuf) -> Self {
        let mut child = Command::new("node")
            .arg("server.mjs")
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a port");
        let port: u16 = line.trim().parse().expect("a port");
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Runs the client against a server; its last line.
pub async fn run_client(directory: PathBuf, address: SocketAddr) -> String {
    let output = tokio::process::Command::new("node")
        .args(["client.mjs", &format!("ws://{address}/echo")])
        .current_dir(directory)
        .output()
        .await
        .expect("node starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
