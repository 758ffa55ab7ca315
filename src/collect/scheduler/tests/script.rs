//! A daemon as a script: guests that answer, hang, are busy or die, and a daemon that freezes or goes away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::replies::{error, of_records, one_record, reply, without_records};
use crate::collect::message::Answer;
use crate::collect::pool::JobId;
use crate::domains::{Addresses, Agent, Disk, Flags, Listing, Metadata, PowerState};
use crate::libvirt::{
    AddressSource, ControlState, ErrorClass, Identity, InterfaceAddresses, LibvirtError, ParamValue, Records,
    StatsGroups, StatsRequest,
};
use crate::probes::{JOB, Outcome, Scope, Subject, Task};

/// What a whole record has of each group that its monitor answers.
const MONITOR: [(StatsGroups, &str); 7] = [
    (StatsGroups::CPU_TOTAL, "cpu.haltpoll.fail.time"),
    (StatsGroups::BALLOON, "balloon.rss"),
    (StatsGroups::VCPU, "vcpu.0.exits.sum"),
    (StatsGroups::BLOCK, "block.0.rd.reqs"),
    (StatsGroups::IOTHREAD, "iothread.count"),
    (StatsGroups::DIRTYRATE, "dirtyrate.calc_status"),
    (StatsGroups::VM, "vm.remote_tlb_flush.sum"),
];
/// How long libvirt waits for a domain's job.
pub(super) const JOB_WAIT: Duration = Duration::from_secs(30);

/// How a call about something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Good,
    Hangs,
    Fails(ErrorClass),
    /// As a guest agent that says nothing.
    FailsAfter(Duration),
}

/// A guest.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) name: String,
    pub(super) id: Option<u32>,
    /// Its hypervisor does not answer.
    pub(super) hung: bool,
    /// Whether the daemon holds its lock, as it does while a hook runs: whatever looks at it waits.
    pub(super) locked: bool,
    /// Its monitor is broken.
    pub(super) broken: bool,
    /// Another client holds its job until then.
    pub(super) busy_until: Option<Instant>,
    /// Another client has been waiting for its monitor since then.
    pub(super) occupied_since: Option<Instant>,
    /// A call of ours has its job since then, and hangs.
    pub(super) held: Option<(JobId, Instant)>,
    /// How long a call takes for it.
    pub(super) takes: Duration,
    pub(super) definition: Reply,
    pub(super) addresses: Reply,
    /// What a call of any other probe meets.
    pub(super) other: Reply,
    /// Whether it has a background job, such as a migration.
    pub(super) has_job: bool,
    /// Whether statistics leave it out although it runs.
    pub(super) left_out: bool,
    pub(super) title: String,
    pub(super) image: String,
}

/// The daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) guests: BTreeMap<Uuid, Guest>,
    pub(super) frozen: bool,
    pub(super) down: bool,
    /// Opens that are answered, beyond those that there are; the others hang.
    pub(super) places: usize,
    /// Whether an open beyond the places is refused, and does not hang.
    pub(super) refuses: bool,
    /// Whether an open that hangs cannot be ended.
    pub(super) stubborn: bool,
    /// Domains that a reply can have.
    pub(super) reply_limit: usize,
    pub(super) knows_bulk: bool,
    pub(super) knows_backing: bool,
    pub(super) knows_nowait: bool,
    pub(super) listing: Reply,
    pub(super) listing_takes: Duration,
    /// How questions about the host are answered, listings of its objects among them.
    pub(super) host: Reply,
    /// The objects of the host, and how questions about each are answered.
    pub(super) objects: Vec<(Uuid, Reply)>,
    pub(super) driver: &'static str,
    /// Whether read-write connections are refused.
    pub(super) refuses_writers: bool,
    /// The next call for statistics with these groups fails, as an older daemon's does when a guest dies in it.
    pub(super) dies_in_call: bool,
    /// Since when every monitor counts as occupied, and until when.
    pub(super) stalled: Option<(Instant, Instant)>,
    next_id: u32,
}

