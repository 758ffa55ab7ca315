//! One event of every ID.

use super::{Event, GraphicsAddress};
use crate::params::Value;

impl Event {
    /// One event of every ID, with plausible arguments.
    #[must_use]
    pub fn examples() -> Vec<Self> {
        let text = str::to_owned;
        let job = |operation: i32| {
            vec![
                (text("operation"), Value::Int(operation)),
                (text("time_elapsed"), Value::ULLong(1200)),
                (text("downtime"), Value::ULLong(30)),
                (text("success"), Value::Boolean(true)),
            ]
        };
        let end = |node: &str| GraphicsAddress { family: 0, node: text(node), service: text("5900") };
        vec![
            Self::lifecycle(3, 0),
            Self::Reboot,
            Self::RtcChange { utcoffset: -3600 },
            Self::Watchdog { action: 2 },
            Self::IoError { src_path: text("/images/a.qcow2"), dev_alias: text("virtio-disk0"), action: 1 },
            Self::Graphics {
                phase: 0,
                local: end("127.0.0.1"),
                remote: end("127.0.0.2"),
                auth_scheme: text("none"),
                subject: vec![(text("x509dname"), text("CN=test"))],
            },
            Self::IoErrorReason {
                src_path: text("/images/a.qcow2"),
                dev_alias: text("virtio-disk0"),
                action: 1,
                reason: text("enospc"),
            },
            Self::ControlError,
            Self::BlockJob { path: text("/images/a.qcow2"), kind: 3, status: 0 },
            Self::DiskChange {
                old_src_path: Some(text("/images/old.iso")),
                new_src_path: None,
                dev_alias: text("sata0-0-0"),
                reason: 1,
            },
            Self::TrayChange { dev_alias: text("sata0-0-0"), reason: 0 },
            Self::PmWakeup { reason: 0 },
            Self::PmSuspend { reason: 0 },
            Self::BalloonChange { actual: 524_288 },
            Self::PmSuspendDisk { reason: 0 },
            Self::DeviceRemoved { dev_alias: text("net1") },
            Self::BlockJob2 { dst: text("vda"), kind: 4, status: 3 },
            Self::Tunable { params: vec![(text("cputune.cpu_shares"), Value::ULLong(512))] },
            Self::AgentLifecycle { state: 1, reason: 2 },
            Self::DeviceAdded { dev_alias: text("net1") },
            Self::MigrationIteration { iteration: 2 },
            Self::JobCompleted { params: job(2) },
            Self::DeviceRemovalFailed { dev_alias: text("net1") },
            Self::MetadataChange { kind: 1, nsuri: None },
            Self::BlockThreshold {
                dev: text("vda"),
                path: Some(text("/images/a.qcow2")),
                threshold: 1 << 30,
                excess: 4096,
            },
            Self::MemoryFailure { recipient: 1, action: 1, flags: 1 },
            Self::MemoryDeviceSizeChange { alias: text("virtiomem0"), size: 1 << 20 },
            Self::NicMacChange {
                alias: text("net0"),
                old_mac: text("52:54:00:00:00:01"),
                new_mac: text("52:54:00:00:00:02"),
            },
            Self::VcpuRemoved { vcpuid: 3 },
            Self::ChannelLifecycle { channel_name: text("org.qemu.guest_agent.0"), state: 1, reason: 2 },
        ]
    }
}
