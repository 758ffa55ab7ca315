//! Listing the domains of a connection (`virConnectListAllDomains`).

use std::ffi::c_uint;
use std::ptr::NonNull;

use virt::sys;

use super::connection::Connection;
use super::domain::Domain;
use super::error::LibvirtError;
use super::text::libc_free;

/// Which domains a listing has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DomainList {
    /// All.
    All,
    /// Those with a running or paused hypervisor process.
    Active,
    /// Those that are shut off.
    Inactive,
    /// Those that run.
    Running,
    /// Those that are paused.
    Paused,
    /// Those that are shut off, and not crashed.
    ShutOff,
    /// Those in any other state: crashed, suspended by the guest, shutting down.
    Other,
    /// Those that are defined.
    Persistent,
    /// Those that start with the host.
    Autostart,
    /// Those with a saved image to start from.
    ManagedSave,
    /// Those with snapshots.
    HasSnapshot,
    /// Those with checkpoints.
    HasCheckpoint,
}

impl DomainList {
    fn flags(self) -> c_uint {
        match self {
            Self::All => 0,
            Self::Active => sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE,
            Self::Inactive => sys::VIR_CONNECT_LIST_DOMAINS_INACTIVE,
            Self::Running => sys::VIR_CONNECT_LIST_DOMAINS_RUNNING,
            Self::Paused => sys::VIR_CONNECT_LIST_DOMAINS_PAUSED,
            Self::ShutOff => sys::VIR_CONNECT_LIST_DOMAINS_SHUTOFF,
            Self::Other => sys::VIR_CONNECT_LIST_DOMAINS_OTHER,
            Self::Persistent => sys::VIR_CONNECT_LIST_DOMAINS_PERSISTENT,
            Self::Autostart => sys::VIR_CONNECT_LIST_DOMAINS_AUTOSTART,
            Self::ManagedSave => sys::VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE,
            Self::HasSnapshot => sys::VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT,
            Self::HasCheckpoint => sys::VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT,
        }
    }
}

impl Connection {
    /// Handles of the listed domains. One call, served at high priority.
    ///
    /// # Errors
    /// Of any class; [`super::ErrorClass::TooLarge`] beyond 16,384 domains.
    pub fn list_domains(&self, which: DomainList) -> Result<Vec<Domain>, LibvirtError> {
        let mut list = std::ptr::null_mut();
        // SAFETY: an open connection and a valid out-parameter.
        let count = unsafe { sys::virConnectListAllDomains(self.as_ptr(), &raw mut list, which.flags()) };
        let Ok(count) = usize::try_from(count) else { return Err(self.last_error("cannot list the domains")) };
        // SAFETY: a successful call leaves domains there, each with a reference for the caller, then a null pointer.
        Ok(unsafe { take_all(list, count, Domain::from_pointer) })
    }
}

/// Takes over what an array has, each by `take`, and frees the array.
///
/// # Safety
/// `list` is null, or was allocated by libvirt for the caller, with a null pointer after the last of its objects.
pub(super) unsafe fn take_all<T, O>(list: *mut *mut T, count: usize, take: impl Fn(NonNull<T>) -> O) -> Vec<O> {
    if list.is_null() {
        return Vec::new();
    }
    // The count is what the daemon claims, whatever it sent; the null pointer after the last object is libvirt's own.
    let objects = (0..count).map_while(|place| {
        // SAFETY: no place before this one is the array's end, so this one is within it.
        let place = unsafe { list.add(place) };
        // SAFETY: as above.
        NonNull::new(unsafe { place.read() }).map(&take)
    });
    let objects = objects.collect();
    // SAFETY: the array itself was allocated by libvirt with malloc; the objects in it have been taken over.
    unsafe { libc_free(list.cast()) };
    objects
}
