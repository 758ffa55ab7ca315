//! How many descriptors the process may open, and how many of them are for connections of clients.
//!
//! Where libvirt lacks one, GLib ends the process: the server leaves enough of them alone.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use super::limits::{MAX_CONNECTIONS, MIN_CONNECTIONS};

/// Descriptors for everything else: two for each connection to libvirt, of which there are up to some 25 with 16 workers, some of
/// them stuck; listeners, files, a push. Measured: 25 with 4 workers, 49 with 16.
const LEAST_OTHERS: u64 = 80;
/// This many stay free if there are plenty.
const MOST_OTHERS: u64 = 256;

/// The process may open too few files.
#[derive(Debug, Error)]
#[error(
    "the process may open {allowed} files (ulimit -n), but needs {}: raise the hard limit, which is LimitNOFILE= in a \
     service's unit",
    LEAST_OTHERS + MIN_CONNECTIONS
)]
pub struct TooFewDescriptors {
    allowed: u64,
}

/// Descriptors of a connection to libvirt.
const OF_CONNECTION: u64 = 2;
/// Descriptors that are set aside for connections to targets.
static FOR_TARGETS: AtomicU64 = AtomicU64::new(0);

/// How many connections to targets the process has descriptors for.
#[must_use]
pub fn probe_connections() -> usize {
    usize::try_from(FOR_TARGETS.load(Ordering::Relaxed) / OF_CONNECTION).unwrap_or(usize::MAX)
}

/// Raises the limit to what is wanted, with `targets` connections to targets, or to the hard limit if that is less. The usual limit of
/// 1,024 is for programs that call `select`.
///
/// # Errors
/// If there are fewer than the exporter needs.
pub fn raise_descriptor_limit(targets: usize) -> Result<(), TooFewDescriptors> {
    let for_targets = u64::try_from(targets).unwrap_or(u64::MAX).saturating_mul(OF_CONNECTION);
    let wanted = (MAX_CONNECTIONS + MOST_OTHERS).saturating_add(for_targets);
    let mut limit = getrlimit(Resource::Nofile);
    // `None` is no limit.
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        if setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }).is_ok() {
            limit.current = Some(raised);
        }
    }
    match limit.current {
        Some(allowed) if allowed < LEAST_OTHERS + MIN_CONNECTIONS => Err(TooFewDescriptors { allowed }),
        allowed => {
            // Clients and targets have half each where there are too few for both.
            let spare = allowed.map_or(u64::MAX, |allowed| allowed.saturating_sub(LEAST_OTHERS + MIN_CONNECTIONS) / 2);
            FOR_TARGETS.store(for_targets.min(spare), Ordering::Relaxed);
            Ok(())
        }
    }
}

/// How many connections of clients there may be.
pub(super) fn connection_limit() -> usize {
    let for_targets = FOR_TARGETS.load(Ordering::Relaxed);
    let left = getrlimit(Resource::Nofile).current.map(|allowed| allowed.saturating_sub(for_targets));
    let left = left.map_or(MAX_CONNECTIONS, for_connections);
    usize::try_from(left).unwrap_or(usize::MAX)
}

fn for_connections(allowed: u64) -> u64 {
    let others = (allowed / 4).clamp(LEAST_OTHERS, MOST_OTHERS);
    allowed.saturating_sub(others).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_have_enough_left() {
        for (allowed, connections) in [(96, 16), (128, 48), (400, 300), (1024, 768), (2816, 2560), (u64::MAX, 2560)] {
            assert_eq!(for_connections(allowed), connections, "{allowed}");
        }
    }
}
