//! Statistics of running domains, several in one call.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use uuid::Uuid;

use super::Session;
use crate::config::Intervals;
use crate::hypervisor::{Before, FromHost, Source};
use crate::libvirt::{LibvirtError, Records, StatsGroups, StatsRequest};

/// The records of `domains`; those that have vanished have none. The groups of `from_host` are read from the host's files of the
/// domains of which these are believed; of others libvirt is asked for them, if they are in the request.
pub(super) fn fetch(
    session: &mut Session,
    domains: &[Uuid],
    request: StatsRequest,
    FromHost { groups: from_host, falls_back, pressure }: FromHost,
    intervals: Intervals,
) -> Result<Records, LibvirtError> {
    let (mut by_host, mut by_libvirt, mut compared) = (Vec::new(), Vec::new(), Vec::new());
    if from_host.is_empty() {
        by_libvirt.extend_from_slice(domains);
    } else {
        let may_ask = request.groups.contains(from_host);
        for uuid in domains {
            match session.shared.host.source_of(*uuid, from_host, may_ask) {
                Source::Host => by_host.push(*uuid),
                Source::Libvirt if !falls_back || !may_ask => by_host.push(*uuid),
                Source::Libvirt => by_libvirt.push(*uuid),
                Source::Both(before) => {
                    by_libvirt.push(*uuid);
                    compared.push((*uuid, before));
                }
            }
        }
    }
    let mut records = Records::default();
    let without = StatsRequest { groups: request.groups.without(from_host), ..request };
    let add_pressure = |uuid, id: Option<u32>, records: &mut Records| {
        if pressure && id.is_some() {
            session.shared.host.add_pressure(uuid, records);
        }
    };
    fetch_due(session, &by_host, without, intervals, &mut records, |uuid, id, records| {
        session.shared.host.complete(uuid, id, from_host, records);
        add_pressure(uuid, id, records);
    })?;
    // What a busy domain lacked of its vCPUs comes alone.
    let adds_polls = from_host.is_empty() && request.groups.contains(StatsGroups::VCPU);
    fetch_due(session, &by_libvirt, request, intervals, &mut records, |uuid, id, records| {
        if adds_polls {
            session.shared.host.add_halt_poll(uuid, id, records);
        }
        add_pressure(uuid, id, records);
    })?;
    compare(session, &compared, request, from_host, &mut records);
    if records.len() < domains.len() {
        let answered: HashSet<Uuid> = records.domains().map(|record| record.uuid).collect();
        let vanished = domains.iter().filter(|uuid| !answered.contains(uuid));
        vanished.for_each(|uuid| drop(session.handles.remove(uuid)));
    }
    Ok(records)
}

/// Appends the records of `domains`. Groups that have an interval are asked of those domains alone for which they are due.
fn fetch_due(
    session: &Session,
    domains: &[Uuid],
    request: StatsRequest,
    intervals: Intervals,
    records: &mut Records,
    mut complete: impl FnMut(Uuid, Option<u32>, &mut Records),
) -> Result<(), LibvirtError> {
    let (paced, now) = (&session.shared.paced, Instant::now());
    let mut by_rest: BTreeMap<StatsGroups, Vec<Uuid>> = BTreeMap::new();
    for uuid in domains {
        by_rest.entry(paced.rest(*uuid, request.groups, intervals, now)).or_default().push(*uuid);
    }
    for (rest, domains) in by_rest {
        let due = StatsRequest { groups: request.groups.without(rest), ..request };
        fetch_of(session, &domains, due, records, |uuid, id, records| {
            paced.complete(request.groups, rest, intervals, records, now);
            complete(uuid, id, records);
        })?;
    }
    Ok(())
}

/// Appends the records of `domains`. Of no group they are empty, and tell that the domains run.
fn fetch_of(
    session: &Session,
    domains: &[Uuid],
    request: StatsRequest,
    records: &mut Records,
    mut complete: impl FnMut(Uuid, Option<u32>, &mut Records),
) -> Result<(), LibvirtError> {
    let handles = domains.iter().filter_map(|uuid| session.handles.get(uuid));
    if !request.groups.is_empty() {
        return session.connection.fetch_stats_completed(handles, request, records, complete);
    }
    // libvirt takes no group for all of them. This one costs it nothing.
    let (request, mut running) = (StatsRequest { groups: StatsGroups::STATE, ..request }, Records::default());
    session.connection.fetch_stats_of(handles, request, &mut running)?;
    for domain in running.domains() {
        records.push_domain(domain.name, domain.uuid, domain.id);
        complete(domain.uuid, domain.id, records);
    }
    Ok(())
}

/// Compares what libvirt reports of some domains with the host's files. What these will not have is noted: it would be shown once
/// and never again.
fn compare(
    session: &Session,
    compared: &[(Uuid, Before)],
    request: StatsRequest,
    groups: StatsGroups,
    records: &mut Records,
) {
    if compared.is_empty() {
        return;
    }
    for index in 0..records.len() {
        let record = records.domain(index);
        if let Some((_, before)) = compared.iter().find(|(uuid, _)| *uuid == record.uuid) {
            let is_unpolled = session.shared.host.compare(&record, groups, before);
            // libvirt's records of vCPUs have the times that each has polled.
            let has_vcpus = request.groups.without(groups).contains(StatsGroups::VCPU);
            if is_unpolled && !has_vcpus {
                records.note_compared(index, groups);
            }
        }
    }
}