pub(super) fn uuid(number: usize) -> Uuid {
    Uuid::from_u128(u128::try_from(number).expect("small") + 1)
}

impl Daemon {
    pub(super) fn new(guests: usize) -> Self {
        let mut daemon = Self {
            guests: BTreeMap::new(),
            frozen: false,
            down: false,
            places: usize::MAX,
            refuses: false,
            stubborn: false,
            reply_limit: usize::MAX,
            knows_bulk: true,
            knows_backing: true,
            knows_nowait: true,
            listing: Reply::Good,
            listing_takes: Duration::from_millis(1),
            host: Reply::Good,
            objects: Vec::new(),
            driver: "QEMU",
            refuses_writers: false,
            dies_in_call: false,
            stalled: None,
            next_id: 1,
        };
        (0..guests).for_each(|number| _ = daemon.start(number));
        daemon
    }

    /// Starts a guest, which is defined if it was not. Gives who it is.
    pub(super) fn start(&mut self, number: usize) -> Identity {
        let id = self.next_id;
        self.next_id += 1;
        let old = self.guests.remove(&uuid(number));
        let guest = Guest {
            name: format!("vm-{number}"),
            id: Some(id),
            hung: false,
            locked: false,
            broken: false,
            busy_until: None,
            occupied_since: None,
            held: None,
            takes: Duration::from_micros(500),
            definition: Reply::Good,
            addresses: Reply::Good,
            other: Reply::Good,
            has_job: false,
            left_out: false,
            title: old.map_or_else(|| "a title".to_owned(), |old| old.title),
            image: "/image".to_owned(),
        };
        self.guests.insert(uuid(number), guest);
        self.identity(number)
    }

    pub(super) fn stop(&mut self, number: usize) -> Identity {
        self.guest(number).id = None;
        self.identity(number)
    }

    pub(super) fn guest(&mut self, number: usize) -> &mut Guest {
        self.guests.get_mut(&uuid(number)).expect("a guest")
    }

    pub(super) fn identity(&self, number: usize) -> Identity {
        let guest = &self.guests[&uuid(number)];
        Identity { name: guest.name.clone(), uuid: uuid(number), id: guest.id }
    }

