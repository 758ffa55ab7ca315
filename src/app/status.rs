//! The state of the exporter for people and probes: the last collection, readiness and the landing page.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime};

use crate::collect::{Collection, Quarantined};
use crate::config::{Group, uri_key};
use crate::libvirt::{Identity, LibvirtError, Versions};
use crate::push::{Journal, LastPush};
use crate::web::{self, Connection, Overview};

/// A collection without its records: a large host has better use for their memory than to keep them until the next ones.
#[derive(Debug)]
pub struct Summary {
    /// Why libvirt could not be asked.
    pub error: Option<LibvirtError>,
    /// The versions behind the connection, once there has been one.
    pub versions: Option<Versions>,
    /// When it ended, and how long it took.
    pub took: (SystemTime, Duration),
    /// How many domains are in which state.
    pub domains: Vec<(&'static str, u64)>,
    /// The domains in quarantine.
    pub quarantined: Vec<(Identity, Quarantined)>,
    /// How many parameters each group has in it, the largest group first.
    pub parameters: Vec<(Group, usize)>,
}

impl Summary {
    pub(super) fn of(collection: &Collection, domains: Vec<(&'static str, u64)>) -> Self {
        let quarantined = collection.domains.iter();
        let quarantined = quarantined.filter_map(|domain| Some((domain.identity.clone(), domain.quarantined?)));
        let mut parameters: Vec<(Group, usize)> = collection.parameters.clone().into_iter().collect();
        parameters.sort_by_key(|(_, count)| Reverse(*count));
        Self {
            error: collection.error.clone(),
            versions: collection.versions.clone(),
            took: (collection.at, collection.duration),
            domains,
            quarantined: quarantined.collect(),
            parameters,
        }
    }

    /// Shows the collection on the landing page.
    pub(super) fn show(&self, overview: &mut Overview) {
        overview.connection = match (&self.error, &self.versions) {
            (Some(error), _) => {
                Connection::Bad { error: error.to_string(), remedy: error.remedy(&overview.uri, &uri_key(None)) }
            }
            (None, Some(versions)) => Connection::Good {
                daemon: versions.libvirt.clone(),
                hypervisor: format!("{} {}", versions.driver, versions.hypervisor),
            },
            (None, None) => Connection::NotTried,
        };
        let quarantined = self.quarantined.iter().map(|(identity, quarantined)| web::Quarantined {
            domain: identity.name.clone(),
            reason: quarantined.cause.as_str().to_owned(),
            since: quarantined.since,
        });
        overview.quarantined = quarantined.collect();
        overview.domains = self.domains.clone();
        overview.last = Some(self.took);
        overview.groups = self.parameters.clone();
    }
}

/// The last push on the landing page.
pub(super) fn last_push(journal: &Journal) -> Option<web::Push> {
    let LastPush { url, at, took, points, fault, .. } = journal.stats()?.last?;
    Some(web::Push { url, last: (at, took), points, fault })
}
