//! Domain events: their IDs, their messages, their arguments on the wire.

use std::ops::Range;

use crate::domain::{Domain, uuid_of};
use crate::params::Value;
use crate::xdr::Writer;

use uuid::Uuid;

mod examples;

/// Which domain an event or a record is about: what a client is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// The UUID.
    pub uuid: Uuid,
    /// The id, `None` for -1.
    pub id: Option<u32>,
}

impl From<&Domain> for Identity {
    fn from(domain: &Domain) -> Self {
        Self { name: domain.name.clone(), uuid: domain.uuid, id: domain.id }
    }
}

/// One end of a graphics connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GraphicsAddress {
    /// 0 IPv4, 1 IPv6, 2 unix socket.
    pub family: i32,
    /// The address.
    pub node: String,
    /// The port.
    pub service: String,
}

/// An event of a domain, with the numbers libvirt's callbacks get.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are the callback's arguments, under libvirt's names")]
pub enum Event {
    /// 0: a change of the life cycle (`virDomainEventType` and its detail).
    Lifecycle { event: i32, detail: i32 },
    /// 1: the guest rebooted.
    Reboot,
    /// 2: the guest changed its clock.
    RtcChange { utcoffset: i64 },
    /// 3: the watchdog fired.
    Watchdog { action: i32 },
    /// 4: an I/O error.
    IoError { src_path: String, dev_alias: String, action: i32 },
    /// 5: a graphics client came or went.
    Graphics {
        phase: i32,
        local: GraphicsAddress,
        remote: GraphicsAddress,
        auth_scheme: String,
        subject: Vec<(String, String)>,
    },
    /// 6: an I/O error with its reason.
    IoErrorReason { src_path: String, dev_alias: String, action: i32, reason: String },
    /// 7: the monitor broke.
    ControlError,
    /// 8: a block job changed its status, by path.
    BlockJob { path: String, kind: i32, status: i32 },
    /// 9: a disk's medium changed.
    DiskChange { old_src_path: Option<String>, new_src_path: Option<String>, dev_alias: String, reason: i32 },
    /// 10: a tray was opened or closed.
    TrayChange { dev_alias: String, reason: i32 },
    /// 11: the guest woke up.
    PmWakeup { reason: i32 },
    /// 12: the guest suspended to memory.
    PmSuspend { reason: i32 },
    /// 13: the balloon changed, in KiB.
    BalloonChange { actual: u64 },
    /// 14: the guest suspended to disk.
    PmSuspendDisk { reason: i32 },
    /// 15: a device is gone.
    DeviceRemoved { dev_alias: String },
    /// 16: a block job changed its status, by target.
    BlockJob2 { dst: String, kind: i32, status: i32 },
    /// 17: tunables changed.
    Tunable { params: Vec<(String, Value)> },
    /// 18: the guest agent connected or disconnected.
    AgentLifecycle { state: i32, reason: i32 },
    /// 19: a device was added.
    DeviceAdded { dev_alias: String },
    /// 20: a migration began another pass.
    MigrationIteration { iteration: i32 },
    /// 21: a job ended.
    JobCompleted { params: Vec<(String, Value)> },
    /// 22: the guest refused to let a device go.
    DeviceRemovalFailed { dev_alias: String },
    /// 23: metadata changed (0 description, 1 title, 2 element).
    MetadataChange { kind: i32, nsuri: Option<String> },
    /// 24: a disk grew over its threshold.
    BlockThreshold { dev: String, path: Option<String>, threshold: u64, excess: u64 },
    /// 25: a memory failure.
    MemoryFailure { recipient: i32, action: i32, flags: u32 },
    /// 26: a memory device has another size, in KiB.
    MemoryDeviceSizeChange { alias: String, size: u64 },
    /// 27: a NIC has another MAC address (libvirt 11.2).
    NicMacChange { alias: String, old_mac: String, new_mac: String },
    /// 28: a vCPU is gone (libvirt 12.4).
    VcpuRemoved { vcpuid: u32 },
    /// 29: a channel connected or disconnected (libvirt 12.4).
    ChannelLifecycle { channel_name: String, state: i32, reason: i32 },
}

/// An event of a storage pool or a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectEvent {
    /// A change of a pool's life cycle (`virStoragePoolEventLifecycleType`).
    Pool(i32),
    /// A pool was refreshed.
    PoolRefresh,
    /// A change of a network's life cycle (`virNetworkEventLifecycleType`).
    Network(i32),
}

