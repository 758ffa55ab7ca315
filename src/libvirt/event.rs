//! What libvirt tells of domains without being asked: owned and typed events. The registration is in `watch`.

use std::time::{Duration, SystemTime};

use super::domain::Identity;
use super::param::{Param, ParamValue};

/// Something happened to a domain.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Whose. The id is that at the time of the event: of a domain that has just stopped it is `None`.
    pub domain: Identity,
    /// When this process heard of it.
    pub at: SystemTime,
    /// What.
    pub kind: EventKind,
}

/// What happened (`virDomainEventID`), with the arguments that an exporter has a use for. Numbers are libvirt's own
/// enumerations, so that values of a newer libvirt are not lost.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// The domain was defined, started, stopped, ... (`virDomainEventType` and the detail of that type).
    Lifecycle {
        /// `virDomainEventType`
        event: i32,
        /// `virDomainEvent<Type>DetailType`
        detail: i32,
    },
    /// The guest rebooted, or was reset.
    Reboot,
    /// The guest set its clock.
    RtcChange,
    /// The guest's watchdog fired.
    Watchdog {
        /// `virDomainEventWatchdogAction`
        action: i32,
    },
    /// A disk failed (`VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON`).
    IoError {
        /// The alias of the device, such as `virtio-disk0`.
        alias: String,
        /// `virDomainEventIOErrorAction`
        action: i32,
        /// `enospc`, `eperm`, `eio`, ... or empty.
        reason: String,
    },
    /// The daemon lost the hypervisor's monitor.
    ControlError,
    /// A disk's source changed.
    DiskChange,
    /// A tray was opened or closed.
    TrayChange,
    /// The guest woke up.
    PmWakeup,
    /// The guest suspended to memory.
    PmSuspend,
    /// The guest suspended to disk.
    PmSuspendDisk,
    /// The balloon changed its size.
    BalloonChange,
    /// A device was taken out.
    DeviceRemoved {
        /// Its alias, such as `virtio-disk1`.
        alias: String,
    },
    /// A block job ended or became ready (`VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2`).
    BlockJob {
        /// The target name, such as `vda`.
        device: String,
        /// `virDomainBlockJobType`
        job: i32,
        /// `virConnectDomainEventBlockJobStatus`
        status: i32,
    },
    /// A tunable changed.
    Tunable,
    /// The guest agent connected or disconnected.
    AgentLifecycle {
        /// Whether it is connected now.
        connected: bool,
    },
    /// A device was put in.
    DeviceAdded {
        /// Its alias, such as `virtio-disk1`.
        alias: String,
    },
    /// A migration began another pass over memory.
    MigrationIteration {
        /// The number of the pass.
        iteration: i32,
    },
    /// A background job, such as a migration or a save, has ended.
    JobCompleted(JobOutcome),
    /// A device could not be taken out.
    DeviceRemovalFailed,
    /// Title, description or metadata changed.
    MetadataChange,
    /// A disk's allocation crossed the threshold that was set for it.
    BlockThreshold {
        /// The target name, such as `vda`, or `vda[1]` for a lower layer.
        device: String,
    },
    /// Memory of the host failed under the guest.
    MemoryFailure {
        /// `virDomainMemoryFailureRecipientType`
        recipient: i32,
        /// `virDomainMemoryFailureActionType`
        action: i32,
    },
    /// A memory device changed its size.
    MemoryDeviceSizeChange,
    /// The guest changed the MAC address of a NIC.
    NicMacChange,
    /// A virtual CPU was taken out.
    VcpuRemoved,
    /// The guest opened or closed a channel.
    ChannelLifecycle,
}

/// How a background job ended (`VIR_DOMAIN_EVENT_ID_JOB_COMPLETED`); what libvirt does not say is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobOutcome {
    /// `virDomainJobOperation`
    pub operation: i32,
    /// Whether it succeeded.
    pub success: Option<bool>,
    /// How long it took.
    pub duration: Option<Duration>,
    /// How long the guest stood still.
    pub downtime: Option<Duration>,
}

impl JobOutcome {
    /// Reads the statistics of a job that has ended; times are milliseconds there.
    pub(super) fn parse<'a>(params: impl Iterator<Item = Param<'a>>) -> Self {
        let millis = |value| match value {
            ParamValue::ULLong(millis) => Some(Duration::from_millis(millis)),
            _ => None,
        };
        let mut outcome = Self::default();
        for param in params {
            match (param.key, param.value) {
                ("operation", ParamValue::Int(operation)) => outcome.operation = operation,
                ("success", ParamValue::Boolean(success)) => outcome.success = Some(success),
                ("time_elapsed", value) => outcome.duration = millis(value),
                ("downtime", value) => outcome.downtime = millis(value),
                _ => {}
            }
        }
        outcome
    }
}

impl EventKind {
    /// libvirt's name of the event, as in `VIR_DOMAIN_EVENT_ID_<NAME>`, in lower case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lifecycle { .. } => "lifecycle",
            Self::Reboot => "reboot",
            Self::RtcChange => "rtc_change",
            Self::Watchdog { .. } => "watchdog",
            Self::IoError { .. } => "io_error_reason",
            Self::ControlError => "control_error",
            Self::DiskChange => "disk_change",
            Self::TrayChange => "tray_change",
            Self::PmWakeup => "pmwakeup",
            Self::PmSuspend => "pmsuspend",
            Self::PmSuspendDisk => "pmsuspend_disk",
            Self::BalloonChange => "balloon_change",
            Self::DeviceRemoved { .. } => "device_removed",
            Self::BlockJob { .. } => "block_job_2",
            Self::Tunable => "tunable",
            Self::AgentLifecycle { .. } => "agent_lifecycle",
            Self::DeviceAdded { .. } => "device_added",
            Self::MigrationIteration { .. } => "migration_iteration",
            Self::JobCompleted(_) => "job_completed",
            Self::DeviceRemovalFailed => "device_removal_failed",
            Self::MetadataChange => "metadata_change",
            Self::BlockThreshold { .. } => "block_threshold",
            Self::MemoryFailure { .. } => "memory_failure",
            Self::MemoryDeviceSizeChange => "memory_device_size_change",
            Self::NicMacChange => "nic_mac_change",
            Self::VcpuRemoved => "vcpu_removed",
            Self::ChannelLifecycle => "channel_lifecycle",
        }
    }
}
