//! The disks for whose I/O errors a domain has stopped.
//!
//! QEMU remembers an error only of a disk for which it stops the guest, but also after the guest goes on. So domains are asked that
//! are paused for an I/O error: at once when one stops, and now and then.

use std::time::Duration;

use super::{Probe, Scope, Session, Subject, WaitsFor};
use crate::config::Group;
use crate::domains::PowerState;
use crate::libvirt::{EventKind, LibvirtError, ParamValue, Records};

const EVERY: Duration = Duration::from_secs(60);
/// `VIR_DOMAIN_PAUSED` with `VIR_DOMAIN_PAUSED_IOERROR`
const PAUSED_FOR_ERROR: (i32, i32) = (3, 5);
/// `VIR_DOMAIN_EVENT_SUSPENDED`
const SUSPENDED: i32 = 3;

pub(super) const PROBE: Probe = Probe {
    name: "disk_errors",
    time_limit: |_| Duration::from_secs(2),
    applies: |domain| domain.state == PowerState::Paused,
    follows: |event| matches!(event, EventKind::IoError { .. } | EventKind::Lifecycle { event: SUSPENDED, .. }),
    fetch,
    ..Probe::of_group(Group::Block, Scope::RunningDomain, WaitsFor::Hypervisor, |_| Some(EVERY))
};

/// A record of the disks with errors, as bulk statistics name disks.
fn fetch(session: &mut Session, subject: Subject) -> Result<Records, LibvirtError> {
    let mut records = Records::default();
    let Some(uuid) = subject.domain() else { return Ok(records) };
    let (domain, connection) = session.domain(uuid)?;
    let identity = domain.identity();
    records.push_domain(&identity.name, uuid, identity.id);
    if domain.state(connection)? != PAUSED_FOR_ERROR {
        return Ok(records);
    }
    let errors = domain.disk_errors(connection)?;
    for (number, error) in errors.iter().enumerate() {
        let reason = match error.code {
            0 => continue,
            1 => "unspecified".into(),
            2 => "nospace".into(),
            other => format!("error_{other}"),
        };
        records.push(&format!("block.{number}.name"), ParamValue::String(&error.device));
        records.push(&format!("block.{number}.error"), ParamValue::String(&reason));
    }
    Ok(records)
}