impl ObjectEvent {
    /// The numbers of registrations, beside those of domain events.
    pub(crate) const OF_POOLS: Range<i32> = 1000..1002;
    pub(crate) const OF_NETWORKS: Range<i32> = 2000..2001;

    /// The number of its registration, and the procedure number of its message.
    pub(crate) fn numbers(self) -> (i32, i32) {
        match self {
            Self::Pool(_) => (Self::OF_POOLS.start, 370),
            Self::PoolRefresh => (Self::OF_POOLS.start + 1, 373),
            Self::Network(_) => (Self::OF_NETWORKS.start, 315),
        }
    }

    /// Writes the message's payload for one registration.
    pub(crate) fn write(self, callback: i32, name: &str, out: &mut Writer) {
        out.i32(callback).string(name).raw(uuid_of(name).as_bytes());
        if let Self::Pool(event) | Self::Network(event) = self {
            out.i32(event).i32(0);
        }
    }
}

impl Event {
    /// A life cycle event.
    #[must_use]
    pub fn lifecycle(event: i32, detail: i32) -> Self {
        Self::Lifecycle { event, detail }
    }

    /// The event's ID, `VIR_DOMAIN_EVENT_ID_*`.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.numbers().0
    }

    /// The procedure number of its message.
    #[must_use]
    pub fn procedure(&self) -> i32 {
        self.numbers().1
    }

    fn numbers(&self) -> (i32, i32) {
        match self {
            Self::Lifecycle { .. } => (0, 318),
            Self::Reboot => (1, 319),
            Self::RtcChange { .. } => (2, 320),
            Self::Watchdog { .. } => (3, 321),
            Self::IoError { .. } => (4, 322),
            Self::Graphics { .. } => (5, 323),
            Self::IoErrorReason { .. } => (6, 324),
            Self::ControlError => (7, 325),
            Self::BlockJob { .. } => (8, 326),
            Self::DiskChange { .. } => (9, 327),
            Self::TrayChange { .. } => (10, 328),
            Self::PmWakeup { .. } => (11, 329),
            Self::PmSuspend { .. } => (12, 330),
            Self::BalloonChange { .. } => (13, 331),
            Self::PmSuspendDisk { .. } => (14, 332),
            Self::DeviceRemoved { .. } => (15, 333),
            Self::BlockJob2 { .. } => (16, 339),
            Self::Tunable { .. } => (17, 346),
            Self::AgentLifecycle { .. } => (18, 348),
            Self::DeviceAdded { .. } => (19, 354),
            Self::MigrationIteration { .. } => (20, 359),
            Self::JobCompleted { .. } => (21, 363),
            Self::DeviceRemovalFailed { .. } => (22, 367),
            Self::MetadataChange { .. } => (23, 379),
            Self::BlockThreshold { .. } => (24, 385),
            Self::MemoryFailure { .. } => (25, 423),
            Self::MemoryDeviceSizeChange { .. } => (26, 438),
            Self::NicMacChange { .. } => (27, 453),
            Self::VcpuRemoved { .. } => (28, 454),
            Self::ChannelLifecycle { .. } => (29, 455),
        }
    }

    /// Writes the message's payload for one registration.
    pub(crate) fn write(&self, callback: i32, of: &Identity, out: &mut Writer) {
        out.i32(callback);
        // The three power management messages have their reason before the domain.
        if let Self::PmWakeup { reason } | Self::PmSuspend { reason } | Self::PmSuspendDisk { reason } = self {
            out.i32(*reason).domain(&of.name, of.uuid, of.id);
            return;
        }
        out.domain(&of.name, of.uuid, of.id);
        match self {
            Self::Reboot | Self::ControlError => {}
            Self::PmWakeup { .. } | Self::PmSuspend { .. } | Self::PmSuspendDisk { .. } => {}
            Self::Lifecycle { event: first, detail: second }
            | Self::AgentLifecycle { state: first, reason: second } => {
                out.i32(*first).i32(*second);
            }
            Self::RtcChange { utcoffset } => {
                out.i64(*utcoffset);
            }
            Self::Watchdog { action: number } | Self::MigrationIteration { iteration: number } => {
                out.i32(*number);
            }
            Self::IoError { src_path, dev_alias, action } => {
                out.string(src_path).string(dev_alias).i32(*action);
            }
            Self::IoErrorReason { src_path, dev_alias, action, reason } => {
                out.string(src_path).string(dev_alias).i32(*action).string(reason);
            }
            Self::Graphics { phase, local, remote, auth_scheme, subject } => {
                out.i32(*phase);
                for end in [local, remote] {
                    out.i32(end.family).string(&end.node).string(&end.service);
                }
                out.string(auth_scheme).count(subject.len());
                for (kind, name) in subject {
                    out.string(kind).string(name);
                }
            }
            Self::BlockJob { path: disk, kind, status } | Self::BlockJob2 { dst: disk, kind, status } => {
                out.string(disk).i32(*kind).i32(*status);
            }
            Self::DiskChange { old_src_path, new_src_path, dev_alias, reason } => {
                out.optional_string(old_src_path.as_deref())
                    .optional_string(new_src_path.as_deref())
                    .string(dev_alias)
                    .i32(*reason);
            }
            Self::TrayChange { dev_alias, reason } => {
                out.string(dev_alias).i32(*reason);
            }
            Self::BalloonChange { actual } => {
                out.u64(*actual);
            }
            Self::DeviceRemoved { dev_alias }
            | Self::DeviceAdded { dev_alias }
            | Self::DeviceRemovalFailed { dev_alias } => {
                out.string(dev_alias);
            }
            Self::Tunable { params } | Self::JobCompleted { params } => {
                out.params(params);
            }
            Self::MetadataChange { kind, nsuri } => {
                out.i32(*kind).optional_string(nsuri.as_deref());
            }
            Self::BlockThreshold { dev, path, threshold, excess } => {
                out.string(dev).optional_string(path.as_deref()).u64(*threshold).u64(*excess);
            }
            Self::MemoryFailure { recipient, action, flags } => {
                out.i32(*recipient).i32(*action).u32(*flags);
            }
            Self::MemoryDeviceSizeChange { alias, size } => {
                out.string(alias).u64(*size);
            }
            Self::NicMacChange { alias, old_mac, new_mac } => {
                out.string(alias).string(old_mac).string(new_mac);
            }
            Self::VcpuRemoved { vcpuid } => {
                out.u32(*vcpuid);
            }
            Self::ChannelLifecycle { channel_name, state, reason } => {
                out.string(channel_name).i32(*state).i32(*reason);
            }
        }
    }
}

