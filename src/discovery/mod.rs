//! The guests as targets for Prometheus: one group for each exporter within a guest, in the form of HTTP service discovery.
//!
//! Prometheus keeps the list that it has when it gets an error, and drops whatever is missing from a good answer. So there is
//! the whole list or none: [`build_target_groups`] refuses while the definition or the addresses of a wanted domain are
//! unknown. A domain that is known to have no address is omitted.

mod addresses;
mod labels;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;
use thiserror::Error;

use crate::config::{ActiveState, Config, ServiceDiscovery};
use crate::domains::{Definition, Domain, PowerState, ScrapeTarget, Snapshot, located_addresses};

use addresses::{is_on, primary_address};
use labels::Labels;

/// One exporter within a guest, as HTTP service discovery writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TargetGroup {
    /// `address:port`, or `[address]:port` for IPv6; exactly one.
    pub targets: Vec<String>,
    /// `__meta_libvirt_*`, and what the guest's metadata says of path and scheme. No value is empty.
    pub labels: BTreeMap<String, String>,
}

/// Why there is no list: it would be a partial one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the list is not complete yet (domains whose XML was not read yet: {definitions}, whose addresses were not: {addresses})"
)]
pub struct Incomplete {
    /// How many of the wanted domains have a definition that has not been read.
    pub definitions: usize,
    /// How many of them have addresses that have not been queried.
    pub addresses: usize,
}

/// The groups of every selected domain in a wanted state that has an address, in the order of the domains' UUIDs and of the
/// scrape elements in their metadata.
///
/// # Errors
/// If the list would not be complete.
pub fn build_target_groups(snapshot: &Snapshot, config: &Config) -> Result<Vec<TargetGroup>, Incomplete> {
    let discovery = &config.service_discovery;
    let wanted: Vec<&Domain> =
        snapshot.domains.iter().map(AsRef::as_ref).filter(|domain| is_wanted(domain, discovery)).collect();
    let definitions = wanted.iter().filter(|domain| domain.definition == Definition::Pending).count();
    let addresses = wanted.iter().filter(|domain| domain.addresses.is_none()).count();
    if definitions + addresses > 0 {
        return Err(Incomplete { definitions, addresses });
    }
    let host = Labels::of_host(snapshot, &config.libvirt.uri);
    Ok(wanted.into_iter().flat_map(|domain| groups_of(domain, discovery, &host)).collect())
}

/// Why there is no body.
#[derive(Debug, Error)]
pub enum TargetsError {
    /// It would be a partial list.
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
    /// A label that is no JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// The groups as the body of a response: a JSON array, empty if there are none.
///
/// # Errors
/// If the list would not be complete.
pub fn encode_target_groups(snapshot: &Snapshot, config: &Config) -> Result<Vec<u8>, TargetsError> {
    Ok(serde_json::to_vec(&build_target_groups(snapshot, config)?)?)
}

fn is_wanted(domain: &Domain, discovery: &ServiceDiscovery) -> bool {
    let state = match domain.state {
        PowerState::Running => ActiveState::Running,
        PowerState::Paused => ActiveState::Paused,
        PowerState::ShutOff | PowerState::Other => return false,
    };
    domain.selected && discovery.states.contains(&state)
}

fn groups_of(domain: &Domain, discovery: &ServiceDiscovery, host: &Labels) -> Vec<TargetGroup> {
    let located = located_addresses(domain, |interface| is_on(interface, &discovery.networks));
    let Some(primary) = primary_address(&located, discovery.address_family) else { return Vec::new() };
    let mut labels = host.clone();
    labels.add_domain(domain);
    labels.add_addresses(domain, &located, primary);
    let default = [ScrapeTarget { port: discovery.port, ..ScrapeTarget::default() }];
    let elements = domain.metadata().map(|metadata| metadata.scrape.as_slice()).filter(|scrape| !scrape.is_empty());
    let group = |element: &ScrapeTarget| {
        let mut labels = labels.clone();
        labels.add_scrape(element);
        let address = SocketAddr::new(primary.address, element.port);
        TargetGroup { targets: vec![address.to_string()], labels: labels.into_map() }
    };
    elements.unwrap_or(&default).iter().map(group).collect()
}

#[cfg(test)]
mod tests;
