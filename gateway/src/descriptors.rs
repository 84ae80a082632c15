//! The limit of open descriptors: raised as far as the system allows, and warned about when it is too small (rule F1).

/// Descriptors that are no client's: listeners, logs, the runtime's own, kept connections to backends.
const OTHER_DESCRIPTORS: u64 = 1_000;

/// Raises the soft limit to the hard one. A relayed connection takes two descriptors.
pub(crate) fn raise(connections_max: usize) {
    let wanted = 2 * connections_max as u64 + OTHER_DESCRIPTORS;
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit < wanted => tracing::warn!(
            limit,
            wanted,
            "the limit of open descriptors is too small for limits.connections_max: raise it (LimitNOFILE, ulimit -n)"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open descriptors"),
    }
}
