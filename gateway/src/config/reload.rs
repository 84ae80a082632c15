//! What a reload changes.
//!
//! Why: SIGHUP swaps the configuration without dropping a connection, but a socket that is bound, a thread that runs and
//! a log that is open stay; an operator must be told which of the changes wait for a restart (rule G2).
//!
//! Invariant: everything that is not named in [`Changes::needs_restart`] is in force for new requests at once.

use super::{Config, Listener};

/// The difference between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Settings whose new value is in force now.
    pub applied: Vec<String>,
    /// Settings whose new value waits for a restart.
    pub needs_restart: Vec<String>,
}

impl Changes {
    /// Compares the running configuration with the next one.
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut changes = Self::default();
        let mut note = |changed: bool, restart: bool, setting: &str| {
            if changed {
                let list = if restart { &mut changes.needs_restart } else { &mut changes.applied };
                list.push(setting.to_owned());
            }
        };
        let sockets = |config: &Config| -> Vec<_> {
            let datagrams = |l: &Listener| l.web_transport.as_ref().map(|udp| (udp.address, udp.public_port));
            config.listeners.iter().map(|l| (l.address, l.http2, !l.certificates.is_empty(), datagrams(l))).collect()
        };
        let certificates = |config: &Config| -> Vec<_> {
            let datagrams = |l: &Listener| l.web_transport.as_ref().map(|udp| udp.certificates.clone());
            config.listeners.iter().map(|l| (l.certificates.clone(), datagrams(l))).collect()
        };
        note(old.threads != new.threads, true, "threads");
        note(sockets(old) != sockets(new), true, "listener");
        note(sockets(old) == sockets(new) && certificates(old) != certificates(new), false, "listener certificates");
        note(old.admin != new.admin, true, "admin");
        note(old.log.level != new.log.level, true, "log.level");
        note(old.log.format != new.log.format, true, "log.format");
        note(old.log.access != new.log.access, false, "log.access");
        note(old.log.repeat_interval != new.log.repeat_interval, false, "log.repeat_interval");
        note(old.trusted_proxies != new.trusted_proxies, false, "trusted_proxies");
        note(old.source_addresses != new.source_addresses, false, "source_addresses");
        note(old.backends != new.backends, false, "backend");
        note(old.routes != new.routes, false, "route");
        note(old.token_keys != new.token_keys, false, "token");
        note(old.limits != new.limits, false, "limits");
        note(old.timeouts != new.timeouts, false, "timeouts");
        changes
    }
}
