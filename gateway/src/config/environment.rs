//! Overrides from the environment: `HUBGATE_LIMITS_CONNECTIONS_MAX=5000`, `HUBGATE_BACKEND_APP_SERVERS=…`.
//!
//! Why: containers set a few things from outside, secrets first. The name is `HUBGATE_`, the table, and the setting, all
//! in capitals; lists are separated by commas. Tables that exist several times (listeners, routes) are the file's; of a
//! pool that the file names, `servers` can be set.
//!
//! Invariant: values are read by the same codec as in the file. A name that is unknown is a warning and not an error,
//! since orchestrators put variables of their own beside ours.

use std::collections::BTreeMap;

use super::codec::{Codec as _, Texts};
use super::error::Problem;
use super::raw::RawConfig;
use super::section::Section;

const PREFIX: &str = "HUBGATE_";

/// Variables by name, those of this program only.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process.
    pub fn process() -> Self {
        Self::of(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// No variables.
    pub fn none() -> Self {
        Self::default()
    }

    /// These variables; names of others are left out.
    pub fn of<N: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        let pairs = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self(pairs.filter(|(name, _)| name.starts_with(PREFIX)).collect())
    }

    /// Overrides settings; gives warnings for names that look like ours and are not.
    pub(super) fn apply(&self, raw: &mut RawConfig, problems: &mut Vec<Problem>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (variable, text) in &self.0 {
            let name = variable.strip_prefix(PREFIX).unwrap_or(variable).to_ascii_lowercase();
            match set(raw, &name, text) {
                Some(Ok(())) => {}
                Some(Err(fix)) => problems.push(Problem::without_value(variable.clone(), fix)),
                None if is_like_ours(&name) => warnings.push(format!("{variable} names no setting and is ignored")),
                None => {}
            }
        }
        warnings
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

const TABLES: [&str; 5] = ["limits_", "timeouts_", "log_", "admin_", "token_"];

fn is_like_ours(name: &str) -> bool {
    TABLES.iter().any(|table| name.starts_with(table))
}

fn set(raw: &mut RawConfig, name: &str, text: &str) -> Option<Result<(), String>> {
    if let Some(pool) = name.strip_prefix("backend_").and_then(|rest| rest.strip_suffix("_servers")) {
        let named = raw.backend.iter_mut().find(|(key, _)| key.replace(['-', '.'], "_").eq_ignore_ascii_case(pool));
        return named.map(|(_, backend)| Texts::parse(text).map(|servers| backend.servers = servers));
    }
    match name.split_once('_') {
        Some(("limits", setting)) => raw.limits.set(setting, text),
        Some(("timeouts", setting)) => raw.timeouts.set(setting, text),
        Some(("log", setting)) => raw.log.set(setting, text),
        Some(("admin", setting)) => raw.admin.set(setting, text),
        Some(("token", setting)) => raw.token.set(setting, text),
        _ if matches!(name, "threads" | "trusted_proxies" | "source_addresses") => raw.set(name, text),
        _ => None,
    }
}
