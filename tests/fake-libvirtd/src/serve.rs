//! Serving of calls: from the payload of a call to the frame of its reply.

use std::sync::Arc;

use crate::connection::{Connection, Outgoing, payload};
use crate::counters::{CallId, Outcome};
use crate::domain::Entry;
use crate::domains::DomainSet;
use crate::event::{Event, Identity, ObjectEvent};
use crate::fault::ReplyFault;
use crate::frame::{HEADER_LEN, Header, MESSAGE_MAX, REMOTE_PROGRAM};
use crate::procedure::Procedure;
use crate::shared::{Shared, State};
use crate::xdr::{DecodeError, Reader, Writer};

mod agent;
mod bulk;
mod connect;
mod domain;
mod lifecycle;
mod locks;
mod monitor;
mod node;
mod objects;
mod tree;

/// `virErrorNumber`, the codes this daemon answers with.
pub(crate) mod code {
    pub(crate) const INTERNAL_ERROR: i32 = 1;
    pub(crate) const INVALID_ARG: i32 = 8;
    pub(crate) const OPERATION_DENIED: i32 = 29;
    pub(crate) const SYSTEM_ERROR: i32 = 38;
    pub(crate) const RPC: i32 = 39;
    pub(crate) const NO_DOMAIN: i32 = 42;
    pub(crate) const NO_NETWORK: i32 = 43;
    pub(crate) const NO_STORAGE_POOL: i32 = 49;
    pub(crate) const OPERATION_INVALID: i32 = 55;
    pub(crate) const OPERATION_TIMEOUT: i32 = 68;
    pub(crate) const ARGUMENT_UNSUPPORTED: i32 = 74;
    pub(crate) const NO_DOMAIN_SNAPSHOT: i32 = 72;
    pub(crate) const NO_DOMAIN_METADATA: i32 = 80;
    pub(crate) const AGENT_UNRESPONSIVE: i32 = 86;
}

/// `virErrorDomain`: where an error comes from.
mod origin {
    pub(super) const DOMAIN: i32 = 6;
    pub(super) const RPC: i32 = 7;
    pub(super) const QEMU: i32 = 10;
}

/// Why a call is not answered with success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// With an error.
    Error { code: i32, origin: i32, message: String },
    /// Not at all: the daemon was killed meanwhile.
    Gone,
}

impl Failure {
    fn qemu(code: i32, message: impl Into<String>) -> Self {
        Self::Error { code, origin: origin::QEMU, message: message.into() }
    }

    fn rpc(message: impl Into<String>) -> Self {
        Self::Error { code: code::RPC, origin: origin::RPC, message: message.into() }
    }

    fn no_domain(which: impl std::fmt::Display) -> Self {
        Self::qemu(code::NO_DOMAIN, format!("Domain not found: {which}"))
    }

    fn denied(operation: &str) -> Self {
        Self::Error {
            code: code::OPERATION_DENIED,
            origin: origin::DOMAIN,
            message: format!("operation forbidden: read only access prevents {operation}"),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(_: DecodeError) -> Self {
        Self::rpc("Unable to decode message payload")
    }
}

/// What a procedure writes its reply into.
type Reply = Result<Writer, Failure>;

/// Whether a procedure may have to wait for something, and so must not be served by the thread that reads the calls.
pub(crate) fn may_block(procedure: Procedure) -> bool {
    matches!(
        procedure,
        Procedure::ConnectGetAllDomainStats
            | Procedure::DomainGetJobStats
            | Procedure::DomainGetJobInfo
            | Procedure::DomainGetDiskErrors
            | Procedure::DomainGetXmlDesc
            | Procedure::DomainMemoryStats
            | Procedure::DomainBlockStats
            | Procedure::DomainBlockStatsFlags
            | Procedure::DomainSuspend
            | Procedure::DomainResume
            | Procedure::DomainReboot
            | Procedure::DomainGetGuestInfo
            | Procedure::DomainGetGuestVcpus
            | Procedure::DomainGetTime
    )
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) id: CallId,
    pub(crate) header: Header,
    pub(crate) procedure: Procedure,
    pub(crate) payload: Vec<u8>,
}

impl Call {
    /// Serves the call, faults included; a worker that it had is free again afterwards.
    pub(crate) fn run(&self, faults: &[ReplyFault]) {
        let reply = self.reply(faults);
        if !self.procedure.has_priority() {
            self.shared.give_worker_back();
        }
        let Some(outgoing) = reply else {
            self.give_up();
            return;
        };
        let is_stats = self.procedure == Procedure::ConnectGetAllDomainStats;
        if is_stats {
            self.broadcast_all(|state| &mut state.before_stats);
        }
        if !self.connection.push(outgoing) {
            self.give_up();
        }
        if is_stats {
            self.broadcast_all(|state| &mut state.after_stats);
        }
    }

