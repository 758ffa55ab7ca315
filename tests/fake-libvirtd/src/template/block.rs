//! The group BLOCK.

use super::names::BLOCK_LIMITS;
use super::{Stats, Subject, Template, disk_path, disk_target};
use crate::params::Value;

const HISTOGRAMS: [&str; 4] = ["read", "write", "zone_append", "flush"];

pub(super) fn block(template: &Template, subject: &Subject<'_>, out: &mut Stats) {
    let layers = if subject.backing { template.backing_layers } else { 0 };
    out.uint("block.count", template.disks * (1 + layers));
    let mut record = 0;
    for disk in 0..template.disks {
        let target = disk_target(disk);
        for layer in 0..=layers {
            let prefix = format!("block.{record}");
            record += 1;
            out.string(format!("{prefix}.name"), target.clone());
            let path = disk_path(subject.name, &target, layer);
            out.string(format!("{prefix}.path"), path);
            if subject.active {
                let index = 1 + disk * (1 + template.backing_layers) + layer;
                out.uint(format!("{prefix}.backingIndex"), index);
                if layer == 0 {
                    counters(&prefix, out);
                }
            }
            out.gauge(format!("{prefix}.allocation"), 3 << 30);
            out.gauge(format!("{prefix}.capacity"), 20 << 30);
            out.gauge(format!("{prefix}.physical"), (3 << 30) + 4096);
            if subject.active && layer == 0 {
                newer(template, &prefix, out);
            }
        }
    }
}

fn counters(prefix: &str, out: &mut Stats) {
    for (direction, requests, bytes) in [("rd", 40, 163_840), ("wr", 25, 409_600)] {
        out.counter(format!("{prefix}.{direction}.reqs"), requests);
        out.counter(format!("{prefix}.{direction}.bytes"), bytes);
        out.counter(format!("{prefix}.{direction}.times"), requests * 200_000);
    }
    out.counter(format!("{prefix}.fl.reqs"), 5);
    out.counter(format!("{prefix}.fl.times"), 2_000_000);
}

/// What libvirt reports only where it is armed, or since 11.10.
fn newer(template: &Template, prefix: &str, out: &mut Stats) {
    if template.block_threshold {
        out.gauge(format!("{prefix}.threshold"), 19 << 30);
    }
    if template.block_limits {
        for (value, name) in (1..).zip(BLOCK_LIMITS) {
            out.gauge(format!("{prefix}.limits.{name}"), 512 * value);
        }
    }
    if !template.timed_groups.is_empty() {
        let count = u64::try_from(template.timed_groups.len()).unwrap_or(u64::MAX);
        out.gauge(format!("{prefix}.timed_group.count"), count);
    }
    for (group, interval) in template.timed_groups.iter().enumerate() {
        let prefix = format!("{prefix}.timed_group.{group}");
        out.gauge(format!("{prefix}.interval"), *interval);
        for operation in ["rd", "wr", "zone_append", "flush"] {
            for (value, statistic) in [(90_000, "min"), (4_000_000, "max"), (350_000, "avg")] {
                out.gauge(format!("{prefix}.{operation}_latency_{statistic}"), value);
            }
            if operation != "flush" {
                let key = format!("{prefix}.{operation}_queue_depth_avg");
                out.fixed(key, Value::Double(1.25));
            }
        }
    }
    if template.latency_histogram_bins == 0 {
        return;
    }
    for histogram in HISTOGRAMS {
        let prefix = format!("{prefix}.latency_histogram.{histogram}.bin");
        let bins = template.latency_histogram_bins;
        out.gauge(format!("{prefix}.count"), u64::from(bins));
        for bin in 0..bins {
            let start = match bin {
                0 => 0,
                _ => 100_000_u64.saturating_mul(10_u64.saturating_pow(bin - 1)),
            };
            out.gauge(format!("{prefix}.{bin}.start"), start);
            out.counter(format!("{prefix}.{bin}.value"), 10 + bin);
        }
    }
}
