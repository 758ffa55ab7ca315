//! The functions that libvirt calls for each kind of event, with the exact signature that it has for that kind.

use std::ffi::{c_char, c_int, c_longlong, c_uint, c_ulonglong, c_void};

use virt::sys;

use super::event::{EventKind, JobOutcome};
use super::text::text;
use super::typed_params::copy_params;
use super::watch::deliver;

/// What is registered for one kind of event.
pub(super) struct Callback {
    /// `virDomainEventID`
    pub(super) id: sys::virDomainEventID,
    /// As [`EventKind::name`] has it.
    pub(super) name: &'static str,
    /// The function, in the type that registrations of all kinds have.
    pub(super) function: sys::virConnectDomainEventGenericCallback,
}

/// Each row: the event's ID and name, the C type of its callback, the arguments after connection and domain, and what
/// becomes of them.
macro_rules! callbacks {
    ($($id:ident $name:literal: $signature:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? => $kind:expr;)*) => {
        /// The kinds of events that are of use to an exporter. Left out are I/O errors without a reason and block jobs by
        /// path, which are also told in a better form, and the sessions of graphics clients.
        pub(super) const CALLBACKS: &[Callback] = &[$({
            unsafe extern "C" fn callback(
                _connection: sys::virConnectPtr,
                domain: sys::virDomainPtr,
                $($argument: $type,)*
                opaque: *mut c_void,
            ) $(-> $result)? {
                deliver(opaque, domain, || $kind)
            }
            let function: sys::$signature = Some(callback);
            #[allow(clippy::useless_transmute, reason = "two kinds have the general type already")]
            // SAFETY: both are nullable pointers to C functions; libvirt casts it back before it calls it.
            let function = unsafe {
                std::mem::transmute::<sys::$signature, sys::virConnectDomainEventGenericCallback>(function)
            };
            Callback { id: sys::$id, name: $name, function }
        }),*];
    };
}

