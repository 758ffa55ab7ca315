//! What a real guest may use, as the exporter says it beside virsh; and what libvirt warns of it.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]
#![allow(unreachable_pub, missing_docs, dead_code, missing_debug_implementations)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/reading.rs"]
mod reading;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lab::{Exporter, Lab, Suite, get};
use reading::{Sample, parse_exposition};

/// More than a busy machine takes for anything here.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn this_machines_libvirt_limits_a_guest() {
    limit(Suite::Machine);
}

#[test]
fn debian_sids_libvirt_limits_a_guest() {
    limit(Suite::Debian("sid"));
}

/// A guest, and an exporter.
struct Scene<'l> {
    lab: &'l Lab,
    guest: String,
    exporter: Exporter,
}

impl<'l> Scene<'l> {
    /// With an exporter that reads definitions again at this interval.
    fn new(lab: &'l Lab, guest: &str, refresh: &str) -> Self {
        let text = format!("metadata: {{refresh_interval: {refresh}}}\ncollection: {{deadline: 60s}}\n");
        let exporter = Exporter::configured(&lab.uri_ro, &text, &[]).unwrap();
        Self { lab, guest: guest.to_owned(), exporter }
    }

    /// Runs virsh; G is the guest's name.
    fn virsh(&self, line: &str) -> String {
        let words: Vec<&str> =
            line.split(' ').map(|word| if word == "G" { self.guest.as_str() } else { word }).collect();
        self.lab.virsh(&words).unwrap_or_else(|error| panic!("{error}"))
    }

    fn samples(&self) -> Vec<Sample> {
        let samples = parse_exposition(&self.exporter.metrics("text/plain").unwrap()).unwrap();
        samples.into_iter().filter(|sample| sample.label("domain") == self.guest).collect()
    }

    /// The value of a metric without its prefix, with this value of this label.
    fn value(&self, name: &str, label: (&str, &str)) -> Option<f64> {
        let name = format!("libvirt_domain_{name}");
        let is_it = |sample: &&Sample| sample.name == name && (label.0.is_empty() || sample.label(label.0) == label.1);
        self.samples().iter().find(is_it).map(|sample| sample.value)
    }