/// The highest event ID that libvirt of this version knows.
pub(crate) fn last_event_id(libvirt_version: u64) -> i32 {
    match libvirt_version {
        12_004_000.. => 29,
        11_002_000.. => 27,
        7_009_000.. => 26,
        6_009_000.. => 25,
        _ => 24,
    }
}

/// The name of an event's ID, as `virsh event` has it.
pub(crate) const EVENT_NAMES: [&str; 30] = [
    "lifecycle",
    "reboot",
    "rtc-change",
    "watchdog",
    "io-error",
    "graphics",
    "io-error-reason",
    "control-error",
    "block-job",
    "disk-change",
    "tray-change",
    "pm-wakeup",
    "pm-suspend",
    "balloon-change",
    "pm-suspend-disk",
    "device-removed",
    "block-job-2",
    "tunable",
    "agent-lifecycle",
    "device-added",
    "migration-iteration",
    "job-completed",
    "device-removal-failed",
    "metadata-change",
    "block-threshold",
    "memory-failure",
    "memory-device-size-change",
    "nic-mac-change",
    "vcpu-removed",
    "channel-lifecycle",
];

#[cfg(test)]
mod tests {
    use super::{EVENT_NAMES, Event, Identity, last_event_id};
    use crate::xdr::Writer;
    use uuid::Uuid;

    #[test]
    fn there_is_an_example_of_every_id() {
        let ids: Vec<i32> = Event::examples().iter().map(Event::id).collect();
        assert_eq!(ids, (0..30).collect::<Vec<_>>());
        assert_eq!(EVENT_NAMES.len(), ids.len());
        assert_eq!(last_event_id(9_000_000), 26);
        assert_eq!(last_event_id(7_008_000), 25);
    }

    #[test]
    fn power_management_has_its_reason_first() {
        let identity = Identity { name: "vm".to_owned(), uuid: Uuid::nil(), id: None };
        let written = |event: Event| {
            let mut out = Writer::new();
            event.write(5, &identity, &mut out);
            out.into_bytes()
        };
        let wakeup = written(Event::PmWakeup { reason: 9 });
        assert_eq!(wakeup[4..8], [0, 0, 0, 9]);
        let watchdog = written(Event::Watchdog { action: 9 });
        assert_eq!(watchdog[watchdog.len() - 4..], [0, 0, 0, 9]);
        assert_eq!(wakeup.len(), watchdog.len());
    }
}
