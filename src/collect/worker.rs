//! The thread that owns the connection: opens it, asks, opens it again.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Instant, SystemTime};

use super::{Collection, CollectorStats, Request};
use crate::config::{Config, Group, InactiveDomains};
use crate::libvirt::{Connection, DomainSelection, LibvirtError, Records, StatsGroups, StatsRequest, Versions};

pub(super) struct Worker {
    config: Config,
    groups: StatsGroups,
    stats: Arc<Mutex<CollectorStats>>,
    connection: Option<Connection>,
    versions: Option<Versions>,
    /// The failure that was logged last: the log has one line for each change of state.
    logged: Option<LibvirtError>,
}

impl Worker {
    pub(super) fn new(config: Config, stats: Arc<Mutex<CollectorStats>>) -> Self {
        let groups = config.collection.groups.iter().map(|group| asked_for(*group)).collect();
        Self { config, groups, stats, connection: None, versions: None, logged: None }
    }

    /// Answers requests until nobody can send any more.
    pub(super) fn run(mut self, incoming: &mpsc::Receiver<Request>) {
        while let Ok(first) = incoming.recv() {
            // Those who came while the last collection ran share the next one.
            let waiting: Vec<Request> = std::iter::once(first).chain(incoming.try_iter()).collect();
            // A request whose deadline has passed needs no answer, and libvirt no question.
            if waiting.iter().all(Request::is_closed) {
                continue;
            }
            let collection = Arc::new(self.collect());
            for request in waiting {
                // Whoever has given up meanwhile does not hear it.
                let _gone = request.send(Arc::clone(&collection));
            }
        }
    }

    fn collect(&mut self) -> Collection {
        let started = Instant::now();
        let mut records = Records::default();
        let result = self.connected().and_then(|connection| self.fetch(&connection, &mut records).map(|()| connection));
        let error = match result {
            Ok(connection) => {
                self.connection = Some(connection);
                None
            }
            Err(error) => {
                records.clear();
                Some(error)
            }
        };
        let at = SystemTime::now();
        self.account(error.as_ref(), at);
        Collection { records, versions: self.versions.clone(), at, duration: started.elapsed(), error }
    }

    /// The connection of the last collection if it still stands, else a new one.
    fn connected(&mut self) -> Result<Connection, LibvirtError> {
        if let Some(connection) = self.connection.take().filter(Connection::is_alive) {
            return Ok(connection);
        }
        let uri = self.config.libvirt.uri.as_str();
        let connection = Connection::open(uri, || {})?;
        let versions = connection.versions()?;
        tracing::info!(uri, libvirt = versions.libvirt, hypervisor = versions.hypervisor, "connected to libvirt");
        if self.versions.replace(versions).is_some() {
            self.stats.lock().unwrap_or_else(PoisonError::into_inner).reconnects += 1;
        }
        Ok(connection)
    }

    fn fetch(&self, connection: &Connection, records: &mut Records) -> Result<(), LibvirtError> {
        let inactive_groups = match self.config.collection.inactive_domains {
            InactiveDomains::None => StatsGroups::default(),
            InactiveDomains::State => StatsGroups::STATE,
            InactiveDomains::All => self.groups,
        };
        let wanted = [(DomainSelection::Active, self.groups), (DomainSelection::Inactive, inactive_groups)];
        for (domains, groups) in wanted.into_iter().filter(|(_, groups)| !groups.is_empty()) {
            let backing_chain = self.config.collection.backing_chain;
            let request = StatsRequest { groups, domains: Some(domains), backing_chain, nowait: true };
            connection.fetch_stats(request, |name| self.config.domains.selects(name), records)?;
        }
        Ok(())
    }

    fn account(&mut self, error: Option<&LibvirtError>, at: SystemTime) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            None => stats.last_success = Some(at),
            Some(error) => {
                stats.count_failure(error.class);
                if self.logged.as_ref() != Some(error) {
                    tracing::warn!(%error, reason = error.class.as_str(), "no statistics from libvirt");
                }
            }
        }
        self.logged = error.cloned();
    }
}

/// The group of libvirt that yields a group of the configuration.
fn asked_for(group: Group) -> StatsGroups {
    match group {
        Group::State => StatsGroups::STATE,
        Group::CpuTotal => StatsGroups::CPU_TOTAL,
        Group::Balloon => StatsGroups::BALLOON,
        // KVM's statistics of vCPUs come with the group of vCPUs, asked for or not.
        Group::Vcpu | Group::VcpuKvm => StatsGroups::VCPU,
        Group::Interface => StatsGroups::INTERFACE,
        Group::Block => StatsGroups::BLOCK,
        Group::Perf => StatsGroups::PERF,
        Group::Iothread => StatsGroups::IOTHREAD,
        Group::Memory => StatsGroups::MEMORY,
        Group::Dirtyrate => StatsGroups::DIRTYRATE,
        Group::Vm => StatsGroups::VM,
    }
}
