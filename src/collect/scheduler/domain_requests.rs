//! Requests for the set of domains: answered as soon as all of it is known, or at their deadline with what is.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::Scheduler;
use crate::collect::message::{Action, WaiterId};
use crate::domains::{Definition, DefinitionFailure};
use crate::libvirt::{ErrorClass, LibvirtError};
use crate::probes::{ADDRESSES, DEFINITIONS, Subject};

/// How long it is believed that a domain has no address: a guest that boots has none at first.
const ADDRESSLESS: Duration = Duration::from_secs(5);

/// A request for the set of domains.
#[derive(Debug, Clone, Copy)]
pub(super) struct DomainRequest {
    pub(super) waiter: WaiterId,
    /// Whether every domain has to have been located.
    pub(super) addresses: bool,
    pub(super) deadline: Instant,
}

impl Scheduler {
    /// Answers the requests that can be answered.
    pub(super) fn answer_domain_requests(&mut self) {
        self.do_without();
        for request in std::mem::take(&mut self.domain_requests) {
            let answer = match self.connection.refusal(self.now.at) {
                Some(error) => Some(Err(error)),
                None if self.is_known(request) == Some(true) => Some(Ok(self.snapshot(true))),
                None => None,
            };
            match answer {
                Some(answer) => self.act(Action::AnswerDomains(request.waiter, answer)),
                None => self.domain_requests.push(request),
            }
        }
    }

    /// Answers a request at its deadline.
    pub(super) fn answer_late_domain_request(&mut self, waiter: WaiterId) {
        self.do_without();
        let Some(position) = self.domain_requests.iter().position(|request| request.waiter == waiter) else { return };
        let request = self.domain_requests.remove(position);
        let answer = if let Some(error) = self.connection.refusal(self.now.at) {
            Err(error)
        } else if self.is_known(request).is_some() {
            Ok(self.snapshot(true))
        } else {
            let message = "libvirt did not answer in time";
            self.stats.count_failure(ErrorClass::TimedOut);
            Err(LibvirtError::own("cannot tell who exists", ErrorClass::TimedOut, message))
        };
        self.act(Action::AnswerDomains(waiter, answer));
    }

    /// Whether every domain has been looked at; `None` if it is not even known which there are. What has grown old is looked
    /// up again, but not waited for.
    fn is_known(&mut self, request: DomainRequest) -> Option<bool> {
        if !self.connection.is_up() || !self.resync.is_listed() {
            return None;
        }
        let now = self.now.at;
        // Who only wants to know which targets there are has no use for readings.
        let (mut known, mut look_up) = (request.addresses || !self.background.is_reading(now), Vec::new());
        for (domain, state) in self.domains.with_companions().filter(|(domain, _)| domain.selected) {
            if request.addresses && !domain.is_active() {
                // It cannot be reached, so its definition is not waited for.
                continue;
            }
            known &= domain.definition != Definition::Pending;
            if !request.addresses {
                continue;
            }
            known &= domain.addresses.is_some();
            let good_for = match &domain.addresses {
                Some(Some(_)) => self.config.service_discovery.refresh_interval,
                Some(None) | None => ADDRESSLESS,
            };
            if state.located.is_none_or(|at| at + good_for <= now) {
                look_up.push(domain.identity.uuid);
            }
        }
        for uuid in look_up {
            self.want(&ADDRESSES, Subject::Domain(uuid), now);
            // It is asked for, and not again while it waits.
            self.domains.companion_mut(uuid).into_iter().for_each(|state| state.located = Some(now));
        }
        Some(known)
    }

    /// While nothing is read because calls hang, what has not been read is not waited for: that is no reason to know nothing
    /// of all the others. It is read when it can be.
    fn do_without(&mut self) {
        let mut is_wary = |probe| self.background.of(probe).is_some_and(|lane| lane.is_wary());
        let (definitions, addresses) = (is_wary(&DEFINITIONS), is_wary(&ADDRESSES));
        if self.domain_requests.is_empty() || !(definitions || addresses) {
            return;
        }
        let (mut undefined, mut nowhere): (Vec<Uuid>, Vec<Uuid>) = (Vec::new(), Vec::new());
        for domain in self.domains.iter() {
            if definitions && domain.definition == Definition::Pending {
                undefined.push(domain.identity.uuid);
            }
            if addresses && domain.is_active() && domain.addresses.is_none() {
                nowhere.push(domain.identity.uuid);
            }
        }
        undefined.into_iter().for_each(|uuid| self.not_defined(uuid, DefinitionFailure::OthersHang));
        nowhere.into_iter().for_each(|uuid| self.domains.locate(uuid, None));
    }
}
