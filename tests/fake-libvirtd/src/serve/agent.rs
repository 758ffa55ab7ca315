//! Calls that a domain's guest agent answers.

use std::time::Duration;

use super::domain::not_running;
use super::{Call, Failure, Reply, code};
use crate::connection::payload;
use crate::domain::Domain;
use crate::params::Value;
use crate::procedure::Procedure as P;

/// What the keys begin with that each type of `virDomainGuestInfoTypes` yields.
const TYPES: [(u32, &str); 6] =
    [(1, "user."), (1 << 1, "os."), (1 << 2, "timezone."), (1 << 3, "hostname"), (1 << 4, "fs."), (1 << 7, "load.")];

/// What a call for the guest agent gets where there is none.
pub(super) fn no_agent(domain: &Domain) -> Failure {
    if !domain.is_active() {
        return not_running();
    }
    if domain.template().is_some_and(|template| template.agent) {
        return unresponsive("QEMU guest agent is not connected");
    }
    Failure::qemu(code::ARGUMENT_UNSUPPORTED, "argument unsupported: QEMU guest agent is not configured")
}

fn unresponsive(why: &str) -> Failure {
    Failure::qemu(code::AGENT_UNRESPONSIVE, format!("Guest agent is not responding: {why}"))
}

impl Call {
    pub(super) fn serve_agent(&self) -> Reply {
        let mut arguments = self.arguments();
        let entry = self.domain(&mut arguments)?;
        let domain = &entry.domain;
        let operation = match self.procedure {
            P::DomainGetTime => "virDomainGetTime",
            P::DomainGetGuestVcpus => "virDomainGetGuestVcpus",
            _ => "virDomainGetGuestInfo",
        };
        self.refuse_read_only(operation)?;
        let agent = domain.agent.as_ref().filter(|_| domain.is_active()).ok_or_else(|| no_agent(domain))?;
        let silence = self.shared.state().faults.agent_silence(&domain.name);
        if let Some(time) = silence {
            self.wait_in_vain(&domain.name, time)?;
        }
        let mut out = payload();
        if self.procedure == P::DomainGetTime {
            out.i64(agent.seconds).u32(0);
            return Ok(out);
        }
        if self.procedure == P::DomainGetGuestVcpus {
            if agent.vcpus.is_empty() {
                return Err(unresponsive("unable to execute QEMU agent command 'guest-get-vcpus'"));
            }
            out.params(&agent.vcpus);
            return Ok(out);
        }
        let types = arguments.u32()?;
        let is_asked = |key: &str| {
            let asked = TYPES.iter().filter(|(flag, _)| types == 0 || types & flag != 0);
            asked.clone().any(|(_, prefix)| key.starts_with(prefix))
        };
        let said: Vec<(String, Value)> = agent.info.iter().filter(|(key, _)| is_asked(key)).cloned().collect();
        out.params(&said);
        Ok(out)
    }

    /// libvirt gives an agent 5 s to say anything.
    fn wait_in_vain(&self, domain: &str, time: Duration) -> Result<(), Failure> {
        let is_silent = || self.shared.state().faults.agent_silence(domain).is_some();
        match self.shared.sleep_while(self.connection.generation, time, is_silent) {
            true => Err(unresponsive("Guest agent not available for now")),
            false => Ok(()),
        }
    }
}
