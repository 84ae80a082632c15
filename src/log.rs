//! The log on standard error: text or JSON, repeated lines limited (rule G4).

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hubgate_gateway::access_log::{Passing, Repeats};
use hubgate_gateway::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Starts the log; `HUBGATE_LOG` overrides the level, also by module (`hubgate_gateway::relay=trace`).
pub(crate) fn start(log: &Log) {
    let filter = EnvFilter::try_from_env("HUBGATE_LOG").unwrap_or_else(|_| EnvFilter::new(log.level.as_str()));
    let repeats = Arc::new(Mutex::new(Repeats::new(log.repeat_interval)));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Limited { repeats });
    match log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Makes writers that leave out lines which repeat.
#[derive(Debug, Clone)]
struct Limited {
    repeats: Arc<Mutex<Repeats>>,
}

impl<'a> MakeWriter<'a> for Limited {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The part of a line that tells it from others: all but its time.
fn told(line: &str) -> &str {
    let after_time = match line.strip_prefix("{\"timestamp\":\"") {
        Some(rest) => rest.split_once('"').map(|(_, rest)| rest),
        None => line.split_once(' ').map(|(_, rest)| rest),
    };
    after_time.unwrap_or(line)
}

impl Write for Limited {
    /// Takes one line, as the formatter gives it.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let passing = self.repeats.lock().unwrap_or_else(PoisonError::into_inner).judge(told(&text), Instant::now());
        let mut stderr = std::io::stderr().lock();
        match passing {
            Passing::LeaveOut => {}
            Passing::Write { left_out: 0 } => stderr.write_all(line)?,
            Passing::Write { left_out } => {
                stderr.write_all(line)?;
                writeln!(stderr, "(the line above was left out {left_out} times since it was last written)")?;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn er_g4_lines_that_differ_in_their_time_only_are_the_same() {
        let text = ["2026-11-21T12:00:00.000001Z  WARN hubgate: x", "2026-11-21T12:00:09.000001Z  WARN hubgate: x"];
        assert_eq!(told(text[0]), told(text[1]));
        let json = [r#"{"timestamp":"1","level":"WARN"}"#, r#"{"timestamp":"2","level":"WARN"}"#];
        assert_eq!(told(json[0]), told(json[1]));
        assert_ne!(told(text[0]), told(json[0]));
    }
}
