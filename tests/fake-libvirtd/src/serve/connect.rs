//! Calls about the connection, the daemon and its host, listings and look-ups.

use std::ops::Range;

use super::{Call, Failure, Reply, code};
use crate::connection::payload;
use crate::definition::escape;
use crate::domains::passes;
use crate::event::last_event_id;
use crate::procedure::Procedure as P;
use crate::xdr::Reader;

/// Features that driver and daemon have: remote, fd passing, string parameters, keepalive, event and close callbacks.
const FEATURES: [i32; 6] = [2, 8, 9, 10, 14, 15];
/// `VIR_DRV_FEATURE_PROGRAM_KEEPALIVE`: a client that asks for it understands pings.
const KEEPALIVE: i32 = 10;
/// `VIR_CONNECT_RO`.
const READ_ONLY: u32 = 1;

impl Call {
    pub(super) fn serve_connect(&self) -> Reply {
        let host = &self.shared.host;
        let mut arguments = self.arguments();
        let mut out = payload();
        match self.procedure {
            P::AuthList => {
                // One kind of authentication: none.
                out.u32(1).i32(0);
            }
            P::ConnectOpen => {
                arguments.optional(Reader::string)?;
                if arguments.u32()? & READ_ONLY != 0 {
                    self.connection.set_read_only();
                    let number = self.connection.number;
                    let counters = &self.shared.counters;
                    counters.connection(number, |record| record.read_only = true);
                }
            }
            P::ConnectSupportsFeature => {
                let feature = arguments.i32()?;
                if feature == KEEPALIVE {
                    self.connection.start_keepalive();
                }
                out.i32(i32::from(FEATURES.contains(&feature)));
            }
            P::ConnectRegisterCloseCallback => self.connection.set_close_callback(true),
            P::ConnectUnregisterCloseCallback => self.connection.set_close_callback(false),
            P::ConnectGetType => {
                out.string(&host.driver);
            }
            P::ConnectGetVersion => {
                out.u64(host.hypervisor_version);
            }
            P::ConnectGetLibVersion => {
                out.u64(host.libvirt_version);
            }
            P::ConnectGetHostname => {
                out.string(&host.hostname);
            }
            P::ConnectGetUri => {
                out.string(&host.uri);
            }
            P::ConnectGetCapabilities => {
                match &host.capabilities {
                    Some(xml) => out.string(xml),
                    None => out.string(&self.capabilities()),
                };
            }
            P::NodeGetInfo => {
                for index in 0..32 {
                    let letter = b"x86_64".get(index).copied().unwrap_or(0);
                    out.i32(i32::from(letter));
                }
                out.u64(host.memory_kib).i32(host.cpus).i32(2400);
                // One NUMA node of one socket, every CPU a core of one thread.
                out.i32(1).i32(1).i32(host.cpus).i32(1);
            }
            _ => {}
        }
        Ok(out)
    }

    fn capabilities(&self) -> String {
        let host = &self.shared.host;
        format!(
            "<capabilities>\n\n  <host>\n    <uuid>{}</uuid>\n    <cpu>\n      <arch>x86_64</arch>\n      \
             <topology sockets='1' dies='1' cores='{}' threads='1'/>\n    </cpu>\n    <topology>\n      <cells num='1'>\n        \
             <cell id='0'>\n          <memory unit='KiB'>{}</memory>\n          <pages unit='KiB' size='4'>{}</pages>\n          \
             <pages unit='KiB' size='2048'>{}</pages>\n        </cell>\n      </cells>\n    </topology>\n  </host>\n\n  <guest>\n    \
             <os_type>hvm</os_type>\n    <arch name='x86_64'>\n      <wordsize>64</wordsize>\n      \
             <emulator>/usr/bin/qemu-system-x86_64</emulator>\n      <domain type='qemu'/>\n      <domain type='kvm'/>\n    \
             </arch>\n  </guest>\n\n</capabilities>\n",
            escape(&crate::domain::uuid_of(&host.hostname).to_string()),
            host.cpus,
            host.memory_kib,
            host.memory_kib / 4,
            host.huge_pages,
        )
    }

