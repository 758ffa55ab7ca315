//! The groups CPU_TOTAL, VCPU and VM.

use super::names::{KVM_VCPU_STATS, KVM_VM_STATS};
use super::{Stats, Subject, Template};
use crate::params::Value;

pub(super) fn cpu_total(template: &Template, subject: &Subject<'_>, out: &mut Stats) {
    // libvirt reports its own CPU time for a domain that is shut off; so does this daemon.
    out.counter("cpu.time", 500_000_000);
    out.counter("cpu.user", 300_000_000);
    out.counter("cpu.system", 200_000_000);
    if !subject.active {
        return;
    }
    if template.halt_poll {
        out.counter("cpu.haltpoll.success.time", 1_000_000);
        out.counter("cpu.haltpoll.fail.time", 2_000_000);
    }
    out.uint("cpu.cache.monitor.count", template.cache_monitors);
    for monitor in 0..template.cache_monitors {
        let prefix = format!("cpu.cache.monitor.{monitor}");
        out.string(format!("{prefix}.name"), format!("vcpus_{monitor}"));
        out.string(format!("{prefix}.vcpus"), monitor.to_string());
        out.uint(format!("{prefix}.bank.count"), 2);
        for bank in 0..2 {
            out.uint(format!("{prefix}.bank.{bank}.id"), bank);
            out.uint(format!("{prefix}.bank.{bank}.bytes"), (bank + 1) << 20);
        }
    }
    if template.energy_monitors > 0 {
        out.uint("cpu.energy.monitor.count", template.energy_monitors);
    }
    for monitor in 0..template.energy_monitors {
        let prefix = format!("cpu.energy.monitor.{monitor}");
        out.string(format!("{prefix}.name"), format!("vcpus_{monitor}"));
        out.string(format!("{prefix}.vcpus"), monitor.to_string());
        out.uint(format!("{prefix}.pkg.count"), 2);
        for package in 0..2 {
            let prefix = format!("{prefix}.pkg.{package}");
            out.uint(format!("{prefix}.id"), package);
            out.list.push(super::Stat {
                key: format!("{prefix}.core_energy"),
                value: Value::Double(1000.25),
                per_second: 15,
            });
            out.fixed(format!("{prefix}.activity"), Value::Double(0.75));
        }
    }
}

pub(super) fn vcpu(template: &Template, subject: &Subject<'_>, out: &mut Stats) {
    out.uint("vcpu.current", template.vcpus);
    out.uint("vcpu.maximum", template.vcpus);
    if !subject.active {
        return;
    }
    for vcpu in 0..template.vcpus {
        let prefix = format!("vcpu.{vcpu}");
        out.fixed(format!("{prefix}.state"), Value::Int(1));
        out.counter(format!("{prefix}.time"), 100_000_000);
        out.counter(format!("{prefix}.wait"), 5_000);
        out.counter(format!("{prefix}.delay"), 3_000_000);
        if template.vcpu_halted {
            out.fixed(format!("{prefix}.halted"), Value::Boolean(vcpu % 2 == 1));
        }
        for name in names(&KVM_VCPU_STATS, template.kvm_vcpu_stats) {
            kvm(&prefix, name, out);
        }
    }
}

pub(super) fn vm(template: &Template, out: &mut Stats) {
    for name in names(&KVM_VM_STATS, template.kvm_vm_stats) {
        kvm("vm", name, out);
    }
}

fn names<'a>(all: &'a [&'a str], count: u32) -> impl Iterator<Item = &'a str> {
    all.iter().copied().take(usize::try_from(count).unwrap_or(usize::MAX))
}

fn kvm(prefix: &str, name: &str, out: &mut Stats) {
    let key = format!("{prefix}.{name}");
    match name.rsplit_once('.') {
        _ if name == "blocking.cur" || name == "guest_mode.cur" => {
            out.fixed(key, Value::Boolean(name == "guest_mode.cur"));
        }
        Some((stem, "sum")) => out.counter(key, if stem.ends_with("_ns") { 700_000 } else { 120 }),
        _ => out.gauge(key, 64),
    }
}
