//! One attack: hub, gateway and neighbour started anew, memory and neighbour measured before and during it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::neighbour::{BLOCK, HOST, Neighbour, block_p99, p99};
use crate::process::Process;

/// By how much resident memory may grow (rule F3), in KiB.
const GROWTH_MAX_KIB: u64 = 16 * 1024;
/// The neighbour's calls before an attack.
const CALLS_BEFORE: usize = 5 * BLOCK;
/// The neighbour's calls during one, at least.
const CALLS_DURING: usize = 7 * BLOCK;
/// Times below this are not told apart: few processors run gateway, hub, neighbour and attacker, and other work beside
/// them. On a quiet machine `HUBGATE_QUIET_MACHINE=1` lowers it to [`NOISE_WHEN_QUIET`].
const NOISE: Duration = Duration::from_millis(50);
/// The same where nothing else runs.
const NOISE_WHEN_QUIET: Duration = Duration::from_millis(2);

/// One attack at a time: they would disturb each other's measurements.
static TURN: Mutex<()> = Mutex::new(());

/// Hub, gateway, neighbour.
pub struct Rig {
    pub gateway: Process,
    _hubs: [Process; 2],
    /// The gateway in clear text, and WebTransport beside it.
    pub address: SocketAddr,
    /// The gateway with TLS.
    pub secure: SocketAddr,
    /// The hub without the gateway.
    pub straight: SocketAddr,
    neighbour: Neighbour,
    control: Neighbour,
    before: Vec<Duration>,
    control_before: Vec<Duration>,
    resident_before: u64,
    sampler: Sampler,
    began: Instant,
    _turn: MutexGuard<'static, ()>,
}

/// Limits and time-outs of the gateway under attack: `settings` as in `limits.headers_max = 10`, one a line.
pub struct Settings<'a> {
    pub gateway: &'a str,
    pub hub: &'a [&'a str],
}

impl Settings<'_> {
    /// The defaults.
    pub const NONE: Self = Self { gateway: "", hub: &[] };
}

impl Rig {
    /// Starts everything and measures how it is in peace.
    pub async fn start(settings: Settings<'_>) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (hub, straight) = Process::hub(settings.hub);
        let (quiet_hub, quiet) = Process::hub(&[]);
        let certificate = hubgate_fixtures::certificates::CertificateAuthority::new()
            .and_then(|authority| authority.issue(&["localhost"]))
            .expect("a certificate");
        let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (cert_file, key_file) = (directory.join("bad-peers.pem"), directory.join("bad-peers.key"));
        std::fs::write(&cert_file, &certificate.certificate_pem).expect("written");
        std::fs::write(&key_file, &certificate.key_pem).expect("written");
        let (cert_file, key_file) = (cert_file.display(), key_file.display());
        let files = format!("{{ certificate_file = '{cert_file}', key_file = '{key_file}' }}");
        let config = format!(
            "{}\nthreads = 2\n[[listener]]\naddress = '127.0.0.1:0'\nweb_transport = {{ certificates = [{files}] }}\n\
             [[listener]]\naddress = '127.0.0.1:0'\ntls = {{ certificates = [{files}] }}\n\
             [backend.app]\nservers = ['http://{straight}']\n[backend.quiet]\nservers = ['http://{quiet}']\n\
             [[route]]\nname = 'neighbour'\nhost = ['{HOST}']\nhubs = '/'\nbackend = 'quiet'\n\
             [[route]]\nname = 'all'\nhubs = '/'\nbackend = 'app'\nprotocol = 'any'\n\
             transports = ['WebSockets', 'ServerSentEvents', 'LongPolling', 'WebTransport']\n[admin]\naddress = 'off'\n",
            settings.gateway,
        );
        let (gateway, addresses) = Process::gateway(&config, 2);
        let (address, secure) = (addresses[0], addresses[1]);
        let neighbour = Neighbour::start(address);
        let control = Neighbour::start(quiet);
        neighbour.calls(BLOCK).await;
        drop((neighbour.times(), control.times()));
        neighbour.calls(CALLS_BEFORE).await;
        let (before, control_before) = (neighbour.times(), control.times());
        let resident_before = gateway.memory_kib("Rss:");
        let sampler = Sampler::start(&gateway);
        let began = Instant::now();
        Self {
            gateway,
            _hubs: [hub, quiet_hub],
            address,
            secure,
            straight,
            neighbour,
            control,
            before,
            control_before,
            resident_before,
            sampler,
            began,
            _turn: turn,
        }
    }

