//! What the kernel says about processes: processor time, memory, children. All of a proxy's processes count, and all of
//! their threads, those that have ended too.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde::Serialize;

/// Ticks per second in `/proc` on Linux (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// Processor time of everybody concerned, in one moment or during a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// The proxy's processes.
    pub(crate) proxy: Duration,
    /// The hub's processes.
    pub(crate) hub: Duration,
    /// This process, the load client.
    pub(crate) client: Duration,
    /// The whole machine, idle time left out.
    pub(crate) machine: Duration,
}

impl CpuTime {
    /// What was spent since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            proxy: self.proxy.saturating_sub(before.proxy),
            hub: self.hub.saturating_sub(before.hub),
            client: self.client.saturating_sub(before.client),
            machine: self.machine.saturating_sub(before.machine),
        }
    }

    /// What processes that have nothing to do with the measurement spent.
    pub(crate) fn others(self) -> Duration {
        self.machine.saturating_sub(self.proxy + self.hub + self.client)
    }
}

/// User-space memory of a set of processes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident pages.
    pub(crate) resident_bytes: u64,
    /// Resident pages that were written and belong to one process alone.
    pub(crate) private_dirty_bytes: u64,
}

/// Which processes a measurement looks at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probe {
    /// The proxy's processes; none when the client speaks to the hub directly.
    pub(crate) proxy: Vec<u32>,
    /// The hub's processes.
    pub(crate) hub: Vec<u32>,
}

/// Datagrams that were dropped since a receive buffer was full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct UdpDrops {
    /// At the proxy's sockets.
    pub(crate) proxy: u64,
    /// At all sockets of this network namespace, the load client's too.
    pub(crate) all: u64,
}

impl UdpDrops {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { proxy: self.proxy + other.proxy, all: self.all + other.all }
    }

    /// What was dropped since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { proxy: self.proxy.saturating_sub(before.proxy), all: self.all.saturating_sub(before.all) }
    }
}

impl Probe {
    /// Dropped datagrams up to now.
    pub(crate) fn udp_drops(&self) -> UdpDrops {
        let sockets: BTreeSet<u64> = self.proxy.iter().flat_map(|pid| sockets_of(*pid)).collect();
        let tables = ["/proc/net/udp", "/proc/net/udp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
        let proxy = tables.iter().flat_map(|table| table.lines()).filter_map(dropped_at);
        let proxy = proxy.filter(|(inode, _)| sockets.contains(inode)).map(|(_, drops)| drops).sum();
        let all = fs::read_to_string("/proc/net/snmp").ok().and_then(|text| receive_buffer_errors(&text));
        UdpDrops { proxy, all: all.unwrap_or(0) }
    }

    /// Processor time up to now.
    pub(crate) fn read(&self) -> CpuTime {
        CpuTime {
            proxy: self.proxy.iter().map(|pid| cpu_of(*pid)).sum(),
            hub: self.hub.iter().map(|pid| cpu_of(*pid)).sum(),
            client: cpu_of(std::process::id()),
            machine: fs::read_to_string("/proc/stat").ok().and_then(|text| machine_busy(&text)).unwrap_or_default(),
        }
    }

    /// Memory of the proxy's processes now.
    pub(crate) fn memory(&self) -> Memory {
        let mut sum = Memory::default();
        for pid in &self.proxy {
            if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
                sum.resident_bytes += kibibytes(&text, "Rss:") * 1024;
                sum.private_dirty_bytes += kibibytes(&text, "Private_Dirty:") * 1024;
            }
        }
        sum
    }
}