callbacks! {
    VIR_DOMAIN_EVENT_ID_LIFECYCLE "lifecycle":
        virConnectDomainEventCallback(event: c_int, detail: c_int) -> c_int => EventKind::Lifecycle { event, detail };
    VIR_DOMAIN_EVENT_ID_REBOOT "reboot":
        virConnectDomainEventGenericCallback() => EventKind::Reboot;
    VIR_DOMAIN_EVENT_ID_RTC_CHANGE "rtc_change":
        virConnectDomainEventRTCChangeCallback(_offset: c_longlong) => EventKind::RtcChange;
    VIR_DOMAIN_EVENT_ID_WATCHDOG "watchdog":
        virConnectDomainEventWatchdogCallback(action: c_int) => EventKind::Watchdog { action };
    VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON "io_error_reason":
        virConnectDomainEventIOErrorReasonCallback(
            _path: *const c_char, alias: *const c_char, action: c_int, reason: *const c_char
        ) => EventKind::IoError { alias: text(alias), action, reason: text(reason) };
    VIR_DOMAIN_EVENT_ID_CONTROL_ERROR "control_error":
        virConnectDomainEventGenericCallback() => EventKind::ControlError;
    VIR_DOMAIN_EVENT_ID_DISK_CHANGE "disk_change":
        virConnectDomainEventDiskChangeCallback(
            _old: *const c_char, _new: *const c_char, _alias: *const c_char, _reason: c_int
        ) => EventKind::DiskChange;
    VIR_DOMAIN_EVENT_ID_TRAY_CHANGE "tray_change":
        virConnectDomainEventTrayChangeCallback(_alias: *const c_char, _reason: c_int) => EventKind::TrayChange;
    VIR_DOMAIN_EVENT_ID_PMWAKEUP "pmwakeup":
        virConnectDomainEventPMWakeupCallback(_reason: c_int) => EventKind::PmWakeup;
    VIR_DOMAIN_EVENT_ID_PMSUSPEND "pmsuspend":
        virConnectDomainEventPMSuspendCallback(_reason: c_int) => EventKind::PmSuspend;
    VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE "balloon_change":
        virConnectDomainEventBalloonChangeCallback(_actual: c_ulonglong) => EventKind::BalloonChange;
    VIR_DOMAIN_EVENT_ID_PMSUSPEND_DISK "pmsuspend_disk":
        virConnectDomainEventPMSuspendDiskCallback(_reason: c_int) => EventKind::PmSuspendDisk;
    VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED "device_removed":
        virConnectDomainEventDeviceRemovedCallback(alias: *const c_char) => EventKind::DeviceRemoved { alias: text(alias) };
    VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2 "block_job_2":
        virConnectDomainEventBlockJobCallback(device: *const c_char, job: c_int, status: c_int) =>
            EventKind::BlockJob { device: text(device), job, status };
    VIR_DOMAIN_EVENT_ID_TUNABLE "tunable":
        virConnectDomainEventTunableCallback(_params: sys::virTypedParameterPtr, _count: c_int) => EventKind::Tunable;
    VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE "agent_lifecycle":
        virConnectDomainEventAgentLifecycleCallback(state: c_int, _reason: c_int) =>
            EventKind::AgentLifecycle { connected: c_uint::try_from(state) == Ok(AGENT_CONNECTED) };
    VIR_DOMAIN_EVENT_ID_DEVICE_ADDED "device_added":
        virConnectDomainEventDeviceAddedCallback(alias: *const c_char) => EventKind::DeviceAdded { alias: text(alias) };
    VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION "migration_iteration":
        virConnectDomainEventMigrationIterationCallback(iteration: c_int) => EventKind::MigrationIteration { iteration };
    VIR_DOMAIN_EVENT_ID_JOB_COMPLETED "job_completed":
        virConnectDomainEventJobCompletedCallback(params: sys::virTypedParameterPtr, count: c_int) =>
            EventKind::JobCompleted(copy_job(params, count));
    VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED "device_removal_failed":
        virConnectDomainEventDeviceRemovalFailedCallback(_alias: *const c_char) => EventKind::DeviceRemovalFailed;
    VIR_DOMAIN_EVENT_ID_METADATA_CHANGE "metadata_change":
        virConnectDomainEventMetadataChangeCallback(_kind: c_int, _uri: *const c_char) => EventKind::MetadataChange;
    VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD "block_threshold":
        virConnectDomainEventBlockThresholdCallback(
            device: *const c_char, _path: *const c_char, _threshold: c_ulonglong, _excess: c_ulonglong
        ) => EventKind::BlockThreshold { device: text(device) };
    VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE "memory_failure":
        virConnectDomainEventMemoryFailureCallback(recipient: c_int, action: c_int, _flags: c_uint) =>
            EventKind::MemoryFailure { recipient, action };
    VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE "memory_device_size_change":
        virConnectDomainEventMemoryDeviceSizeChangeCallback(_alias: *const c_char, _size: c_ulonglong) =>
            EventKind::MemoryDeviceSizeChange;
    VIR_DOMAIN_EVENT_ID_NIC_MAC_CHANGE "nic_mac_change":
        virConnectDomainEventNICMACChangeCallback(_alias: *const c_char, _old: *const c_char, _new: *const c_char) =>
            EventKind::NicMacChange;
    VIR_DOMAIN_EVENT_ID_VCPU_REMOVED "vcpu_removed":
        virConnectDomainEventVcpuRemovedCallback(_vcpu: c_uint) => EventKind::VcpuRemoved;
    VIR_DOMAIN_EVENT_ID_CHANNEL_LIFECYCLE "channel_lifecycle":
        virConnectDomainEventChannelLifecycleCallback(_channel: *const c_char, _state: c_int, _reason: c_int) =>
            EventKind::ChannelLifecycle;
}

const AGENT_CONNECTED: c_uint = sys::VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED;

/// Reads the parameters of a job that has ended: `count` of them, alive during the call.
fn copy_job(params: sys::virTypedParameterPtr, count: c_int) -> JobOutcome {
    JobOutcome::parse(copy_params(params, count).domain(0).params())
}
