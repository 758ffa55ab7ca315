//! Locks of domains: a call that looks at a locked domain waits.

use std::time::Duration;

use super::{Call, Failure};
use crate::procedure::Procedure as P;
use crate::shared::State;
use crate::xdr::DecodeError;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(24 * 3600);

impl Call {
    /// Waits until no domain is locked that the call looks at.
    pub(super) fn wait_for_locks(&self) -> Result<(), Failure> {
        if !self.shared.state().faults.has_locks() {
            return Ok(());
        }
        let names = self.looks_at()?;
        let is_held = |state: &State| match &names {
            Some(names) => names.iter().any(|name| state.faults.is_locked(name)),
            None => state.faults.has_locks(),
        };
        let generation = self.connection.generation;
        self.shared.sleep_while(generation, LONG, || is_held(&self.shared.state()));
        // Nothing is answered by a daemon that was killed meanwhile.
        if self.shared.sleep(generation, Duration::ZERO) { Ok(()) } else { Err(Failure::Gone) }
    }

    /// The domains that the call looks at; `None` for all.
    fn looks_at(&self) -> Result<Option<Vec<String>>, DecodeError> {
        let mut arguments = self.arguments();
        let names = match self.procedure {
            P::ConnectListAllDomains | P::ConnectListDomains | P::ConnectListDefinedDomains => return Ok(None),
            P::ConnectNumOfDomains | P::ConnectNumOfDefinedDomains => return Ok(None),
            P::ConnectGetAllDomainStats => match arguments.domains()? {
                named if named.is_empty() => return Ok(None),
                named => named.into_iter().map(|domain| domain.name).collect(),
            },
            P::DomainLookupByUuid => {
                let uuid = arguments.uuid()?;
                self.domains().by_uuid(uuid).map(|entry| entry.domain.name.clone()).into_iter().collect()
            }
            P::DomainLookupByName => vec![arguments.string()?],
            P::DomainSnapshotGetXmlDesc | P::DomainCheckpointGetXmlDesc | P::DomainLookupById => Vec::new(),
            procedure if procedure.name().starts_with("domain_") => vec![arguments.domain()?.name],
            _ => Vec::new(),
        };
        Ok(Some(names))
    }
}