    /// Takes what a few offences needed at most as the memory of before: as many at once need that again, each its
    /// `waiting_bytes_max`, and allocators keep or give back of it what they like. What must not grow is memory with the
    /// number of offences.
    pub fn is_warm(&mut self) {
        self.resident_before = self.sampler.restart().max(self.gateway.memory_kib("Rss:"));
    }

    /// Ends the attack: prints the figures, holds memory and neighbour to rule F3.
    pub async fn finish(self, name: &str, offences: usize) {
        let took = self.began.elapsed();
        self.neighbour.calls(1).await;
        let mut during = self.neighbour.times();
        let enough = during.len() >= CALLS_DURING;
        if !enough {
            self.neighbour.calls(CALLS_DURING - during.len()).await;
            during.extend(self.neighbour.times());
        }
        let control_during = self.control.times();
        let peak = self.sampler.finish().max(self.gateway.memory_kib("Rss:"));
        let growth = peak.saturating_sub(self.resident_before);
        println!(
            "{name:<36} {offences:>6} offences {:>6.2} s | RSS {:>6} -> {peak:>6} KiB, +{growth:>5} | neighbour p99 {:>6.2} -> \
             {:>6.2} ms, by blocks {:>6.2} -> {:>6.2} ms (straight {:>6.2} -> {:>6.2}, p99 {:>6.2}), {} calls{}",
            took.as_secs_f64(),
            self.resident_before,
            millis(p99(&self.before)),
            millis(p99(&during)),
            millis(block_p99(&self.before)),
            millis(block_p99(&during)),
            millis(block_p99(&self.control_before)),
            millis(block_p99(&control_during)),
            millis(p99(&control_during)),
            during.len(),
            if enough { "" } else { " (some after it)" },
        );
        assert!(growth <= GROWTH_MAX_KIB, "{name}: resident memory grew by {growth} KiB");
        let quiet = std::env::var_os("HUBGATE_QUIET_MACHINE").is_some();
        let noise = if quiet { NOISE_WHEN_QUIET } else { NOISE };
        // What the machine does to everybody it does to the control, too.
        let slowdown = block_p99(&control_during).as_secs_f64() / block_p99(&self.control_before).as_secs_f64();
        let bound = 2 * block_p99(&self.before).mul_f64(slowdown.max(1.0)).max(noise);
        assert!(block_p99(&during) < bound, "{name}: the neighbour waited {:?}, {bound:?} allowed", block_p99(&during));
        self.neighbour.finish();
        self.control.finish();
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Reads the gateway's resident memory all the time and keeps the highest.
struct Sampler {
    stop: Arc<AtomicBool>,
    highest: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Sampler {
    fn start(gateway: &Process) -> Self {
        let (stop, highest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let file = format!("/proc/{}/smaps_rollup", gateway.id());
        let (stopped, kept) = (Arc::clone(&stop), Arc::clone(&highest));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Relaxed) {
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                let resident = text.lines().find(|line| line.starts_with("Rss:"));
                let resident = resident.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
                kept.fetch_max(resident.unwrap_or(0), Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { stop, highest, thread }
    }

    /// Begins anew; gives the highest so far.
    fn restart(&self) -> u64 {
        self.highest.swap(0, Relaxed)
    }

    fn finish(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("the sampler does not panic");
        self.highest.load(Relaxed)
    }
}
