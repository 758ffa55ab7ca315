//! Domain handles, and what is asked of one domain.

use std::ptr::NonNull;
use std::time::Duration;

use uuid::Uuid;
use virt::sys;

use super::connection::Connection;
use super::error::LibvirtError;
use super::text::{OwnedText, text};

/// A domain as one connection knows it. The handle holds a reference to its connection.
#[derive(Debug)]
pub struct Domain {
    pointer: NonNull<sys::_virDomain>,
}

// SAFETY: a virDomainPtr is reference-counted and bound to no thread; without Sync only one thread uses it at a time.
unsafe impl Send for Domain {}

/// Who a domain is: the id changes with every start.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The name, unique on its host.
    pub name: String,
    /// The UUID, which outlives renaming and migration.
    pub uuid: Uuid,
    /// The id of this incarnation, from its start to its stop; `None` while the domain is shut off.
    pub id: Option<u32>,
}

/// Whether the daemon can talk to a domain's hypervisor process (`virDomainControlState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlState {
    /// Nothing is going on (`VIR_DOMAIN_CONTROL_OK`).
    Ok,
    /// A background job runs, the monitor is free (`VIR_DOMAIN_CONTROL_JOB`).
    Job,
    /// A call has been waiting for the monitor's answer for so long (`VIR_DOMAIN_CONTROL_OCCUPIED`).
    Occupied(Duration),
    /// The monitor is broken (`VIR_DOMAIN_CONTROL_ERROR`).
    Error,
}

/// The basic facts of a domain (`virDomainGetInfo`), for drivers without bulk statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainInfo {
    /// `virDomainState`
    pub state: i32,
    /// Most memory, in KiB.
    pub maximum_kib: u64,
    /// Memory now, in KiB.
    pub memory_kib: u64,
    /// vCPUs.
    pub vcpus: u32,
    /// CPU time in nanoseconds.
    pub cpu_time_nanos: u64,
}

impl Domain {
    /// Name, UUID and id, without asking the daemon.
    #[must_use]
    pub fn identity(&self) -> Identity {
        identity_of(self.as_ptr())
    }

    /// The UUID, without asking the daemon.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        uuid_of(self.as_ptr())
    }

    /// Whether the daemon can talk to the domain's hypervisor. Served at high priority, never waits for the hypervisor.
    ///
    /// # Errors
    /// Of any class; [`super::ErrorClass::Other`] where the domain does not run.
    pub fn control_state(&self, connection: &Connection) -> Result<ControlState, LibvirtError> {
        let mut info = sys::virDomainControlInfo { state: 0, details: 0, stateTime: 0 };
        // SAFETY: a valid domain and a valid out-parameter.
        if unsafe { sys::virDomainGetControlInfo(self.as_ptr(), &raw mut info, 0) } < 0 {
            return Err(connection.last_error("cannot ask for a domain's control state"));
        }
        Ok(match info.state {
            sys::VIR_DOMAIN_CONTROL_OK => ControlState::Ok,
            sys::VIR_DOMAIN_CONTROL_JOB => ControlState::Job,
            sys::VIR_DOMAIN_CONTROL_OCCUPIED => ControlState::Occupied(Duration::from_millis(info.stateTime)),
            _ => ControlState::Error,
        })
    }

    /// `virDomainState` and the reason of that state. Waits neither for the domain's job nor for its hypervisor.
    ///
    /// # Errors
    /// Of any class.
    pub fn state(&self, connection: &Connection) -> Result<(i32, i32), LibvirtError> {
        let (mut state, mut reason) = (0, 0);
        // SAFETY: a valid domain and two valid out-parameters.
        if unsafe { sys::virDomainGetState(self.as_ptr(), &raw mut state, &raw mut reason, 0) } < 0 {
            return Err(connection.last_error("cannot ask for a domain's state"));
        }
        Ok((state, reason))
    }

    /// State, memory, vCPUs and CPU time.
    ///
    /// # Errors
    /// Of any class.
    pub fn info(&self, connection: &Connection) -> Result<DomainInfo, LibvirtError> {
        let mut info = sys::virDomainInfo { state: 0, maxMem: 0, memory: 0, nrVirtCpu: 0, cpuTime: 0 };
        // SAFETY: a valid domain and a valid out-parameter.
        if unsafe { sys::virDomainGetInfo(self.as_ptr(), &raw mut info) } < 0 {
            return Err(connection.last_error("cannot ask for a domain's basic facts"));
        }
        Ok(DomainInfo {
            state: i32::from(info.state),
            maximum_kib: info.maxMem,
            memory_kib: info.memory,
            vcpus: u32::from(info.nrVirtCpu),
            cpu_time_nanos: info.cpuTime,
        })
    }

    /// The definition in effect, as XML without secrets. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// Served at low priority. From libvirt 11.0 on it waits for a domain that is busy, up to 30 s.
    ///
    /// # Errors
    /// Of any class; [`super::ErrorClass::TooLarge`] beyond 8 MiB.
    pub fn xml_description(&self, connection: &Connection) -> Result<String, LibvirtError> {
        // SAFETY: a valid domain; the result is null or a string for the caller.
        let xml = OwnedText::new(unsafe { sys::virDomainGetXMLDesc(self.as_ptr(), 0) });
        connection.definition(xml, "cannot read a domain's definition")
    }

    /// Takes over one reference to a domain.
    pub(super) fn from_pointer(pointer: NonNull<sys::_virDomain>) -> Self {
        Self { pointer }
    }

    pub(super) fn as_ptr(&self) -> sys::virDomainPtr {
        self.pointer.as_ptr()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: the handle owns one reference and gives it back once. It makes no call.
        unsafe { sys::virDomainFree(self.as_ptr()) };
    }
}

impl Connection {
    /// The domain with this UUID.
    ///
    /// # Errors
    /// [`super::ErrorClass::VanishedDomain`] if there is none, or any other class.
    pub fn lookup_domain(&self, uuid: Uuid) -> Result<Domain, LibvirtError> {
        // SAFETY: an open connection and the 16 bytes that a UUID has.
        let pointer = unsafe { sys::virDomainLookupByUUID(self.as_ptr(), uuid.as_bytes().as_ptr()) };
        let pointer = NonNull::new(pointer).ok_or_else(|| self.last_error("cannot look up a domain"))?;
        Ok(Domain { pointer })
    }
}

pub(super) fn identity_of(domain: sys::virDomainPtr) -> Identity {
    // SAFETY: a valid domain; the name belongs to it and is copied before the domain is freed.
    let name = text(unsafe { sys::virDomainGetName(domain) });
    // SAFETY: a valid domain; (unsigned)-1 stands for "not running".
    let id = unsafe { sys::virDomainGetID(domain) };
    Identity { name, uuid: uuid_of(domain), id: (id != u32::MAX).then_some(id) }
}

fn uuid_of(domain: sys::virDomainPtr) -> Uuid {
    let mut uuid = [0; 16];
    // SAFETY: a valid domain and room for VIR_UUID_BUFLEN (16) bytes.
    unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) };
    Uuid::from_bytes(uuid)
}
