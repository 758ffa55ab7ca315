//! The background job of a domain (`virDomainGetJobStats`).

use std::borrow::Cow;

use virt::sys;

use super::connection::Connection;
use super::domain::Domain;
use super::error::{ErrorClass, LibvirtError};
use super::param::Records;
use super::typed_params::TypedParams;

/// The operations by number (`virDomainJobOperation`).
const OPERATIONS: &[&str] = &[
    "unknown",
    "start",
    "save",
    "restore",
    "migration_in",
    "migration_out",
    "snapshot",
    "snapshot_revert",
    "dump",
    "backup",
    "snapshot_delete",
];

/// The name of an operation, by libvirt's constant in lower case; of one that this program does not know `operation_` and its
/// number.
#[must_use]
pub fn job_operation(number: i32) -> Cow<'static, str> {
    let known = usize::try_from(number).ok().and_then(|place| OPERATIONS.get(place));
    known.map_or_else(|| format!("operation_{number}").into(), |name| Cow::Borrowed(*name))
}

/// `VIR_ERR_OPERATION_INVALID`
const OPERATION_INVALID: i32 = 55;

impl Domain {
    /// The statistics of the background job that the domain has, in one record without a name, under libvirt's own keys
    /// (`VIR_DOMAIN_JOB_*`); `None` without a job. Of a domain that is on its way here by migration, only the host that it
    /// comes from has them: that is `None` too.
    ///
    /// Takes the domain's job for a query, for which it waits up to 30 s; during a migration, a save and the like it asks the
    /// monitor.
    ///
    /// # Errors
    /// Of any class; a domain that does not run has no job, which is none.
    pub fn job_stats(&self, connection: &Connection) -> Result<Option<Records>, LibvirtError> {
        let (mut kind, mut params) = (0, TypedParams::new());
        // SAFETY: a valid domain and three valid out-parameters; what libvirt allocates is freed by `TypedParams`.
        let done = unsafe {
            sys::virDomainGetJobStats(self.as_ptr(), &raw mut kind, &raw mut params.list, &raw mut params.count, 0)
        };
        if done < 0 {
            let error = connection.last_error("cannot ask for a domain's job");
            return if error.class == ErrorClass::Other(OPERATION_INVALID) { Ok(None) } else { Err(error) };
        }
        let runs = [sys::VIR_DOMAIN_JOB_BOUNDED, sys::VIR_DOMAIN_JOB_UNBOUNDED];
        let runs = u32::try_from(kind).is_ok_and(|kind| runs.contains(&kind));
        Ok(runs.then(|| params.to_records()))
    }
}
