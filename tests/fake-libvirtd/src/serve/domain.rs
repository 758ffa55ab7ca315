//! Calls about one domain that no monitor is asked for.

use super::{Call, Failure, Reply, code};
use crate::connection::payload;
use crate::definition;
use crate::domain::Domain;
use crate::params::Value;
use crate::procedure::Procedure as P;
use crate::shared::Admission;
use crate::xdr::{Reader, Writer};

/// `VIR_DOMAIN_XML_SECURE` and `VIR_DOMAIN_XML_MIGRATABLE`, which a read-only connection may not ask for.
const SECURE_FLAGS: u32 = 1 | 1 << 3;
/// `VIR_DOMAIN_XML_INACTIVE`.
const INACTIVE: u32 = 1 << 1;
/// `VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT`.
const FROM_AGENT: u32 = 1;
/// `VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP`.
const FROM_NEIGHBOURS: u32 = 2;
/// libvirt from this version on waits for a domain's job before it formats the definition.
const XML_TAKES_JOB: u64 = 11_000_000;

impl Call {
    pub(super) fn serve_domain(&self) -> Reply {
        let mut arguments = self.arguments();
        let entry = self.domain(&mut arguments)?;
        let domain = &entry.domain;
        let mut out = payload();
        match self.procedure {
            P::DomainGetXmlDesc => {
                let flags = arguments.u32()?;
                out.string(&self.definition(domain, flags)?);
            }
            P::DomainGetInfo => info(domain, self, &mut out),
            P::DomainGetState => {
                out.i32(domain.state.number()).i32(domain.reason);
            }
            P::DomainGetOsType => {
                out.string("hvm");
            }
            P::DomainGetAutostart => {
                out.i32(i32::from(domain.autostart));
            }
            P::DomainIsActive => {
                out.i32(i32::from(domain.is_active()));
            }
            P::DomainIsPersistent => {
                out.i32(i32::from(domain.persistent));
            }
            P::DomainHasManagedSaveImage => {
                out.i32(i32::from(domain.managed_save));
            }
            P::DomainGetMetadata => {
                let kind = arguments.i32()?;
                let uri = arguments.optional(Reader::string)?;
                out.string(&metadata(domain, kind, uri.as_deref())?);
            }
            P::DomainGetMessages => {
                let kinds = arguments.u32()?;
                let wanted = domain.messages.iter().filter(|(kind, _)| kinds == 0 || kinds & kind != 0);
                let messages: Vec<&String> = wanted.map(|(_, message)| message).collect();
                out.count(messages.len());
                for message in messages {
                    out.string(message);
                }
            }
            _ => {
                let source = arguments.u32()?;
                self.addresses(domain, source, &mut out)?;
            }
        }
        Ok(out)
    }

    fn definition(&self, domain: &Domain, flags: u32) -> Result<String, Failure> {
        if flags & SECURE_FLAGS != 0 {
            self.refuse_read_only("virDomainGetXMLDesc with secure flag")?;
        }
        if self.shared.host.libvirt_version >= XML_TAKES_JOB && domain.is_active() {
            let generation = self.connection.generation;
            match self.shared.enter_monitor(generation, &domain.name, domain.uuid, false) {
                Admission::Full(_) => {}
                Admission::Busy(_) => return Err(super::monitor::job_timeout()),
                Admission::Gone => return Err(Failure::Gone),
            }
        }
        if flags & INACTIVE == 0 || !domain.is_active() {
            return Ok(definition::xml(domain));
        }
        let mut inactive = domain.clone();
        inactive.set_state(crate::domain::DomainState::Shutoff, 0);
        Ok(definition::xml(&inactive))
    }

    fn addresses(&self, domain: &Domain, source: u32, out: &mut Writer) -> Result<(), Failure> {
        if source == FROM_AGENT {
            self.refuse_read_only("virDomainInterfaceAddresses")?;
        } else if !domain.is_active() {
            return Err(not_running());
        }
        let interfaces = match source {
            FROM_AGENT if domain.is_active() => domain.agent_interfaces.clone(),
            FROM_AGENT => None,
            FROM_NEIGHBOURS if domain.neighbours.is_some() => domain.neighbours.clone(),
            _ => Some(definition::interfaces(domain)),
        };
        let interfaces = interfaces.ok_or_else(|| super::agent::no_agent(domain))?;
        out.count(interfaces.len());
        for interface in interfaces {
            out.string(&interface.name).optional_string(Some(&interface.hwaddr)).count(interface.addresses.len());
            for (address, prefix) in &interface.addresses {
                let is_ipv6 = address.contains(':');
                out.i32(i32::from(is_ipv6)).string(address).u32(*prefix);
            }
        }
        Ok(())
    }
}

pub(super) fn not_running() -> Failure {
    Failure::qemu(code::OPERATION_INVALID, "Requested operation is not valid: domain is not running")
}

/// The value that a domain reports under a key now; 0 where it does not.
pub(super) fn stat(call: &Call, domain: &Domain, key: &str) -> u64 {
    let at = call.shared.clock_now();
    let stats = domain.stats(false);
    let found = stats.iter().find(|stat| stat.key == key);
    found.map_or(0, |stat| match stat.value {
        Value::ULLong(value) => value.wrapping_add(stat.grown(at)),
        Value::UInt(value) => u64::from(value),
        _ => 0,
    })
}

fn info(domain: &Domain, call: &Call, out: &mut Writer) {
    let state = u32::try_from(domain.state.number()).unwrap_or(0);
    let cpu_time = if domain.is_active() { stat(call, domain, "cpu.time") } else { 0 };
    let vcpus = stat(call, domain, "vcpu.current");
    out.u32(state)
        .u64(stat(call, domain, "balloon.maximum"))
        .u64(stat(call, domain, "balloon.current"))
        .u32(u32::try_from(vcpus).unwrap_or(u32::MAX))
        .u64(cpu_time);
}

fn metadata(domain: &Domain, kind: i32, uri: Option<&str>) -> Result<String, Failure> {
    let found = match kind {
        0 => domain.description.clone(),
        1 => domain.title.clone(),
        _ => definition::metadata(domain)
            .into_iter()
            .find(|element| Some(element.uri.as_str()) == uri)
            .map(|element| element.xml),
    };
    found.ok_or_else(|| {
        Failure::qemu(code::NO_DOMAIN_METADATA, "metadata not found: Requested metadata element is not present")
    })
}
