//! What the log says of the scheduler: a line for each change of state.

use uuid::Uuid;

use super::quarantine::Cause;
use crate::config::uri_key;
use crate::libvirt::{LibvirtError, Versions};

/// A change of state that is logged.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Notice {
    /// A connection stands.
    Connected(Versions),
    /// Something is wrong, and was not before.
    Failed { what: &'static str, error: LibvirtError },
    /// The daemon was silent and is not any more.
    AnswersAgain,
    /// A domain's hypervisor does not answer.
    Quarantined { uuid: Uuid, domain: String, cause: Cause },
    /// It does again.
    Released { uuid: Uuid, domain: String },
    /// A domain is listed, and may not be read.
    Unreadable { uuid: Uuid, domain: String },
    /// A definition could not be parsed.
    NotParsed { uuid: Uuid, domain: String, error: String },
    /// More events came than could be held.
    EventsLost(u64),
}

impl Notice {
    /// Writes the line. `uri` is that of the connection, `target` the name of the daemon if there are several.
    pub(super) fn log(&self, uri: &str, target: Option<&str>) {
        match self {
            Self::Connected(versions) => {
                let (libvirt, hypervisor) = (&versions.libvirt, &versions.hypervisor);
                tracing::info!(target = target, uri, libvirt, hypervisor, "connected");
            }
            Self::Failed { what, error } => {
                let remedy = error.remedy(uri, &uri_key(target));
                tracing::warn!(target = target, %error, reason = error.class.as_str(), remedy, "{what}");
            }
            Self::AnswersAgain => tracing::info!(target = target, "libvirt responds again"),
            Self::Quarantined { uuid, domain, cause } => {
                tracing::warn!(target = target, %uuid, domain, cause = cause.as_str(), "domain quarantined");
            }
            Self::Released { uuid, domain } => {
                tracing::info!(target = target, %uuid, domain, "domain released from quarantine");
            }
            Self::Unreadable { uuid, domain } => {
                tracing::warn!(target = target, %uuid, domain, "libvirt lists the domain but does not let this user read it: it has no samples");
            }
            Self::NotParsed { uuid, domain, error } => {
                tracing::debug!(target = target, %uuid, domain, error, "the definition cannot be read");
            }
            Self::EventsLost(dropped) => {
                tracing::warn!(target = target, dropped, "events were lost, the domains are listed again");
            }
        }
    }
}