    pub(super) fn register_event(&self) -> Reply {
        let mut arguments = self.arguments();
        let event = arguments.i32()?;
        let domain = arguments.optional(Reader::domain)?;
        let last = last_event_id(self.shared.host.libvirt_version);
        if !(0..=last).contains(&event) {
            return Err(Failure::qemu(code::INTERNAL_ERROR, format!("internal error: unsupported event ID {event}")));
        }
        let id = self.connection.register(event, domain.map(|domain| domain.uuid));
        let mut out = payload();
        out.i32(id);
        Ok(out)
    }

    /// Likewise for events of storage pools or networks, whose numbers on this connection are these.
    pub(super) fn register_object_event(&self, numbers: Range<i32>) -> Reply {
        let mut arguments = self.arguments();
        let event = arguments.i32()? + numbers.start;
        let object = arguments.optional(|arguments| {
            arguments.string()?;
            arguments.uuid()
        })?;
        if !numbers.contains(&event) {
            return Err(Failure::qemu(code::INTERNAL_ERROR, format!("internal error: unsupported event ID {event}")));
        }
        let mut out = payload();
        out.i32(self.connection.register(event, object));
        Ok(out)
    }

    pub(super) fn deregister_event(&self) -> Reply {
        let id = self.arguments().i32()?;
        if self.connection.deregister(id) {
            return Ok(payload());
        }
        Err(Failure::qemu(code::INTERNAL_ERROR, format!("internal error: domain event callback {id} not registered")))
    }

    pub(super) fn serve_listing(&self) -> Reply {
        let mut arguments = self.arguments();
        let domains = self.domains();
        let active = domains.iter().filter(|entry| entry.domain.is_active());
        let inactive = domains.iter().filter(|entry| !entry.domain.is_active());
        let mut out = payload();
        match self.procedure {
            P::ConnectListAllDomains => {
                let need_results = arguments.i32()? != 0;
                let flags = arguments.u32()?;
                self.shared.counters.describe(self.id, |call| call.flags = Some(flags));
                let passing: Vec<_> = domains.iter().filter(|entry| passes(&entry.domain, flags)).collect();
                let most = self.shared.limits.records_max;
                if need_results && passing.len() > most {
                    return Err(Failure::qemu(
                        code::INTERNAL_ERROR,
                        format!("internal error: Too many domains '{}' for limit '{most}'", passing.len()),
                    ));
                }
                if need_results {
                    out.count(passing.len());
                    for entry in &passing {
                        out.domain(&entry.domain.name, entry.domain.uuid, entry.domain.id);
                    }
                } else {
                    out.count(0);
                }
                out.count(passing.len());
            }
            P::ConnectNumOfDomains => {
                out.count(active.count());
            }
            P::ConnectNumOfDefinedDomains => {
                out.count(inactive.count());
            }
            P::ConnectListDomains => {
                let most = usize::try_from(arguments.i32()?).unwrap_or(0);
                let ids: Vec<u32> = active.filter_map(|entry| entry.domain.id).take(most).collect();
                out.count(ids.len());
                for id in ids {
                    out.u32(id);
                }
            }
            _ => {
                let most = usize::try_from(arguments.i32()?).unwrap_or(0);
                let names: Vec<_> = inactive.map(|entry| &entry.domain.name).take(most).collect();
                out.count(names.len());
                for name in names {
                    out.string(name);
                }
            }
        }
        Ok(out)
    }

    pub(super) fn look_up(&self) -> Reply {
        let mut arguments = self.arguments();
        let domains = self.domains();
        let (found, which) = match self.procedure {
            P::DomainLookupById => {
                let id = arguments.i32()?;
                if id < 0 {
                    return Err(Failure::qemu(
                        code::INVALID_ARG,
                        "invalid argument: id in virDomainLookupByID must be zero or greater",
                    ));
                }
                (domains.by_id(id), format!("no domain with matching id {id}"))
            }
            P::DomainLookupByName => {
                let name = arguments.string()?;
                let which = format!("no domain with matching name '{name}'");
                (domains.by_name(&name), which)
            }
            _ => {
                let uuid = arguments.uuid()?;
                let which = format!("no domain with matching uuid '{uuid}'");
                (domains.by_uuid(uuid), which)
            }
        };
        let domain = &found.ok_or_else(|| Failure::no_domain(which))?.domain;
        let mut out = payload();
        out.domain(&domain.name, domain.uuid, domain.id);
        Ok(out)
    }
}
