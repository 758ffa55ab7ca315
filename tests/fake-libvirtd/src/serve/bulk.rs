//! The bulk statistics call, `virConnectGetAllDomainStats` and `virDomainListGetStats`.

use std::sync::Arc;
use std::time::Duration;

use super::{Call, Failure, Reply, code};
use crate::domain::{Domain, Entry};
use crate::domains::{DomainSet, passes};
use crate::event::Identity;
use crate::fault::{DomainFaults, RecordFault};
use crate::frame::HEADER_LEN;
use crate::lifecycle::Change;
use crate::shared::Admission;
use crate::stats::{Selection, flag, group};
use crate::xdr::Writer;

/// libvirt from this version on survives the death of a VM in the middle of the call.
const DEATH_IS_HARMLESS: u64 = 11_003_000;

/// What the client asked for.
#[derive(Debug, Clone, Copy)]
struct Request {
    groups: u32,
    flags: u32,
    limit: usize,
}

impl Call {
    pub(super) fn get_all_domain_stats(&self) -> Reply {
        let mut arguments = self.arguments();
        let named = arguments.domains()?;
        let stats = arguments.u32()?;
        let flags = arguments.u32()?;
        self.shared.counters.describe(self.id, |call| {
            call.stats = Some(stats);
            call.flags = Some(flags);
            call.domains = Some(named.len());
        });
        check(stats, flags)?;
        let request = Request { groups: if stats == 0 { group::ALL } else { stats }, flags, limit: self.reply_limit() };
        let domains = self.domains();
        let chosen: Vec<&Arc<Entry>> = if named.is_empty() {
            domains.iter().collect()
        } else {
            let by_uuid = |one: &crate::xdr::DomainRef| domains.by_uuid(one.uuid);
            named.iter().filter_map(by_uuid).collect()
        };
        let chosen: Vec<&Arc<Entry>> = chosen.into_iter().filter(|entry| passes(&entry.domain, flags & 0xff)).collect();
        self.check_count(chosen.len())?;

        let backing = flags & flag::BACKING != 0;
        let bytes: usize = chosen.iter().map(|entry| entry.encoded(backing).len() + 64).sum();
        let mut out = Writer::with_capacity(bytes.min(request.limit) + HEADER_LEN + 4);
        out.raw(&[0; HEADER_LEN]).u32(0);
        let mut records = 0;
        let at = self.shared.clock_for_call();
        for entry in chosen {
            records += self.append_domain(entry, &domains, request, at, &mut out)?;
            if out.len() > request.limit {
                return Err(Failure::rpc("Unable to encode message payload"));
            }
        }
        if named.is_empty() {
            records += self.append_ghosts(&mut out);
        }
        out.bytes_mut()[HEADER_LEN..HEADER_LEN + 4].copy_from_slice(&records.to_be_bytes());
        Ok(out)
    }

    fn check_count(&self, records: usize) -> Result<(), Failure> {
        let most = self.shared.limits.records_max;
        if records <= most {
            return Ok(());
        }
        Err(Failure::qemu(
            code::INTERNAL_ERROR,
            format!("internal error: Number of domain stats records is {records}, which exceeds max limit: {most}"),
        ))
    }

    /// Appends what is sent of a domain; returns how many records that is.
    fn append_domain(
        &self,
        entry: &Arc<Entry>,
        domains: &Arc<DomainSet>,
        request: Request,
        at: Duration,
        out: &mut Writer,
    ) -> Result<u32, Failure> {
        let domain = &entry.domain;
        let asks_monitor = domain.is_active() && request.groups & group::MONITOR != 0;
        let nowait = request.flags & flag::NOWAIT != 0;
        let (has_job, faults) = if asks_monitor {
            let generation = self.connection.generation;
            let admission = self.shared.enter_monitor(generation, &domain.name, domain.uuid, nowait);
            match admission {
                Admission::Full(faults) => (true, faults),
                Admission::Busy(faults) => (false, faults),
                Admission::Gone => return Err(Failure::Gone),
            }
        } else {
            (true, self.shared.domain_faults(&domain.name))
        };
        let mut selection = Selection { groups: request.groups, has_job, silent: faults.silent };
        if faults.dies && asks_monitor && has_job {
            self.die(domain, request.groups)?;
            selection.has_job = false;
        }
        // A call that waited reports the domain as it is now, not as it was when the call began.
        let now = self.domains();
        let current = if Arc::ptr_eq(&now, domains) {
            entry
        } else {
            match now.by_uuid(domain.uuid) {
                Some(current) => current,
                None => return Ok(0),
            }
        };
        Ok(append_record(current, request, selection, &faults, at, out))
    }

    /// The VM dies while its monitor is asked.
    fn die(&self, domain: &Domain, groups: u32) -> Result<(), Failure> {
        self.shared.change(|state| {
            if let Some(faults) = state.faults.domains.get_mut(&domain.name) {
                faults.dies = false;
            }
        });
        // It may be gone already; the call then goes on without it.
        let _ = self.shared.change_lifecycle(&domain.name, Change::Die);
        if groups & group::FATAL != 0 && self.shared.host.libvirt_version < DEATH_IS_HARMLESS {
            return Err(Failure::qemu(code::SYSTEM_ERROR, "Unable to read from monitor: Connection reset by peer"));
        }
        Ok(())
    }

    fn append_ghosts(&self, out: &mut Writer) -> u32 {
        let state = self.shared.state();
        let mut records = 0;
        for ghost in &state.faults.ghosts {
            out.domain(&ghost.name, ghost.uuid, ghost.id).u32(2);
            out.param("state.state", &crate::params::Value::Int(1));
            out.param("state.reason", &crate::params::Value::Int(1));
            records += 1;
        }
        records
    }
}

fn append_record(
    entry: &Entry,
    request: Request,
    selection: Selection,
    faults: &DomainFaults,
    at: Duration,
    out: &mut Writer,
) -> u32 {
    let mut identity = Identity::from(&entry.domain);
    let mut times = 1;
    match &faults.record {
        Some(RecordFault::Missing) => return 0,
        Some(RecordFault::Renamed(name)) => identity.name.clone_from(name),
        Some(RecordFault::ReId(id)) => identity.id = *id,
        Some(RecordFault::Twice) => times = 2,
        None => {}
    }
    let encoded = entry.encoded(request.flags & flag::BACKING != 0);
    for _ in 0..times {
        out.domain(&identity.name, identity.uuid, identity.id);
        let count_at = out.len();
        // The count comes before what it counts.
        out.u32(0);
        let mut params = encoded.append(selection, at, out);
        for fault in &faults.params {
            fault.write(out);
            params += 1;
        }
        out.bytes_mut()[count_at..count_at + 4].copy_from_slice(&params.to_be_bytes());
    }
    times
}

fn check(stats: u32, flags: u32) -> Result<(), Failure> {
    let unknown = flags & !flag::ALL;
    if unknown != 0 {
        return Err(Failure::qemu(
            code::INVALID_ARG,
            format!("invalid argument: unsupported flags (0x{unknown:x}) in function qemuConnectGetAllDomainStats"),
        ));
    }
    let unsupported = stats & !group::ALL;
    if unsupported != 0 && flags & flag::ENFORCE != 0 {
        return Err(Failure::qemu(
            code::ARGUMENT_UNSUPPORTED,
            format!(
                "argument unsupported: Stats types bits 0x{unsupported:x} are not supported by this daemon or QEMU"
            ),
        ));
    }
    Ok(())
}
