//! Label values for the enumerations of libvirt's events: the names of its constants in lower case. A number without a
//! constant stays a number.

use std::borrow::Cow;

use crate::domains::STOPPED_ARRIVING;
use crate::libvirt::ObjectEvent;

/// `virDomainEventType`, each with the details of that type.
const LIFECYCLE: &[(&str, &[&str])] = &[
    ("defined", &["added", "updated", "renamed", "from_snapshot"]),
    ("undefined", &["removed", "renamed"]),
    ("started", &["booted", "migrated", "restored", "from_snapshot", "wakeup", "recreated"]),
    (
        "suspended",
        &[
            "paused",
            "migrated",
            "ioerror",
            "watchdog",
            "restored",
            "from_snapshot",
            "api_error",
            "postcopy",
            "postcopy_failed",
            "guest_shutdown",
        ],
    ),
    ("resumed", &["unpaused", "migrated", "from_snapshot", "postcopy", "postcopy_failed"]),
    ("stopped", &["shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from_snapshot", "recreated"]),
    ("shutdown", &["finished", "guest", "host"]),
    ("pmsuspended", &["memory", "disk"]),
    ("crashed", &["panicked", "crashloaded"]),
];

/// An event and its detail.
pub(super) fn lifecycle(event: i32, detail: i32) -> (Cow<'static, str>, Cow<'static, str>) {
    match at(LIFECYCLE, event) {
        Some((name, _)) if detail == STOPPED_ARRIVING => (Cow::Borrowed(name), Cow::Borrowed("arrival_failed")),
        Some((name, details)) => (Cow::Borrowed(name), label(details, detail, "detail")),
        None => (format!("event_{event}").into(), format!("detail_{detail}").into()),
    }
}

/// `virStoragePoolEventLifecycleType`, of which `virNetworkEventLifecycleType` is the beginning; and a refresh.
pub(super) fn object(event: ObjectEvent) -> Cow<'static, str> {
    match event {
        ObjectEvent::Lifecycle(event) => {
            label(&["defined", "undefined", "started", "stopped", "created", "deleted"], event, "event")
        }
        ObjectEvent::Refreshed => Cow::Borrowed("refreshed"),
    }
}

/// `virDomainEventWatchdogAction`
pub(super) fn watchdog_action(action: i32) -> Cow<'static, str> {
    label(&["none", "pause", "reset", "poweroff", "shutdown", "debug", "inject_nmi"], action, "action")
}

/// `virDomainEventIOErrorAction`
pub(super) fn io_error_action(action: i32) -> Cow<'static, str> {
    label(&["none", "pause", "report"], action, "action")
}

/// `virDomainBlockJobType`
pub(super) fn block_job(job: i32) -> Cow<'static, str> {
    label(&["unknown", "pull", "copy", "commit", "active_commit", "backup"], job, "operation")
}

/// `virConnectDomainEventBlockJobStatus`
pub(super) fn block_job_status(status: i32) -> Cow<'static, str> {
    label(&["completed", "failed", "canceled", "ready"], status, "status")
}

/// `virDomainMemoryFailureRecipientType`
pub(super) fn memory_failure_recipient(recipient: i32) -> Cow<'static, str> {
    label(&["hypervisor", "guest"], recipient, "recipient")
}

/// `virDomainMemoryFailureActionType`
pub(super) fn memory_failure_action(action: i32) -> Cow<'static, str> {
    label(&["ignore", "inject", "fatal", "reset"], action, "action")
}

fn label(names: &[&'static str], number: i32, noun: &str) -> Cow<'static, str> {
    at(names, number).map_or_else(|| format!("{noun}_{number}").into(), |name| Cow::Borrowed(*name))
}

fn at<T>(names: &[T], number: i32) -> Option<&T> {
    names.get(usize::try_from(number).ok()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use virt::sys;

    use super::*;

    #[test]
    fn labels_are_those_of_the_constants() {
        let lifecycles = [
            (sys::VIR_DOMAIN_EVENT_DEFINED, sys::VIR_DOMAIN_EVENT_DEFINED_FROM_SNAPSHOT, "defined", "from_snapshot"),
            (sys::VIR_DOMAIN_EVENT_UNDEFINED, sys::VIR_DOMAIN_EVENT_UNDEFINED_RENAMED, "undefined", "renamed"),
            (sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_STARTED_WAKEUP, "started", "wakeup"),
            (
                sys::VIR_DOMAIN_EVENT_SUSPENDED,
                sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED,
                "suspended",
                "postcopy_failed",
            ),
            (
                sys::VIR_DOMAIN_EVENT_RESUMED,
                sys::VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED,
                "resumed",
                "postcopy_failed",
            ),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT, "stopped", "from_snapshot"),
            (sys::VIR_DOMAIN_EVENT_SHUTDOWN, sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST, "shutdown", "host"),
            (sys::VIR_DOMAIN_EVENT_PMSUSPENDED, sys::VIR_DOMAIN_EVENT_PMSUSPENDED_DISK, "pmsuspended", "disk"),
            (sys::VIR_DOMAIN_EVENT_CRASHED, sys::VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED, "crashed", "crashloaded"),
        ];
        for (event, detail, name, detail_name) in lifecycles {
            let number = |value: u32| i32::try_from(value).expect("a small number");
            assert_eq!(lifecycle(number(event), number(detail)), (name.into(), detail_name.into()));
        }
    }

    #[test]
    fn pools_and_networks_have_the_names_of_libvirts_constants() {
        let events = [
            (sys::VIR_STORAGE_POOL_EVENT_DEFINED, "defined"),
            (sys::VIR_STORAGE_POOL_EVENT_UNDEFINED, "undefined"),
            (sys::VIR_STORAGE_POOL_EVENT_STARTED, "started"),
            (sys::VIR_STORAGE_POOL_EVENT_STOPPED, "stopped"),
            (sys::VIR_STORAGE_POOL_EVENT_CREATED, "created"),
            (sys::VIR_STORAGE_POOL_EVENT_DELETED, "deleted"),
            (sys::VIR_NETWORK_EVENT_DEFINED, "defined"),
            (sys::VIR_NETWORK_EVENT_UNDEFINED, "undefined"),
            (sys::VIR_NETWORK_EVENT_STARTED, "started"),
            (sys::VIR_NETWORK_EVENT_STOPPED, "stopped"),
        ];
        for (event, name) in events {
            assert_eq!(object(ObjectEvent::Lifecycle(event.cast_signed())), name);
        }
        assert_eq!(object(ObjectEvent::Refreshed), "refreshed");
    }

    #[test]
    fn an_unknown_number_stays_one_and_no_two_share_a_label() {
        assert_eq!(lifecycle(2, 99), ("started".into(), "detail_99".into()));
        assert_eq!(lifecycle(-1, 0), ("event_-1".into(), "detail_0".into()));
        let all: [fn(i32) -> Cow<'static, str>; 8] = [
            |event| object(ObjectEvent::Lifecycle(event)),
            watchdog_action,
            io_error_action,
            block_job,
            block_job_status,
            crate::libvirt::job_operation,
            memory_failure_recipient,
            memory_failure_action,
        ];
        for label in all {
            let labels: BTreeMap<_, _> = (-2..20).map(|number| (label(number), number)).collect();
            assert_eq!(labels.len(), 22, "{labels:?}");
            assert!(label(i32::MAX).ends_with("_2147483647"));
        }
    }
}
