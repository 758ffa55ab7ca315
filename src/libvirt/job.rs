//! The background job of a domain (`virDomainGetJobStats`).

use virt::sys;

use super::connection::Connection;
use super::domain::Domain;
use super::error::{ErrorClass, LibvirtError};
use super::param::Records;
use super::typed_params::TypedParams;

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
