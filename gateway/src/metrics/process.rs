//! The process itself: memory, processor time, descriptors, threads.
//!
//! Why own code: five lines of `/proc`, read only when somebody asks for metrics. Elsewhere than on Linux they are
//! left out.
//!
//! Invariant: what cannot be read is left out, never written as zero.

use std::fmt::Write as _;
use std::fs;

/// Ticks per second in `/proc/self/stat`; the kernel's interface fixes it at 100.
const TICKS_PER_SECOND: f64 = 100.0;

/// Appends the process metrics.
pub(super) fn encode(out: &mut String) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |name: &str| field(&status, name).map(|kilobytes| kilobytes * 1024.0);
    write(out, "process_resident_memory_bytes", "gauge", "Resident memory in bytes", kilobytes("VmRSS:"));
    write(out, "process_virtual_memory_bytes", "gauge", "Virtual memory in bytes", kilobytes("VmSize:"));
    write(out, "process_threads", "gauge", "Threads", field(&status, "Threads:"));
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    write(out, "process_cpu_seconds", "counter", "Processor time in seconds", cpu_seconds(&stat));
    let open = fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as f64);
    write(out, "process_open_fds", "gauge", "Open file descriptors", open);
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    write(out, "process_max_fds", "gauge", "File descriptors that may be open", field(&limits, "Max open files"));
}

fn write(out: &mut String, name: &str, kind: &str, help: &str, value: Option<f64>) {
    let Some(value) = value else { return };
    let suffix = if kind == "counter" { "_total" } else { "" };
    let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name}{suffix} {value}");
}

/// The first number behind `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// User and system time: the 14th and 15th fields, counted behind the program's name, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (ticks.next()?.parse().ok()?, ticks.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_proc() {
        assert_eq!(field("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048.0));
        assert_eq!(
            field("Max open files            1024                 4096                 files", "Max open files"),
            Some(1024.0)
        );
        assert_eq!(field("Max open files unlimited", "Max open files"), None);
        let stat = "1 (odd ) name) S 1 1 1 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 4 0 1 1";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds(""), None);
    }
}