    /// The answer to a task that has told of these control `states`, and how long it takes; `Err` if there is none now, with the time at which to look again.
    pub(super) fn answer(
        &mut self,
        job: JobId,
        task: &Task,
        states: Vec<(Uuid, ControlState)>,
        began: Instant,
        now: Instant,
    ) -> Result<(Duration, Answer), Option<Instant>> {
        if self.frozen || self.waits_for_lock(task) {
            return Err(None);
        }
        let soon = Duration::from_millis(1);
        let plain = |outcome| Ok((soon, Ok(without_records(outcome))));
        match task {
            Task::List => match self.listing {
                Reply::Good => {
                    let takes = self.listing_takes;
                    Ok((takes, Ok(without_records(Outcome::Listed(self.list())))))
                }
                Reply::Hangs => Err(None),
                Reply::Fails(class) => Ok((soon, Err(error(class)))),
                Reply::FailsAfter(time) => Ok((time, Err(error(ErrorClass::Other(86))))),
            },
            Task::Ping => plain(Outcome::Nothing),
            Task::Control(_) => plain(Outcome::Controlled(states)),
            Task::Stats { domains, request, .. } => self.stats(job, domains, *request, began, now),
            Task::Inactive { request, wanted } => {
                if let Some(error) = self.refusal(*request) {
                    return Ok((soon, Err(error)));
                }
                let mut records = Records::default();
                for (uuid, guest) in
                    self.guests.iter().filter(|(uuid, guest)| guest.id.is_none() && wanted(&guest.name, **uuid))
                {
                    records.push_domain(&guest.name, *uuid, None);
                    records.push("state.state", ParamValue::Int(5));
                }
                Ok((soon, Ok(of_records(records))))
            }
            Task::Info { inactive, wanted, .. } => {
                let mut records = Records::default();
                for (uuid, guest) in self.guests.iter().filter(|(_, guest)| guest.id.is_none() == *inactive) {
                    if wanted(&guest.name, *uuid) {
                        records.push_domain(&guest.name, *uuid, guest.id);
                        records.push("state.state", ParamValue::Int(1));
                    }
                }
                Ok((soon, Ok(of_records(records))))
            }
            Task::Define { uuid, known, .. } => {
                let Some(guest) = self.guests.get(uuid) else {
                    return Ok((soon, Err(error(ErrorClass::VanishedDomain))));
                };
                reply(guest.definition, soon, || definition(guest, *known))
            }
            Task::Locate { uuid, .. } => {
                let Some(guest) = self.guests.get(uuid) else {
                    return Ok((soon, Err(error(ErrorClass::VanishedDomain))));
                };
                reply(guest.addresses, soon, || Outcome::Located(Some(addresses())))
            }
            Task::Ask(probe, Subject::Host) if probe.scope == Scope::Object => {
                let objects = self.objects.iter().map(|(uuid, _)| *uuid).collect();
                reply(self.host, soon, || Outcome::Objects(objects))
            }
            Task::Ask(_, Subject::Object(uuid)) => {
                let object = self.objects.iter().find(|(object, _)| object == uuid);
                let how = object.map_or(Reply::Fails(ErrorClass::Other(49)), |(_, how)| *how);
                reply(how, soon, || Outcome::Records(one_record("object", *uuid)))
            }
            Task::Ask(_, Subject::Host) => reply(self.host, soon, || Outcome::Records(one_record("pool", Uuid::max()))),
            Task::Ask(probe, Subject::Domain(uuid)) if probe.name == JOB.name => {
                self.answer_job(job, *uuid, began, now)
            }
            Task::Ask(_, Subject::Domain(uuid)) => {
                let Some(guest) = self.guests.get_mut(uuid) else {
                    return Ok((soon, Err(error(ErrorClass::VanishedDomain))));
                };
                if guest.hung {
                    guest.held.get_or_insert((job, now));
                    return Err(None);
                }
                guest.held.take_if(|(holder, _)| *holder == job);
                reply(guest.other, soon, || Outcome::Records(one_record(&guest.name, *uuid)))
            }
        }
    }

    fn refusal(&self, request: StatsRequest) -> Option<LibvirtError> {
        match () {
            () if !self.knows_bulk => Some(error(ErrorClass::NotSupported)),
            () if request.backing_chain && !self.knows_backing => Some(error(ErrorClass::Other(8))),
            () if request.nowait && !self.knows_nowait => Some(error(ErrorClass::Other(8))),
            () => None,
        }
    }

    fn stats(
        &mut self,
        job: JobId,
        domains: &[Uuid],
        request: StatsRequest,
        began: Instant,
        now: Instant,
    ) -> Result<(Duration, Answer), Option<Instant>> {
        let mut takes = Duration::from_millis(1);
        let fragile = !request.groups.and(StatsGroups::FRAGILE).is_empty();
        if fragile && std::mem::take(&mut self.dies_in_call) {
            return Ok((takes, Err(error(ErrorClass::Other(38)))));
        }
        if let Some(error) = self.refusal(request) {
            return Ok((takes, Err(error)));
        }
        if domains.len() > self.reply_limit {
            return Ok((takes, Err(error(ErrorClass::TooLarge))));
        }
        let asks_monitor = !request.groups.and(StatsGroups::MONITOR).is_empty();
        let mut records = Records::default();
        for uuid in domains {
            let Some(guest) = self.guests.get_mut(uuid).filter(|guest| guest.id.is_some() && !guest.left_out) else {
                continue;
            };
            takes += guest.takes;
            let held_by_us = guest.held.is_some_and(|(holder, _)| holder != job);
            let busy = guest.busy_until.filter(|until| *until > now);
            let mut has_job = busy.is_none() && !held_by_us && guest.occupied_since.is_none();
            if asks_monitor && !has_job && !request.nowait && now < began + JOB_WAIT {
                return Err(Some(busy.unwrap_or(began + JOB_WAIT).min(began + JOB_WAIT)));
            }
            if asks_monitor && has_job && guest.hung {
                guest.held.get_or_insert((job, now));
                return Err(None);
            }
            has_job &= !guest.broken;
            guest.held.take_if(|(holder, _)| *holder == job);
            push_record(&mut records, *uuid, guest, request.groups, has_job);
        }
        Ok((takes, Ok(of_records(records))))
    }

