//! The groups BALLOON, INTERFACE, PERF, IOTHREAD, MEMORY and DIRTYRATE.

use super::names::PERF_EVENTS;
use super::{DirtyRate, Stats, Subject, Template};
use crate::params::Value;

pub(super) fn balloon(template: &Template, subject: &Subject<'_>, out: &mut Stats) {
    let memory = template.memory_kib;
    out.gauge("balloon.current", memory);
    out.gauge("balloon.maximum", memory);
    if !subject.active {
        return;
    }
    if template.guest_balloon {
        out.counter("balloon.swap_in", 1);
        out.counter("balloon.swap_out", 2);
        out.counter("balloon.major_fault", 3);
        out.counter("balloon.minor_fault", 900);
        out.gauge("balloon.unused", memory / 4);
        out.gauge("balloon.available", memory - memory / 16);
        out.gauge("balloon.usable", memory / 2);
        out.gauge("balloon.last-update", 1_790_000_000);
        out.gauge("balloon.disk_caches", memory / 5);
        out.counter("balloon.hugetlb_pgalloc", 1);
        out.counter("balloon.hugetlb_pgfail", 0);
    } else {
        out.gauge("balloon.last-update", 0);
    }
    out.gauge("balloon.rss", memory / 3 * 2);
}

pub(super) fn interface(template: &Template, subject: &Subject<'_>, out: &mut Stats) {
    out.uint("net.count", template.nics + template.nics_without_tap);
    for nic in 0..template.nics {
        // The NICs without a tap stand first, so that the indices of the others start behind the hole.
        let prefix = format!("net.{}", nic + template.nics_without_tap);
        out.string(format!("{prefix}.name"), format!("vnet{}", subject.first_tap + nic));
        for (direction, bytes) in [("rx", 125_000), ("tx", 62_500)] {
            out.counter(format!("{prefix}.{direction}.bytes"), bytes);
            out.counter(format!("{prefix}.{direction}.pkts"), bytes / 500);
            out.counter(format!("{prefix}.{direction}.errs"), 0);
            out.counter(format!("{prefix}.{direction}.drop"), 1);
        }
    }
}

pub(super) fn perf(template: &Template, out: &mut Stats) {
    if !template.perf_events {
        return;
    }
    for event in PERF_EVENTS {
        let key = format!("perf.{event}");
        match event {
            "cmt" | "mbmt" | "mbml" => out.gauge(key, 7 << 20),
            "cpu_clock" | "task_clock" => out.counter(key, 400_000_000),
            _ => out.counter(key, 10_000),
        }
    }
}

pub(super) fn iothread(template: &Template, out: &mut Stats) {
    if template.iothreads == 0 {
        return;
    }
    out.uint("iothread.count", template.iothreads);
    for id in (1..=template.iothreads).rev() {
        let prefix = format!("iothread.{id}");
        out.gauge(format!("{prefix}.poll-max-ns"), 32_768);
        for name in ["poll-grow", "poll-shrink"] {
            let key = format!("{prefix}.{name}");
            if template.poll_weight {
                out.gauge(key, 2);
            } else {
                out.uint(key, 0);
            }
        }
        if template.poll_weight {
            out.gauge(format!("{prefix}.poll-weight"), 3);
        }
    }
}

pub(super) fn memory(template: &Template, out: &mut Stats) {
    if template.memory_monitors == 0 {
        return;
    }
    out.uint("memory.bandwidth.monitor.count", template.memory_monitors);
    for monitor in 0..template.memory_monitors {
        let prefix = format!("memory.bandwidth.monitor.{monitor}");
        out.string(format!("{prefix}.name"), format!("vcpus_{monitor}"));
        out.string(format!("{prefix}.vcpus"), monitor.to_string());
        out.uint(format!("{prefix}.node.count"), 2);
        for node in 0..2 {
            out.uint(format!("{prefix}.node.{node}.id"), node);
            out.counter(format!("{prefix}.node.{node}.bytes.local"), 1 << 20);
            out.counter(format!("{prefix}.node.{node}.bytes.total"), 3 << 20);
        }
    }
}

pub(super) fn dirty_rate(template: &Template, out: &mut Stats) {
    let (status, mode) = match template.dirty_rate {
        DirtyRate::Unsupported => return,
        DirtyRate::Unstarted => (0, "page-sampling"),
        DirtyRate::Measuring => (1, "page-sampling"),
        DirtyRate::Measured => (2, "page-sampling"),
        DirtyRate::MeasuredPerVcpu => (2, "dirty-ring"),
    };
    let started = status > 0;
    out.fixed("dirtyrate.calc_status", Value::Int(status));
    out.fixed("dirtyrate.calc_start_time", Value::LLong(if started { 1916 } else { 0 }));
    out.fixed("dirtyrate.calc_period", Value::Int(if started { 1 } else { 0 }));
    out.string("dirtyrate.calc_mode", mode);
    if status == 2 {
        out.fixed("dirtyrate.megabytes_per_second", Value::LLong(12));
    }
    if template.dirty_rate == DirtyRate::MeasuredPerVcpu {
        for vcpu in 0..template.vcpus {
            out.gauge(format!("dirtyrate.vcpu.{vcpu}.megabytes_per_second"), 6);
        }
    }
}