    /// Waits for a value.
    fn expect(&self, name: &str, label: (&str, &str), expected: Option<f64>) {
        let deadline = Instant::now() + SOON;
        loop {
            let value = self.value(name, label);
            let is_near = |(one, other): (f64, f64)| (one - other).abs() <= other.abs() * 1e-9;
            if value.is_none() == expected.is_none() && value.zip(expected).is_none_or(is_near) {
                return;
            }
            assert!(Instant::now() < deadline, "{name}{label:?}: {value:?}, not {expected:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What virsh prints as `key : value`.
    fn told(&self, line: &str) -> BTreeMap<String, String> {
        let text = self.virsh(line);
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
    }

    /// Compares the metrics with what virsh prints: its key, the metric, and the factor between them.
    fn agree(&self, line: &str, label: (&str, &str), metrics: &[(&str, &str, f64)]) {
        let told = self.told(line);
        let mut limited = 0;
        for (key, metric, factor) in metrics {
            let number = told.get(*key).unwrap_or_else(|| panic!("no {key} in {told:?}")).parse::<f64>().ok();
            // A period alone limits nothing.
            let quota = key.strip_suffix("period").map(|of| told[&format!("{of}quota")].parse::<f64>().unwrap());
            let is_set = number.is_some_and(|number| number > 0.0) && quota.is_none_or(|quota| quota > 0.0);
            let expected = number.filter(|_| is_set).map(|number| number * factor);
            self.expect(metric, label, expected);
            limited += i32::from(expected.is_some());
            println!("{line}: {key}: {:?} {metric} {expected:?}", told[*key]);
        }
        assert!(limited > 0, "{line}: {told:?}");
    }
}

const SCHEDULER: &[(&str, &str, f64)] = &[
    ("cpu_shares", "cpu_shares", 1.0),
    ("vcpu_quota", "vcpu_quota_seconds", 1e-6),
    ("vcpu_period", "vcpu_period_seconds", 1e-6),
    ("emulator_quota", "emulator_quota_seconds", 1e-6),
    ("emulator_period", "emulator_period_seconds", 1e-6),
    ("global_quota", "cpu_quota_seconds", 1e-6),
    ("global_period", "cpu_period_seconds", 1e-6),
    ("iothread_quota", "iothread_quota_seconds", 1e-6),
    ("iothread_period", "iothread_period_seconds", 1e-6),
];

const DISK: &[(&str, &str, f64)] = &[
    ("total_bytes_sec", "block_throttle_total_bytes_per_second", 1.0),
    ("read_bytes_sec", "block_throttle_read_bytes_per_second", 1.0),
    ("write_bytes_sec", "block_throttle_write_bytes_per_second", 1.0),
    ("total_iops_sec", "block_throttle_total_requests_per_second", 1.0),
    ("read_iops_sec", "block_throttle_read_requests_per_second", 1.0),
    ("write_iops_sec", "block_throttle_write_requests_per_second", 1.0),
    ("total_bytes_sec_max", "block_throttle_total_burst_bytes_per_second", 1.0),
    ("read_bytes_sec_max", "block_throttle_read_burst_bytes_per_second", 1.0),
    ("write_bytes_sec_max", "block_throttle_write_burst_bytes_per_second", 1.0),
    ("total_iops_sec_max", "block_throttle_total_burst_requests_per_second", 1.0),
    ("read_iops_sec_max", "block_throttle_read_burst_requests_per_second", 1.0),
    ("write_iops_sec_max", "block_throttle_write_burst_requests_per_second", 1.0),
    ("total_bytes_sec_max_length", "block_throttle_total_bytes_burst_length_seconds", 1.0),
    ("read_bytes_sec_max_length", "block_throttle_read_bytes_burst_length_seconds", 1.0),
    ("write_bytes_sec_max_length", "block_throttle_write_bytes_burst_length_seconds", 1.0),
    ("total_iops_sec_max_length", "block_throttle_total_requests_burst_length_seconds", 1.0),
    ("read_iops_sec_max_length", "block_throttle_read_requests_burst_length_seconds", 1.0),
    ("write_iops_sec_max_length", "block_throttle_write_requests_burst_length_seconds", 1.0),
    ("size_iops_sec", "block_throttle_request_size_bytes", 1.0),
];

const MEMORY: &[(&str, &str, f64)] = &[
    ("hard_limit", "memory_hard_limit_bytes", 1024.0),
    ("soft_limit", "memory_soft_limit_bytes", 1024.0),
    ("swap_hard_limit", "memory_swap_hard_limit_bytes", 1024.0),
];

/// libvirt hands the rates on to tc in its kilobytes of 1000 bytes, and bursts in those of 1024.
const INTERFACE: &[(&str, &str, f64)] = &[
    ("inbound.average", "interface_receive_bandwidth_average_bytes_per_second", 1e3),
    ("inbound.peak", "interface_receive_bandwidth_peak_bytes_per_second", 1e3),
    ("inbound.burst", "interface_receive_bandwidth_burst_bytes", 1024.0),
    ("outbound.average", "interface_transmit_bandwidth_average_bytes_per_second", 1e3),
    ("outbound.peak", "interface_transmit_bandwidth_peak_bytes_per_second", 1e3),
    ("outbound.burst", "interface_transmit_bandwidth_burst_bytes", 1024.0),
];

fn limit(suite: Suite) {
    let lab = Lab::start(suite).unwrap();
    let guest = lab.guests(&["web"]).unwrap().remove(0);
    // Only an event has the definition read again.
    let scene = Scene::new(&lab, &guest, "1h");
    println!("{}", scene.virsh("version"));
    scene.expect("memory_hugepages", ("", ""), Some(0.0));
    let limits = get(scene.exporter.address, "/metrics?collect[]=limits", "text/plain").unwrap();
    for part in ["quota", "period", "throttle", "bandwidth", "affinity", "limit_", "weight", "shares"] {
        assert!(!limits.contains(part), "{part}: {limits}");
    }

    for setting in ["cpu_shares=2048", "vcpu_quota=50000", "global_period=200000", "global_quota=150000"] {
        scene.virsh(&format!("schedinfo G --live --set {setting}"));
    }
    scene.agree("schedinfo G", ("", ""), SCHEDULER);
    scene.virsh("schedinfo G --live --set vcpu_quota=-1");
    scene.agree("schedinfo G", ("", ""), SCHEDULER);

    let disk = ("device", "vda");
    scene.virsh(
        "blkdeviotune G vda --live --total-bytes-sec 20971520 --total-bytes-sec-max 41943040 --read-iops-sec 500 \
         --write-iops-sec 300 --read-iops-sec-max 700 --read-iops-sec-max-length 5 --size-iops-sec 65536 --group-name shared",
    );
    scene.agree("blkdeviotune G vda", disk, DISK);
    scene.expect("block_throttle_info", ("throttle_group", "shared"), Some(1.0));
    scene.virsh("blkdeviotune G vda --live --total-bytes-sec 0 --total-bytes-sec-max 0 --write-bytes-sec 1048576");
    scene.agree("blkdeviotune G vda", disk, DISK);

    scene.virsh("vcpupin G 0 0 --live");
    scene.expect("vcpu_affinity_cpus", ("vcpu", "0"), Some(1.0));
    assert_eq!(scene.value("vcpu_affinity_cpus", ("vcpu", "1")), None, "{}", scene.virsh("vcpupin G"));

    // What has no event is there at the next reading.
    let scene = Scene::new(&lab, &guest, "1s");
    scene.virsh("memtune G --live --hard-limit 2097152 --soft-limit 1048576");
    scene.agree("memtune G", ("", ""), MEMORY);
    scene.virsh("blkiotune G --live --weight 300");
    scene.agree("blkiotune G", ("", ""), &[("weight", "blkio_weight", 1.0)]);
    let list = scene.virsh("domiflist G");
    let nic = list.split_whitespace().next().unwrap();
    scene.expect("interface_link_up", ("interface", nic), Some(1.0));
    scene.virsh(&format!("domif-setlink G {nic} down"));
    scene.expect("interface_link_up", ("interface", nic), Some(0.0));
    scene.expect("block_info", ("device_type", "disk"), Some(1.0));

    let warned = || f64::from(u16::try_from(scene.virsh("dominfo G").matches("tainted: ").count()).unwrap());
    let before = warned();
    scene.expect("messages", ("kind", "tainting"), Some(before));
    scene.virsh("qemu-monitor-command G --hmp info name");
    assert!(warned() > before);
    scene.expect("messages", ("kind", "tainting"), Some(warned()));

    // A kernel without the queueing disciplines that libvirt sets up takes the definition, and no running guest with it.
    scene.virsh("destroy G");
    scene.virsh(&format!("domiftune G {nic} --config --inbound 1000,5000,1024 --outbound 128,256,256"));
    scene.agree(&format!("domiftune G {nic} --config"), ("interface", nic), INTERFACE);
}
