//! What the program does at signals (rule F4).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that runs, and what it says.
struct Program {
    child: Child,
    said: Receiver<String>,
}

impl Program {
    /// `hubgate serve` with that configuration, once it listens.
    fn serve(config: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hubgate"))
            .args(["serve", "--config", "/dev/stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), config.as_bytes()).unwrap();
        let (say, said) = channel();
        let stderr: Box<dyn Read + Send> = Box::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| say.send(line))
        });
        let program = Self { child, said };
        program.waits_for("listening on");
        program
    }

    fn waits_for(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.said.recv_timeout(left).unwrap_or_else(|error| panic!("waited for {text:?}: {error}"));
            if line.contains(text) {
                return;
            }
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Its exit code; it says no more by then.
    fn ends(mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        while self.said.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok() {}
        assert!(Instant::now() < until, "it does not end");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn er_f4_a_second_signal_ends_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let program = Program::serve(
            "[[listener]]\naddress = '127.0.0.1:0'\n[backend.app]\nservers = ['http://127.0.0.1:9']\n\
             [[route]]\nname = 'app'\nhubs = '/'\nbackend = 'app'\n[admin]\naddress = 'off'\n\
             [timeouts]\nshutdown_delay = '1h'\n",
        );
        program.signal(first);
        program.waits_for("stopping");
        program.signal(second);
        assert_eq!(program.ends(), Some(0), "{first}, {second}");
    }
}
