//! `iothread.*`: the polling of I/O threads. The number in a key is the thread's id: sparse, and in no order.

use super::Group;
use super::group::{GroupInfo, KeyPattern, Monitor, Source};
use super::kind::{Origin, Subject};
use super::row::{NANOS, NONE, NUMBER, Row, Scope, Table, of};
use crate::libvirt::StatsGroups;

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "iothread",
    help: "I/O threads",
    source: Source::Stats(StatsGroups::IOTHREAD),
    prefix: "iothread",
    monitor: Some(Monitor { answers: KeyPattern::Any, from_kvm: false, shows_job: true }),
    fragile: true,
    table: TABLE,
    ..GroupInfo::USUAL
};

#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::Iothread),
    subject: Subject::Domain,
    origin: Origin::Device,
    active_only: false,
    scopes: &[Scope { prefix: "iothread.<n>", label: "iothread", named_by: None }],
    rows: &[
        Row::gauge(&["iothread.count"], "libvirt_domain_iothreads", of("thread"), ("libvirt.domain.iothread.count", NONE),
            "I/O threads of the domain"),
        Row::gauge(&["iothread.<n>.poll-max-ns"], "libvirt_domain_iothread_poll_max_seconds", NANOS, ("libvirt.domain.iothread.poll.max", NONE),
            "Longest time that the I/O thread polls; 0 is no polling"),
        Row::gauge(&["iothread.<n>.poll-grow"], "libvirt_domain_iothread_poll_grow", NUMBER, ("libvirt.domain.iothread.poll.grow", NONE),
            "Factor by which the polling time grows; 0 is the hypervisor's default"),
        Row::gauge(&["iothread.<n>.poll-shrink"], "libvirt_domain_iothread_poll_shrink", NUMBER, ("libvirt.domain.iothread.poll.shrink", NONE),
            "Divisor by which the polling time shrinks; 0 is the hypervisor's default"),
        Row::gauge(&["iothread.<n>.poll-weight"], "libvirt_domain_iothread_poll_weight", NUMBER, ("libvirt.domain.iothread.poll.weight", NONE),
            "Weight of the last interval in the adaptive polling time"),
    ],
};
