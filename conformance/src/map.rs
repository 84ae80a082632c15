//! Ties every id of the case list to a case or to a reason.
//!
//! `ids.txt` holds the ids of groups A, C to H, N and Q; `cases.toml` says for each which functions test it, or why none
//! does, or why it is not run through a gateway. Tests hold that nothing is missing or stale.

use std::collections::BTreeMap;

use serde::Deserialize;

/// All ids, one a line.
const IDS: &str = include_str!("../ids.txt");
/// The map.
const CASES: &str = include_str!("../cases.toml");

/// What is said of an id.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Entry {
    /// The functions that test it.
    #[serde(default)]
    pub tests: Vec<String>,
    /// Why nothing tests it here.
    pub reason: Option<String>,
    /// Why its tests are not run through a gateway: a difference by design, with the rule's id.
    pub not_through_gateway: Option<String>,
}

/// The ids in order.
#[must_use]
pub fn ids() -> Vec<&'static str> {
    IDS.lines().filter(|line| !line.is_empty()).collect()
}

/// Reads the map.
///
/// # Errors
/// What is wrong with the file.
pub fn entries() -> Result<BTreeMap<String, Entry>, toml::de::Error> {
    toml::from_str(CASES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_a_test_or_a_reason_and_none_is_stale() {
        let (ids, entries) = (ids(), entries().unwrap());
        let missing: Vec<_> = ids.iter().filter(|id| !entries.contains_key(**id)).collect();
        assert!(missing.is_empty(), "ids without an entry: {missing:?}");
        let stale: Vec<_> = entries.keys().filter(|id| !ids.contains(&id.as_str())).collect();
        assert!(stale.is_empty(), "entries that are no ids: {stale:?}");
        for (id, entry) in &entries {
            let one = entry.tests.is_empty() == entry.reason.is_some();
            assert!(one, "{id} must have tests or a reason, not both");
        }
    }

    #[test]
    fn entries_and_functions_name_each_other() {
        let (entries, cases) = (entries().unwrap(), crate::cases::all());
        for case in &cases {
            let entry = entries.get(case.id).unwrap_or_else(|| panic!("{case:?} is of no id"));
            assert!(entry.tests.iter().any(|test| test == case.name), "{case:?} is not named in cases.toml");
            let id = case.id.trim_end_matches(['!', '?']).replace('-', "_").to_lowercase();
            assert!(case.name.starts_with(&format!("{id}_")), "{case:?} does not begin with its id");
        }
        for (id, entry) in &entries {
            for test in &entry.tests {
                assert!(cases.iter().any(|case| case.id == id && case.name == test), "{id}: no function {test}");
            }
        }
    }
}
