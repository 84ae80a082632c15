//! Hub and gateway as child processes of the real binary, so that the gateway's memory can be read from outside.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::watch;
use tokio::time::timeout;

/// The binary under test.
const HUBGATE: &str = env!("CARGO_BIN_EXE_hubgate");

/// The lines that a process has written so far.
type Log = Arc<watch::Sender<Vec<String>>>;

/// A child process that ends with its value.
pub struct Process {
    child: Child,
    log: Log,
}

impl Process {
    /// Starts `hubgate` and waits for as many `listening on` lines as it has listeners.
    fn start(arguments: &[&str], listeners: usize) -> (Self, Vec<SocketAddr>) {
        Self::run(Command::new(HUBGATE).args(arguments), listeners)
    }

    fn run(command: &mut Command, listeners: usize) -> (Self, Vec<SocketAddr>) {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let (found, addresses) = std::sync::mpsc::channel();
        let log = Log::new(watch::Sender::new(Vec::new()));
        follow(child.stdout.take().expect("stdout is piped"), found.clone(), Arc::clone(&log));
        follow(child.stderr.take().expect("stderr is piped"), found, Arc::clone(&log));
        let addresses = (0..listeners)
            .map(|_| {
                addresses
                    .recv_timeout(crate::PATIENCE)
                    .unwrap_or_else(|_| panic!("no address from {command:?}: {:?}", log.borrow()))
            })
            .collect();
        (Self { child, log }, addresses)
    }

    /// The embedded hubs.
    pub fn hub(extra: &[&str]) -> (Self, SocketAddr) {
        let mut arguments = vec!["hub", "--listen", "127.0.0.1:0"];
        arguments.extend_from_slice(extra);
        let (process, addresses) = Self::start(&arguments, 1);
        (process, addresses[0])
    }

    /// The gateway with a configuration file of that text and that many listeners.
    pub fn gateway(config: &str, listeners: usize) -> (Self, Vec<SocketAddr>) {
        Self::of_config(config, |file| Self::start(&["serve", "--config", file], listeners))
    }

    /// The same with one listener and no more than that many descriptors.
    pub fn gateway_with_descriptors(config: &str, limit: usize) -> (Self, SocketAddr) {
        let script = "ulimit -n \"$1\" && exec \"$2\" serve --config \"$3\"";
        let limit = limit.to_string();
        let start = |file: &str| Self::run(Command::new("sh").args(["-c", script, "sh", &limit, HUBGATE, file]), 1);
        let (process, addresses) = Self::of_config(config, start);
        (process, addresses[0])
    }

    fn of_config<R>(config: &str, start: impl FnOnce(&str) -> R) -> R {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("bad-peers-{}-{}.toml", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&file, config).expect("the configuration is written");
        let started = start(file.to_str().expect("a printable path"));
        std::fs::remove_file(&file).expect("the configuration is removed");
        started
    }

    /// A field of `/proc/PID/smaps_rollup`, in KiB.
    pub fn memory_kib(&self, field: &str) -> u64 {
        let text =
            std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).expect("the process lives");
        let line = text.lines().find(|line| line.starts_with(field)).expect("the field exists");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    }

    /// Processor time used so far, user and system, in hundredths of a second.
    pub fn processor_ticks(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the process lives");
        let (_, fields) = text.rsplit_once(')').expect("a name");
        let number = |at: usize| fields.split_whitespace().nth(at).and_then(|field| field.parse::<u64>().ok());
        number(11).zip(number(12)).map(|(user, system)| user + system).expect("numbers")
    }

    /// How many descriptors are open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the process lives").count()
    }

    /// The process whose memory may be sampled from another thread.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line with that text was written.
    pub async fn until_said(&self, text: &str) {
        let mut log = self.log.subscribe();
        let said = log.wait_for(|lines| lines.iter().any(|line| line.contains(text)));
        let said = timeout(crate::PATIENCE, said).await;
        said.unwrap_or_else(|_| panic!("{text:?} is not said")).expect("the log lives");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            let log = self.log.borrow();
            let from = log.len().saturating_sub(20);
            eprintln!("--- last lines of process {}\n{}", self.child.id(), log[from..].join("\n"));
        }
    }
}

/// Reads a child's lines so that it never waits for us; addresses go to who waits for them.
fn follow(stream: impl Read + Send + 'static, found: std::sync::mpsc::Sender<SocketAddr>, log: Log) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some(url) = line.strip_prefix("listening on ") {
                let address = url.trim_start_matches("https://").trim_start_matches("http://");
                if let Ok(address) = address.parse() {
                    let _nobody_waits = found.send(address);
                }
            }
            log.send_if_modified(|lines| {
                let room = lines.len() < 10_000;
                if room {
                    lines.push(line);
                }
                room
            });
        }
    });
}
