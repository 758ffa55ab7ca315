//! The network addresses of a domain.

use std::time::Duration;

use uuid::Uuid;

use super::{Asked, Outcome, Probe, Scope, Session, Task, WaitsFor};
use crate::config::{Config, DiscoverySource, Group};
use crate::domains::Addresses;
use crate::libvirt::{Access, AddressSource, ErrorClass, LibvirtError};

/// Most interfaces that a domain is known by, and most addresses of each.
const MOST_ADDRESSES: usize = 64;

/// Of a domain in quarantine only the guest agent is not asked, so it does not wait for hypervisors as such.
pub(super) const PROBE: Probe = Probe {
    interval: every,
    access,
    time_limit: |config| config.metadata.timeout,
    task,
    failed: |_| Outcome::NotLocated,
    ..Probe::new("addresses", Scope::RunningDomain, WaitsFor::Host)
};

/// Service discovery asks when it is asked; the metric is kept current.
fn every(config: &Config) -> Option<Duration> {
    let is_shown = config.collection.groups.contains(&Group::Address);
    is_shown.then_some(config.service_discovery.refresh_interval)
}

/// libvirt lets a client speak to a guest agent only over a read-write connection.
fn access(config: &Config) -> Access {
    match config.service_discovery.sources.contains(&DiscoverySource::Agent) {
        true => Access::ReadWrite,
        false => Access::ReadOnly,
    }
}

/// The sources of the configuration; the guest agent only where it may be asked.
fn task(asked: &Asked<'_>) -> Task {
    let Some(domain) = asked.domain else { return Task::Ask(asked.probe, asked.subject) };
    let source = |source: &DiscoverySource| match source {
        DiscoverySource::Lease => AddressSource::Lease,
        DiscoverySource::Arp => AddressSource::Arp,
        DiscoverySource::Agent => AddressSource::Agent,
    };
    let sources = asked.config.service_discovery.sources.iter().map(source);
    let sources = sources.filter(|source| asked.agent || *source != AddressSource::Agent).collect();
    Task::Locate { uuid: domain.identity.uuid, sources }
}

/// The addresses from the first of the sources that knows any. A source that this driver does not have knows none; one
/// that fails may know some.
pub(super) fn fetch(
    session: &mut Session,
    uuid: Uuid,
    sources: &[AddressSource],
) -> Result<Option<Addresses>, LibvirtError> {
    let (domain, connection) = session.domain(uuid)?;
    let mut failure = None;
    for &source in sources {
        match domain.addresses(connection, source) {
            Ok(mut interfaces) => {
                interfaces.retain(|interface| !interface.addresses.is_empty());
                // A guest agent can tell of any number.
                interfaces.truncate(MOST_ADDRESSES);
                interfaces.iter_mut().for_each(|interface| interface.addresses.truncate(MOST_ADDRESSES));
                if !interfaces.is_empty() {
                    return Ok(Some(Addresses { source, interfaces }));
                }
            }
            Err(error) if error.class == ErrorClass::Disconnected => return Err(error),
            Err(error) if error.class == ErrorClass::NotSupported => {}
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(None), Err)
}
