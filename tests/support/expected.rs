//! What each numeric key of libvirt must become, written down a second time: without a look at the tables.

use super::reading::Values;

/// What a scrape must hold for one key.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// A sample of this name with these labels; its value is that of the key times the factor.
    Sample(String, Vec<(&'static str, String)>, f64),
    /// A sample of this name with these labels and the value 1.
    One(String, Vec<(&'static str, String)>),
    /// No metric: the key is an index, a label, or a count of zero.
    Nothing,
    /// The key is not in this list.
    Unknown,
}

const NANO: f64 = 1e-9;
const KIBI: f64 = 1024.0;
const MEBI: f64 = 1_048_576.0;

/// What must come of `key` in a domain with these `values`.
pub fn expected(key: &str, values: &Values) -> Expected {
    let parts: Vec<&str> = key.split('.').collect();
    let text = |key: String| values.get(&key).cloned().unwrap_or_default();
    let value = values.get(key).map_or("", String::as_str);
    let active = !matches!(text("state.state".to_owned()).as_str(), "5" | "6");
    let plain = |name: &str, scale: f64| Expected::Sample(format!("libvirt_domain_{name}"), Vec::new(), scale);
    match parts.as_slice() {
        ["state", "state"] => {
            let names = ["nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended"];
            let name = value.parse().ok().and_then(|n: usize| names.get(n));
            let name = name.map_or("", |name| name);
            Expected::One("libvirt_domain_state".to_owned(), vec![("state", name.to_owned())])
        }
        ["state", "reason"] => Expected::One("libvirt_domain_state_reason_info".to_owned(), Vec::new()),
        // libvirtd's own CPU time.
        ["cpu", ..] if !active => Expected::Nothing,
        ["cpu", which @ ("time" | "user" | "system")] => plain(&format!("cpu_{which}_seconds_total"), NANO),
        ["cpu", "haltpoll", which, "time"] => plain(&format!("cpu_haltpoll_{which}_seconds_total"), NANO),
        ["cpu", "cache", "monitor", "count"] => plain("cpu_cache_monitors", 1.0),
        ["balloon", "last-update"] if value == "0" => Expected::Nothing,
        ["balloon", "last-update"] => plain("memory_last_update_timestamp_seconds", 1.0),
        ["balloon", which @ ("swap_in" | "swap_out")] => plain(&format!("memory_{which}_bytes_total"), KIBI),
        ["balloon", which @ ("major_fault" | "minor_fault")] => plain(&format!("memory_{which}s_total"), 1.0),
        ["balloon", "hugetlb_pgalloc"] => plain("memory_hugetlb_allocations_total", 1.0),
        ["balloon", "hugetlb_pgfail"] => plain("memory_hugetlb_allocation_failures_total", 1.0),
        ["balloon", which] => plain(&format!("memory_{which}_bytes"), KIBI),
        ["vcpu", which @ ("current" | "maximum")] => plain(&format!("vcpus_{which}"), 1.0),
        ["vcpu", n, rest @ ..] => {
            let vcpu = vec![("vcpu", (*n).to_owned())];
            match rest {
                [which @ ("state" | "halted")] => Expected::Sample(format!("libvirt_domain_vcpu_{which}"), vcpu, 1.0),
                [which @ ("time" | "wait" | "delay")] => {
                    Expected::Sample(format!("libvirt_domain_vcpu_{which}_seconds_total"), vcpu, NANO)
                }
                [name, which] => kvm("vcpu_kvm", name, which, vcpu),
                _ => Expected::Unknown,
            }
        }
        ["vm", name, which] => kvm("kvm", name, which, Vec::new()),
        ["net", "count"] => plain("interfaces", 1.0),
        ["net", n, direction, what] => {
            let direction = if *direction == "rx" { "receive" } else { "transmit" };
            let what = match *what {
                "pkts" => "packets",
                "errs" => "errors",
                "drop" => "drops",
                other => other,
            };
            Expected::Sample(
                format!("libvirt_domain_interface_{direction}_{what}_total"),
                vec![("interface", text(format!("net.{n}.name")))],
                1.0,
            )
        }
        // With the backing chain, the number of layers; else, that of disks.
        ["block", "count"] => plain("block_devices", 1.0),
        ["block", n, rest @ ..] => block(n, rest, values),
        ["perf", which @ ("cpu_clock" | "task_clock")] => plain(&format!("perf_{which}_seconds_total"), NANO),
        ["perf", "cmt"] => plain("perf_cache_occupancy_bytes", 1.0),
        ["perf", "mbmt"] => plain("perf_memory_bandwidth_bytes_per_second", 1.0),
        ["perf", "mbml"] => plain("perf_memory_bandwidth_local_bytes_per_second", 1.0),
        ["perf", "page_faults_min"] => plain("perf_page_faults_minor_total", 1.0),
        ["perf", "page_faults_maj"] => plain("perf_page_faults_major_total", 1.0),
        ["perf", event] => plain(&format!("perf_{event}_total"), 1.0),
        ["iothread", "count"] => plain("iothreads", 1.0),
        ["iothread", id, what] => {
            let (name, scale) = match *what {
                "poll-max-ns" => ("poll_max_seconds", NANO),
                "poll-grow" => ("poll_grow", 1.0),
                "poll-shrink" => ("poll_shrink", 1.0),
                "poll-weight" => ("poll_weight", 1.0),
                _ => return Expected::Unknown,
            };
            let name = format!("libvirt_domain_iothread_{name}");
            Expected::Sample(name, vec![("iothread", (*id).to_owned())], scale)
        }
        ["dirtyrate", "calc_status"] => {
            let status = value.parse().ok().and_then(|n: usize| ["unstarted", "measuring", "measured"].get(n));
            let labels = vec![("status", status.map_or("", |status| status).to_owned())];
            Expected::One("libvirt_domain_dirtyrate_calc_status".to_owned(), labels)
        }
        ["dirtyrate", "calc_start_time"] => Expected::Nothing,
        ["dirtyrate", "calc_period"] => plain("dirtyrate_calc_period_seconds", 1.0),
        ["dirtyrate", "megabytes_per_second"] => plain("dirtyrate_bytes_per_second", MEBI),
        _ => Expected::Unknown,
    }
}

/// KVM's own statistics are named by rule.
fn kvm(prefix: &str, name: &str, which: &str, labels: Vec<(&'static str, String)>) -> Expected {
    let (name, scale) = match name.strip_suffix("_ns") {
        Some(stem) => (format!("{stem}_seconds"), NANO),
        None => (name.to_owned(), 1.0),
    };
    let suffix = match which {
        "sum" => "_total",
        "cur" => "",
        "max" => "_max",
        _ => return Expected::Unknown,
    };
    Expected::Sample(format!("libvirt_domain_{prefix}_{name}{suffix}"), labels, scale)
}

fn block(n: &str, rest: &[&str], values: &Values) -> Expected {
    let text = |key: String| values.get(&key).cloned().unwrap_or_default();
    let device = text(format!("block.{n}.name"));
    let sample = |name: String, scale: f64| {
        Expected::Sample(format!("libvirt_domain_block_{name}"), vec![("device", device.clone())], scale)
    };
    // Layers of a chain follow their disk, under its name.
    let lower =
        n.parse::<usize>().is_ok_and(|n| n > 0 && values.get(&format!("block.{}.name", n - 1)) == Some(&device));
    let backing = |name: &str| {
        let index = text(format!("block.{n}.backingIndex"));
        Expected::Sample(
            format!("libvirt_domain_block_backing_{name}"),
            vec![("device", device.clone()), ("backing_index", index)],
            1.0,
        )
    };
    match rest {
        ["backingIndex"] => Expected::Nothing,
        [what @ ("allocation" | "capacity" | "physical" | "threshold")] if lower => backing(&format!("{what}_bytes")),
        [what @ ("allocation" | "capacity" | "physical" | "threshold")] => sample(format!("{what}_bytes"), 1.0),
        ["fl", "reqs"] => sample("flush_requests_total".to_owned(), 1.0),
        ["fl", "times"] => sample("flush_time_seconds_total".to_owned(), NANO),
        [direction @ ("rd" | "wr"), what] => {
            let direction = long(direction);
            match *what {
                "reqs" => sample(format!("{direction}_requests_total"), 1.0),
                "bytes" => sample(format!("{direction}_bytes_total"), 1.0),
                "times" => sample(format!("{direction}_time_seconds_total"), NANO),
                _ => Expected::Unknown,
            }
        }
        ["limits", what] => {
            let unit = if what.starts_with("iov") { "" } else { "_bytes" };
            if lower {
                backing(&format!("backend_limit_{what}{unit}"))
            } else {
                sample(format!("backend_limit_{what}{unit}"), 1.0)
            }
        }
        ["timed_group", "count"] => sample("timed_groups".to_owned(), 1.0),
        ["timed_group", _, "interval"] => Expected::Nothing,
        ["timed_group", m, what] => {
            let interval = text(format!("block.{n}.timed_group.{m}.interval"));
            let labels = vec![("device", device.clone()), ("interval", interval)];
            if let Some(direction) = what.strip_suffix("_queue_depth_avg") {
                let name = format!("libvirt_domain_block_{}_queue_depth_avg", long(direction));
                return Expected::Sample(name, labels, 1.0);
            }
            let Some((direction, which)) = what.split_once("_latency_") else {
                return Expected::Unknown;
            };
            let direction = long(direction);
            let name = format!("libvirt_domain_block_{direction}_latency_{which}_seconds");
            Expected::Sample(name, labels, NANO)
        }
        // The bins are compared as a whole.
        ["latency_histogram", _, "bin", ..] => Expected::Nothing,
        _ => Expected::Unknown,
    }
}

fn long(direction: &str) -> &str {
    match direction {
        "rd" => "read",
        "wr" => "write",
        other => other,
    }
}
