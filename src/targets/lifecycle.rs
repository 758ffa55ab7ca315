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
/// `VIR_DOMAIN_EVENT_STARTED_WAKEUP`
pub(super) const STARTED_WAKEUP: i32 = 4;
/// `VIR_DOMAIN_EVENT_STOPPED_CRASHED`
pub(super) const STOPPED_CRASHED: i32 = 2;
/// `VIR_DOMAIN_EVENT_STOPPED_FAILED`: what QEMU's driver says when a hypervisor process has died.
pub(super) const STOPPED_FAILED: i32 = 5;
