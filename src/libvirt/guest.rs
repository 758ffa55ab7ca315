//! What a guest reports through its agent (`virDomainGetGuestInfo`, `virDomainGetGuestVcpus`, `virDomainGetTime`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use virt::sys;

use super::connection::Connection;
use super::domain::Domain;
use super::error::LibvirtError;
use super::param::Records;
use super::typed_params::TypedParams;

impl Domain {
    /// All that the guest agent says, in one record without a name, under libvirt's own keys. What agent or daemon do not know is
    /// omitted: the call would fail for it if less than all were asked for. The guest decides the texts and numbers.
    ///
    /// Needs a read-write connection, takes the domain's agent job, and waits for the guest: 5 s for an agent that does not answer
    /// at all, without limit for one that stops in between.
    ///
    /// # Errors
    /// Of any class; [`super::ErrorClass::Other`] where the domain does not run or its agent does not answer.
    pub fn guest_info(&self, connection: &Connection) -> Result<Records, LibvirtError> {
        let mut params = TypedParams::new();
        // SAFETY: a valid domain and two valid out-parameters; what libvirt allocates is freed by `TypedParams`.
        let done =
            unsafe { sys::virDomainGetGuestInfo(self.as_ptr(), 0, &raw mut params.list, &raw mut params.count, 0) };
        if done < 0 {
            return Err(connection.last_error("cannot ask a guest agent"));
        }
        Ok(params.to_records())
    }

    /// The vCPUs that the guest has (`vcpus`) and uses (`online`): lists of their numbers, such as `0-3,6`. Waits as
    /// [`Domain::guest_info`] does.
    ///
    /// # Errors
    /// As [`Domain::guest_info`].
    pub fn guest_vcpus(&self, connection: &Connection) -> Result<Records, LibvirtError> {
        let (mut list, mut count) = (std::ptr::null_mut(), 0);
        // SAFETY: a valid domain and two valid out-parameters.
        let done = unsafe { sys::virDomainGetGuestVcpus(self.as_ptr(), &raw mut list, &raw mut count, 0) };
        if done < 0 {
            return Err(connection.last_error("cannot ask for a guest's vCPUs"));
        }
        // What libvirt has allocated is freed with this.
        Ok(TypedParams { list, count: count.cast_signed() }.to_records())
    }

    /// The guest's clock. Waits as [`Domain::guest_info`] does.
    ///
    /// # Errors
    /// As [`Domain::guest_info`].
    pub fn guest_time(&self, connection: &Connection) -> Result<SystemTime, LibvirtError> {
        const OPERATION: &str = "cannot ask for a guest's time";
        let (mut seconds, mut nanos) = (0, 0);
        // SAFETY: a valid domain and two valid out-parameters.
        if unsafe { sys::virDomainGetTime(self.as_ptr(), &raw mut seconds, &raw mut nanos, 0) } < 0 {
            return Err(connection.last_error(OPERATION));
        }
        let since = Duration::from_secs(seconds.unsigned_abs());
        let whole = if seconds < 0 { UNIX_EPOCH.checked_sub(since) } else { UNIX_EPOCH.checked_add(since) };
        let time = whole.and_then(|whole| whole.checked_add(Duration::from_nanos(nanos.into())));
        time.ok_or_else(|| LibvirtError::own(OPERATION, super::ErrorClass::Other(0), "it is out of any range"))
    }
}
