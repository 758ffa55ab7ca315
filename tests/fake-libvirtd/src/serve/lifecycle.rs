//! Calls that change the state of a domain.

use super::{Call, Failure, Reply, code};
use crate::connection::payload;
use crate::domain::Domain;
use crate::lifecycle::Change;
use crate::procedure::Procedure as P;

impl Call {
    pub(super) fn serve_lifecycle(&self) -> Reply {
        let mut arguments = self.arguments();
        let entry = self.domain(&mut arguments)?;
        let domain = &entry.domain;
        let (operation, change) = match self.procedure {
            P::DomainCreate => ("virDomainCreate", Change::Start),
            P::DomainCreateWithFlags => ("virDomainCreateWithFlags", Change::Start),
            P::DomainDestroy => ("virDomainDestroy", Change::Destroy),
            P::DomainDestroyFlags => ("virDomainDestroyFlags", Change::Destroy),
            P::DomainShutdown => ("virDomainShutdown", Change::Shutdown),
            P::DomainSuspend => ("virDomainSuspend", Change::Suspend),
            P::DomainResume => ("virDomainResume", Change::Resume),
            _ => ("virDomainReboot", Change::Reboot),
        };
        self.refuse_read_only(operation)?;
        self.check_running(domain, change)?;
        if matches!(change, Change::Suspend | Change::Resume | Change::Reboot) {
            self.have_job(domain)?;
        }
        let changed = self.shared.change_lifecycle(&domain.name, change);
        let domain = changed.map_err(|_| Failure::no_domain(&domain.name))?;
        let mut out = payload();
        if self.procedure == P::DomainCreateWithFlags {
            out.domain(&domain.name, domain.uuid, domain.id);
        }
        Ok(out)
    }

    fn check_running(&self, domain: &Domain, change: Change) -> Result<(), Failure> {
        let message = match (change, domain.is_active()) {
            (Change::Start, true) => "domain is already running",
            (Change::Start, false) | (_, true) => return Ok(()),
            (_, false) => "domain is not running",
        };
        Err(Failure::qemu(code::OPERATION_INVALID, format!("Requested operation is not valid: {message}")))
    }
}