/// A process with all its descendants, as they are now.
pub(crate) fn family(root: u32) -> Vec<u32> {
    let mut family = BTreeSet::from([root]);
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .map(|entries| entries.flatten().filter_map(|entry| parent_of(entry.file_name().to_str()?)).collect())
        .unwrap_or_default();
    loop {
        let before = family.len();
        family.extend(
            parents.iter().filter(|(_, parent)| family.contains(parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        if family.len() == before {
            return family.into_iter().collect();
        }
    }
}

fn parent_of(name: &str) -> Option<(u32, u32)> {
    let pid = name.parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some((pid, stat_field(&stat, 4)?.try_into().ok()?))
}

fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ticks = stat_field(&stat, 14).unwrap_or(0) + stat_field(&stat, 15).unwrap_or(0);
    of_ticks(ticks)
}

fn of_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// A numbered field of `/proc/PID/stat`, counted from 1 as in proc(5); those before the third are not numbers.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    // The second field is a name in parentheses that may itself hold spaces and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(number.checked_sub(3)?)?.trim().parse().ok()
}

fn machine_busy(stat: &str) -> Option<Duration> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    // user nice system idle iowait irq softirq steal; what follows is contained in user and nice.
    let busy = fields.take(8).enumerate().filter(|(index, _)| !matches!(index, 3 | 4));
    Some(of_ticks(busy.filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum()))
}

/// Inodes of a process's sockets.
fn sockets_of(pid: u32) -> Vec<u64> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let inodes =
        targets.filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
    inodes.collect()
}

/// Inode and drops of a line of `/proc/net/udp`; none for its heading.
fn dropped_at(line: &str) -> Option<(u64, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    Some((fields.get(9)?.parse().ok()?, fields.last()?.parse().ok()?))
}

/// `RcvbufErrors` of UDP, below its name in `/proc/net/snmp`.
fn receive_buffer_errors(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|name| name == "RcvbufErrors")?;
    values.split(' ').nth(at)?.parse().ok()
}

fn kibibytes(rollup: &str, name: &str) -> u64 {
    rollup
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "12 (a) b (c) S 7 12 12 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 9";
        assert_eq!(stat_field(stat, 4), Some(7));
        assert_eq!((stat_field(stat, 14), stat_field(stat, 15)), (Some(250), Some(50)));
        assert_eq!(of_ticks(300), Duration::from_secs(3));
    }

    #[test]
    fn idle_time_is_not_busy() {
        assert_eq!(machine_busy("cpu  100 0 50 900 9 0 10 40 5 0\ncpu0 …"), Some(Duration::from_secs(2)));
    }

    #[test]
    fn dropped_datagrams_are_read_by_name_and_by_socket() {
        let snmp =
            "Udp: InDatagrams NoPorts RcvbufErrors SndbufErrors\nUdp: 9 8 7 6\nUdpLite: RcvbufErrors\nUdpLite: 5\n";
        assert_eq!(receive_buffer_errors(snmp), Some(7));
        let line =
            " 1234: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 42 ";
        assert_eq!(dropped_at(line), Some((4711, 42)));
        assert_eq!(
            dropped_at(
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops"
            ),
            None
        );
    }

    #[test]
    fn the_drops_of_a_process_are_those_of_its_sockets() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let probe = Probe { proxy: vec![std::process::id()], hub: Vec::new() };
        let before = probe.udp_drops();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        // More than any default receive buffer holds, and nobody reads.
        for _ in 0..4096 {
            sender.send_to(&[0; 4096], socket.local_addr().unwrap()).unwrap();
        }
        let dropped = probe.udp_drops().since(before);
        assert!(dropped.proxy > 0 && dropped.all >= dropped.proxy, "{dropped:?}");
    }

    #[test]
    fn memory_is_read_from_a_rollup() {
        let text = "55aa-7ffe ---p 0 00:00 0 [rollup]\nRss:                1234 kB\nPrivate_Dirty:        56 kB\n";
        assert_eq!((kibibytes(text, "Rss:"), kibibytes(text, "Private_Dirty:")), (1234, 56));
    }

    #[test]
    fn a_child_belongs_to_the_family() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let family = family(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(family.contains(&child.id()));
    }
}