    /// Sends the events that a test wants around this reply.
    fn broadcast_all(&self, which: impl FnOnce(&mut State) -> &mut Vec<(Identity, Event)>) {
        let events = std::mem::take(which(&mut self.shared.state()));
        for (identity, event) in &events {
            self.shared.broadcast(identity, event);
        }
    }

    /// Leaves the call without a reply.
    pub(crate) fn give_up(&self) {
        self.shared.counters.end(self.id, None);
        self.connection.end_request();
    }

    /// The reply, or nothing where a fault or the end of the daemon wants so.
    fn reply(&self, faults: &[ReplyFault]) -> Option<Outgoing> {
        for fault in faults {
            match fault {
                ReplyFault::Delay(time) if !self.shared.sleep(self.connection.generation, *time) => {
                    return None;
                }
                ReplyFault::Swallow => return None,
                ReplyFault::Disconnect => {
                    self.connection.close();
                    return None;
                }
                _ => {}
            }
        }
        let result = faults
            .iter()
            .find_map(|fault| match fault {
                ReplyFault::Error { code, message } => Some(Err(Failure::qemu(*code, message))),
                _ => None,
            })
            .unwrap_or_else(|| self.serve());
        let result = result.and_then(|reply| self.within_limit(reply));
        let (mut frame, outcome) = match result {
            Ok(reply) => (self.frame(reply, true), Outcome::Ok),
            Err(Failure::Error { code, origin, message }) => {
                let error = write_error(code, origin, &message);
                (self.frame(error, false), Outcome::Error(code))
            }
            Err(Failure::Gone) => return None,
        };
        let mut outgoing = Outgoing { answers: Some((self.id, outcome)), ..Outgoing::default() };
        for fault in faults {
            match fault {
                ReplyFault::CutAfter(bytes) => {
                    frame.truncate(*bytes);
                    outgoing.last = true;
                }
                ReplyFault::Oversize => {
                    let len = u32::try_from(MESSAGE_MAX + 8).unwrap_or(u32::MAX);
                    frame[..4].copy_from_slice(&len.to_be_bytes());
                }
                ReplyFault::Garbage => {
                    // Everything behind the length word, which must fit what follows.
                    for (byte, noise) in frame[4..].iter_mut().zip((0xa5..=0xff).cycle()) {
                        *byte = noise;
                    }
                }
                ReplyFault::WrongSerial => {
                    let header = self.header.reply(outcome == Outcome::Ok);
                    let serial = self.header.serial.wrapping_add(100_000);
                    Header { serial, ..header }.write_into(&mut frame);
                }
                ReplyFault::Trickle(time) => outgoing.over = *time,
                _ => {}
            }
        }
        outgoing.frame = frame;
        Some(outgoing)
    }

    fn frame(&self, payload: Writer, ok: bool) -> Vec<u8> {
        let mut frame = payload.into_bytes();
        self.header.reply(ok).write_into(&mut frame);
        frame
    }

    /// The most bytes the payload of a reply may have, header included.
    fn reply_limit(&self) -> usize {
        let set = self.shared.state().faults.reply_limit;
        set.unwrap_or(self.shared.limits.message_max).saturating_add(4)
    }

    fn within_limit(&self, reply: Writer) -> Reply {
        if reply.len() > self.reply_limit() {
            return Err(Failure::rpc("Unable to encode message payload"));
        }
        Ok(reply)
    }

