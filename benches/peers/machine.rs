//! What a result has to say about where it came from: processor, kernel, versions, commit.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::peer::Places;

/// Machine, versions and moment of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) versions: Vec<(String, String)>,
}

impl Machine {
    /// Looks at the machine and asks each program for its version.
    pub(crate) fn observe(root: &Path, places: &Places) -> Self {
        let at = root.to_string_lossy();
        let commit = first_line("git", &["-C", &at, "rev-parse", "--short", "HEAD"]);
        let changed = !first_line("git", &["-C", &at, "status", "--porcelain", "--untracked-files=no"]).is_empty();
        let hubgate = first_line(&places.hubgate.to_string_lossy(), &["--version"]);
        let dotnet = places.dotnet.as_ref().map(|dotnet| dotnet.to_string_lossy().into_owned());
        let runtime = dotnet.map_or_else(String::new, |dotnet| asp_net_version(&dotnet));
        let versions = [
            ("hubgate", hubgate),
            ("nginx", first_line("nginx", &["-v"])),
            ("HAProxy", first_line("haproxy", &["-v"])),
            ("ASP.NET Core", runtime),
            ("YARP", if places.yarp.is_some() { "2.1.0".to_owned() } else { String::new() }),
            ("rustc", first_line("rustc", &["--version"])),
        ];
        Self {
            date: first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            commit: if changed { format!("{commit} with changes") } else { commit },
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: memory_gib(),
            kernel: first_line("uname", &["-sr"]),
            versions: versions.into_iter().map(|(name, version)| (name.to_owned(), or_absent(version))).collect(),
        }
    }
}

fn or_absent(version: String) -> String {
    if version.is_empty() { "absent".to_owned() } else { version }
}

fn asp_net_version(dotnet: &str) -> String {
    let listed = Command::new(dotnet).arg("--list-runtimes").output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&listed).into_owned();
    let mut versions = text.lines().filter_map(|line| line.strip_prefix("Microsoft.AspNetCore.App "));
    versions.next_back().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned()
}

/// The first line that a program prints, wherever it prints it; nothing when it cannot be run.
fn first_line(program: &str, args: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(args).output() else { return String::new() };
    let bytes = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().trim().to_owned()
}

fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

fn memory_gib() -> u64 {
    let kib: u64 = field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    (kib + (1 << 19)) >> 20
}
