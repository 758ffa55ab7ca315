//! The numbers of `virDomainEventType`, and of the details that decide something here.

pub(super) const DEFINED: i32 = 0;
pub(super) const UNDEFINED: i32 = 1;
pub(super) const STARTED: i32 = 2;
pub(super) const SUSPENDED: i32 = 3;
pub(super) const RESUMED: i32 = 4;
pub(super) const STOPPED: i32 = 5;
pub(super) const SHUTDOWN: i32 = 6;
pub(super) const PMSUSPENDED: i32 = 7;
pub(super) const CRASHED: i32 = 8;
/// `VIR_DOMAIN_EVENT_UNDEFINED_RENAMED`
pub(super) const UNDEFINED_RENAMED: i32 = 1;
/// `VIR_DOMAIN_EVENT_STARTED_BOOTED`
pub(super) const STARTED_BOOTED: i32 = 0;
/// `VIR_DOMAIN_EVENT_STARTED_MIGRATED`
pub(super) const STARTED_MIGRATED: i32 = 1;
/// `VIR_DOMAIN_EVENT_STARTED_RECREATED`: for a reboot, in a new hypervisor process.
pub(super) const STARTED_RECREATED: i32 = 5;
/// `VIR_DOMAIN_EVENT_STARTED_WAKEUP`
pub(super) const STARTED_WAKEUP: i32 = 4;
/// `VIR_DOMAIN_EVENT_STOPPED_CRASHED`
pub(super) const STOPPED_CRASHED: i32 = 2;
/// `VIR_DOMAIN_EVENT_STOPPED_FAILED`: what QEMU's driver says when a hypervisor process has died.
pub(super) const STOPPED_FAILED: i32 = 5;
/// No detail of libvirt's: an arrival by migration that failed, which libvirt calls `VIR_DOMAIN_EVENT_STOPPED_FAILED` too.
pub const STOPPED_ARRIVING: i32 = -1;
