//! I/O errors of a domain's disks (`virDomainGetDiskErrors`).

use virt::sys;

use super::connection::Connection;
use super::domain::Domain;
use super::error::LibvirtError;
use super::text::{libc_free, text};

/// Most disks that a daemon tells of (`REMOTE_DOMAIN_DISK_ERRORS_MAX`); it refuses to be asked for more.
const MOST_DISKS: usize = 256;

/// A disk whose I/O error the domain has stopped for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskError {
    /// The disk's target, such as `vda`.
    pub device: String,
    /// `virDomainDiskErrorCode`: 1 unspecified, 2 no space.
    pub code: i32,
}

impl Domain {
    /// The disks with an I/O error that the hypervisor has stopped the domain for, now or before: QEMU remembers the last error of
    /// a disk after the domain goes on.
    ///
    /// Takes the domain's job for a query, for which it waits up to 30 s, and asks the monitor.
    ///
    /// # Errors
    /// Of any class; [`super::ErrorClass::Other`] where the domain does not run.
    pub fn disk_errors(&self, connection: &Connection) -> Result<Vec<DiskError>, LibvirtError> {
        let mut errors: Vec<sys::virDomainDiskError> = Vec::with_capacity(MOST_DISKS);
        let room = u32::try_from(MOST_DISKS).unwrap_or_default();
        // SAFETY: a valid domain and room for so many errors.
        let count = unsafe { sys::virDomainGetDiskErrors(self.as_ptr(), errors.as_mut_ptr(), room, 0) };
        let Ok(count) = usize::try_from(count) else {
            return Err(connection.last_error("cannot ask for a domain's disk errors"));
        };
        // SAFETY: libvirt has written the first `count`, which are not more than there is room for.
        unsafe { errors.set_len(count.min(MOST_DISKS)) };
        let take = |error: sys::virDomainDiskError| {
            // SAFETY: a string that libvirt has allocated for the caller; it is copied, and freed once.
            let device = text(error.disk);
            // SAFETY: as above.
            unsafe { libc_free(error.disk.cast()) };
            DiskError { device, code: error.error }
        };
        Ok(errors.into_iter().map(take).collect())
    }
}