    pub(super) fn control_states(&self, domains: &[Uuid], now: Instant) -> Vec<(Uuid, ControlState)> {
        let state = |guest: &Guest| {
            let stalled = self.stalled.filter(|(_, until)| now < *until).map(|(since, _)| since);
            let since = guest.held.map(|(_, since)| since).filter(|_| guest.hung).or(guest.occupied_since).or(stalled);
            match since {
                _ if guest.broken => ControlState::Error,
                Some(since) => ControlState::Occupied(now.saturating_duration_since(since)),
                None if guest.busy_until.is_some_and(|until| until > now) => ControlState::Job,
                None => ControlState::Ok,
            }
        };
        let running =
            domains.iter().filter_map(|uuid| Some((*uuid, self.guests.get(uuid).filter(|guest| guest.id.is_some())?)));
        running.map(|(uuid, guest)| (uuid, state(guest))).collect()
    }

    fn list(&self) -> Listing {
        let describe = |(uuid, guest): (&Uuid, &Guest)| {
            let state = if guest.id.is_some() { PowerState::Running } else { PowerState::ShutOff };
            let flags = Flags { persistent: true, ..Flags::default() };
            (Identity { name: guest.name.clone(), uuid: *uuid, id: guest.id }, state, flags)
        };
        Listing { domains: self.guests.iter().map(describe).collect(), host: None }
    }
}

fn push_record(records: &mut Records, uuid: Uuid, guest: &Guest, groups: StatsGroups, has_job: bool) {
    records.push_domain(&guest.name, uuid, guest.id);
    for (group, key) in [(StatsGroups::STATE, "state.state"), (StatsGroups::CPU_TOTAL, "cpu.time")] {
        if groups.contains(group) {
            records.push(key, ParamValue::Int(1));
        }
    }
    if groups.contains(StatsGroups::BLOCK) {
        records.push("block.count", ParamValue::UInt(1));
        records.push("block.0.name", ParamValue::String("vda"));
        records.push("block.0.path", ParamValue::String(&guest.image));
    }
    for (_, key) in MONITOR.iter().filter(|(group, _)| has_job && groups.contains(*group)) {
        records.push(key, ParamValue::ULLong(1));
    }
}

fn definition(guest: &Guest, known: Option<u64>) -> Outcome {
    let fingerprint = u64::try_from(guest.title.len() * 1000 + guest.image.len()).expect("small");
    if known == Some(fingerprint) {
        return Outcome::Unchanged;
    }
    let disk = Disk {
        device: "vda".to_owned(),
        source: guest.image.clone(),
        source_type: "file".to_owned(),
        ..Disk::default()
    };
    let (title, virt_type) = (guest.title.clone(), "kvm".to_owned());
    Outcome::Defined(Ok(Arc::new(Metadata {
        title,
        virt_type,
        iothreads: 1,
        agent: Some(Agent { connected: Some(true) }),
        disks: vec![disk],
        fingerprint,
        ..Metadata::default()
    })))
}

fn addresses() -> Addresses {
    let addresses = vec![std::net::IpAddr::from([192, 0, 2, 1])];
    let interfaces = vec![InterfaceAddresses { name: "vnet0".to_owned(), mac: String::new(), addresses }];
    Addresses { source: AddressSource::Lease, interfaces }
}