    fn serve(&self) -> Reply {
        use Procedure as P;
        if self.header.program != REMOTE_PROGRAM {
            return Err(Failure::rpc(format!(
                "Cannot find program {} version {}",
                self.header.program, self.header.version
            )));
        }
        self.wait_for_locks()?;
        match self.procedure {
            P::ConnectGetAllDomainStats => self.get_all_domain_stats(),
            P::ConnectOpen | P::ConnectClose | P::ConnectGetType | P::ConnectGetVersion => self.serve_connect(),
            P::NodeGetInfo | P::ConnectGetCapabilities | P::ConnectGetHostname => self.serve_connect(),
            P::ConnectSupportsFeature | P::AuthList | P::ConnectGetUri => self.serve_connect(),
            P::ConnectGetLibVersion => self.serve_connect(),
            P::ConnectRegisterCloseCallback | P::ConnectUnregisterCloseCallback => self.serve_connect(),
            P::ConnectDomainEventCallbackRegisterAny => self.register_event(),
            P::ConnectStoragePoolEventRegisterAny => self.register_object_event(ObjectEvent::OF_POOLS),
            P::ConnectNetworkEventRegisterAny => self.register_object_event(ObjectEvent::OF_NETWORKS),
            P::ConnectDomainEventCallbackDeregisterAny => self.deregister_event(),
            P::ConnectStoragePoolEventDeregisterAny | P::ConnectNetworkEventDeregisterAny => self.deregister_event(),
            P::ConnectListAllDomains | P::ConnectListDomains | P::ConnectListDefinedDomains => self.serve_listing(),
            P::ConnectNumOfDomains | P::ConnectNumOfDefinedDomains => self.serve_listing(),
            P::DomainLookupById | P::DomainLookupByName | P::DomainLookupByUuid => self.look_up(),
            P::DomainCreate | P::DomainCreateWithFlags | P::DomainDestroy => self.serve_lifecycle(),
            P::DomainDestroyFlags | P::DomainReboot | P::DomainResume => self.serve_lifecycle(),
            P::DomainShutdown | P::DomainSuspend => self.serve_lifecycle(),
            P::DomainGetControlInfo | P::DomainGetJobStats | P::DomainGetJobInfo => self.serve_monitor(),
            P::DomainBlockStats | P::DomainBlockStatsFlags => self.serve_monitor(),
            P::DomainInterfaceStats | P::DomainMemoryStats | P::DomainGetDiskErrors => self.serve_monitor(),
            P::DomainGetGuestInfo | P::DomainGetGuestVcpus | P::DomainGetTime => self.serve_agent(),
            P::DomainListAllSnapshots | P::DomainListAllCheckpoints => self.serve_tree(),
            P::DomainSnapshotGetXmlDesc | P::DomainCheckpointGetXmlDesc => self.serve_tree(),
            P::DomainHasCurrentSnapshot | P::DomainSnapshotCurrent => self.serve_tree(),
            P::DomainSnapshotLookupByName | P::DomainCheckpointLookupByName => self.serve_tree(),
            P::DomainGetXmlDesc | P::DomainGetAutostart | P::DomainGetInfo => self.serve_domain(),
            P::DomainGetOsType | P::DomainIsActive | P::DomainIsPersistent => self.serve_domain(),
            P::DomainHasManagedSaveImage | P::DomainGetState | P::DomainGetMetadata => self.serve_domain(),
            P::DomainInterfaceAddresses | P::DomainGetMessages => self.serve_domain(),
            P::NodeGetMemoryStats | P::NodeGetCpuMap | P::NodeGetFreePages => self.serve_node(),
            P::ConnectListAllStoragePools | P::StoragePoolLookupByUuid | P::StoragePoolGetInfo => self.serve_pools(),
            P::StoragePoolGetXmlDesc | P::StoragePoolGetAutostart | P::StoragePoolIsPersistent => self.serve_pools(),
            P::ConnectListAllNetworks | P::NetworkLookupByUuid | P::NetworkGetXmlDesc => self.serve_networks(),
            P::NetworkGetAutostart | P::NetworkIsActive | P::NetworkIsPersistent => self.serve_networks(),
            P::NetworkGetDhcpLeases => self.serve_networks(),
            P::Other(number) => Err(Failure::rpc(format!("unknown procedure: {number}"))),
        }
    }

    fn arguments(&self) -> Reader<'_> {
        Reader::new(&self.payload)
    }

    fn domains(&self) -> Arc<DomainSet> {
        self.shared.domains()
    }

    /// The domain a call names, by its UUID.
    fn domain(&self, arguments: &mut Reader<'_>) -> Result<Arc<Entry>, Failure> {
        let wanted = arguments.domain()?;
        let domains = self.domains();
        domains.by_uuid(wanted.uuid).cloned().ok_or_else(|| {
            Failure::no_domain(format_args!("no domain with matching uuid '{}' ({})", wanted.uuid, wanted.name))
        })
    }

    fn refuse_read_only(&self, operation: &str) -> Result<(), Failure> {
        if self.connection.is_read_only() {
            return Err(Failure::denied(operation));
        }
        Ok(())
    }
}

/// The payload of an error (`virNetMessageError`).
fn write_error(code: i32, origin: i32, message: &str) -> Writer {
    let mut out = payload();
    out.i32(code)
        .i32(origin)
        .optional_string(Some(message))
        .i32(2)
        .u32(0)
        .optional_string(Some(message))
        .u32(0)
        .u32(0)
        .i32(-1)
        .i32(-1)
        .u32(0);
    debug_assert!(out.len() > HEADER_LEN);
    out
}
