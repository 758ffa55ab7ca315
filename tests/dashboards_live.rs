//! Every panel, variable and rule on a real Prometheus that scrapes exporters on real guests.
//!
//! Guests on this machine's libvirt and on that of Debian sid, whose disks have latency histograms (`support/scene.rs`); a
//! Prometheus with the recording rules and alerts loaded; after some time each panel has to have data, all of it finite, no two
//! lines of one name. What no guest of the lab can do (hardware counters, a crash) comes from the fake daemon, through the same
//! exporter. What the machine cannot do at all is listed with the reason (`NOWHERE`).
//!
//! Each exporter is scraped twice, by one job and by the two of examples/prometheus.yml, as two hosts: every expression of the
//! dashboards, rules and alerts has to have the same result for both.
//!
//! `make dashboards-png` runs a command (DASHBOARDS_THEN) while this Prometheus runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code
)]

#[path = "support/beside.rs"]
mod beside;
#[path = "support/dashboards_prometheus.rs"]
mod dashboards_prometheus;
#[path = "support/grafana.rs"]
mod grafana;
#[path = "support/holes.rs"]
mod holes;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/layouts.rs"]
mod layouts;
#[path = "support/scene.rs"]
mod scene;
#[path = "support/special.rs"]
mod special;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use beside::beside;
use dashboards_prometheus::{Prometheus, Series};
use domstats_exporter::metrics_doc;
use fake_libvirtd::domain::Job;
use fake_libvirtd::params::Value;
use fake_libvirtd::{Clock, Event, FakeLibvirtd, Scenario, Template};
use grafana::{Query, annotations, interpolate, panels, queries, text, variables};
use holes::Hole;
use lab::{ALL_GROUPS, Exporter, Lab, need};
use scene::Scene;

/// How many seconds Prometheus scrapes before it is asked; DASHBOARDS_SECONDS overrides, for pictures of more.
const SCRAPED: u64 = 90;
/// What `$__rate_interval` is at a scrape interval of three seconds, which the slow job has: four of them, and a little for a busy
/// machine.
const RATE_INTERVAL: &str = "16s";
/// How long Prometheus scrapes guests in trouble, which the other client would wait for.
const TROUBLED: Duration = Duration::from_secs(40);
/// The hosts that one job scrapes, and the same ones as two jobs scrape them.
const ONE_JOB: &str = "compute.+";
const TWO_JOBS: &str = "two:compute.+";
/// The hosts: three of real guests, one of the fake daemon.
const HOSTS: [&str; 4] = ["compute-1", "compute-2", "compute-3", "compute-9"];
/// Those of real guests.
const REAL: &str = "compute-[123]";

/// Parts of expressions whose values depend on when and for what a job asks, and why. Their lines are compared all the same.
const OF_EACH_SCRAPE: &[(&str, &str)] = &[
    ("_collect_duration_", "less is faster"),
    ("_probe_duration_", "likewise"),
    ("scrape_duration_", "likewise"),
    ("_batches", "fewer calls"),
    ("_last_collect_timestamp_", "a time since the last scrape"),
    ("_read_time_seconds_total", "a request takes longer at one moment than at another"),
    ("_write_time_seconds_total", "likewise"),
    ("_block_time:rate5m", "likewise"),
    ("_latency_seconds:", "likewise"),
    ("_latency_avg_", "of the second before the scrape"),
    ("_latency_max_", "likewise"),
    ("_queue_depth_", "likewise"),
    ("_stats_missing", "on a busy machine each scrape may lack others"),
    ("_probe_success", "likewise"),
];

/// What is not compared at all: on a busy machine a job's scrapes come too late, and the host counts as down.
const WHETHER_SCRAPED: &str = "job:libvirt_up:group";

/// An answer to `virsh domstats` that takes longer than this one tells of a machine that is busy.
const AT_ONCE: Duration = Duration::from_millis(500);
/// After a fifth of the time that Prometheus gives, the exporter looks into a guest that has not answered. If it is held to be frozen,
/// scrapes say so, until one finds that it is not.
const LOOKED_INTO: Duration = Duration::from_millis(250);
const HELD_TO_BE_FROZEN: Duration = Duration::from_secs(4);

/// Parts of the names of metrics that no guest of the lab has, and why. Queries that ask for one of them have their data
/// from the fake daemon; all others have to have it from real guests.
const RARE: &[(&str, &str)] = &[
    ("_memory_usable", "a boot sector has no balloon driver"),
    ("_memory_available", "likewise"),
    ("_memory_unused", "likewise"),
    ("_memory_swap", "likewise"),
    ("_faults_total", "likewise"),
    ("_hugetlb_", "likewise"),
    ("_memory_last_update", "likewise"),
    ("_block_flush_", "a boot sector does not flush"),
    ("_perf_", "hardware counters need hardware, and a right to it"),
    ("_monitor", "needs resctrl"),
    ("_cache_occupancy", "needs resctrl"),
    ("_memory_bandwidth", "needs resctrl"),
    ("_core_energy", "needs resctrl"),
    ("_kvm_", "needs KVM"),
    ("_vcpu_halted", "QEMU does not say so in the fast query that libvirt makes"),
    ("_haltpoll_", "needs KVM"),
    ("_dirtyrate_", "needs a measurement"),
    ("_unmapped_stat", "needs a libvirt of the future"),
    ("_events_", "needs events"),
    ("_io_errors_", "needs broken storage"),
    ("_crashes_", "needs a crash"),
    ("_agent_", "needs a guest agent"),
    ("_domain_job_", "needs a migration"),
    ("_quarantined", "on a busy machine the scrapes of a host with a frozen guest may come too late for Prometheus"),
    ("_quota_", "needs a quota"),
    ("_quota:ratio", "likewise"),
    ("_throttle_", "needs a throttle"),
    ("_throttle:ratio", "likewise"),
    ("_resyncs_", "needs a daemon that goes away"),
    ("_reconnects_", "needs a daemon that goes away"),
    ("_collect_failures_", "likewise"),
];

/// Parts of expressions that have no data on some machines, and why.
const NOWHERE: &[(&str, &str)] = &[
    ("_cgroup_", "needs control groups with all controllers"),
    ("_pressure_", "needs control groups of version 2, in a kernel with pressure stall information"),
    ("_hugepages", "no huge pages are set aside"),
    ("_guest_", "needs a guest with an agent"),
    ("_dhcp_leases", "needs a network that is active"),
    ("_pool_events_", "needs a storage pool that changes"),
    ("_network_events_", "needs a network that changes"),
    ("_thin_image:ratio", "no image is on a device of the host"),
    ("path=~\"/dev/.+\"", "likewise"),
    ("label_replace((min without (job) (up{", "no host is down"),
    ("state!=\"running\"", "no pool is down"),
    ("reason=\"ioerror\"", "needs broken storage"),
    ("reason=~\"panicked|crashed\"", "needs a crash that is left as it is"),
    ("_job_disk_", "a migration that transfers no disk"),
    ("_job_remaining_", "libvirt cannot tell it of a migration"),
    ("_jobs_total", "needs a job that ends"),
    ("_checkpoint_", "needs a checkpoint"),
    ("_probe_success", "no probe fails"),
];

/// Likewise, of the guests of KubeVirt.
const NOT_OF_PODS: &[(&str, &str)] = &[
    ("_memory_usable:ratio", "a boot sector has no balloon driver"),
    ("_quota:ratio", "no virtual machine has a limit"),
    ("_throttle:ratio", "likewise"),
    ("_domain_job_", "none migrates"),
    ("_quarantined", "none freezes"),
    ("_stats_complete", "likewise"),
    ("reason!~", "none is paused"),
];

/// Why an expression may have no data.
fn nowhere_for(expression: &str) -> Option<&'static str> {
    let of_pods = NOT_OF_PODS.iter().filter(|_| expression.contains("kubevirt_namespace=~"));
    let of_projects = [("_domain_job_", "no guest of a project migrates"), ("reason!~", "none is paused")].iter();
    let of_projects = of_projects.filter(|_| expression.contains("project_name=~"));
    NOWHERE
        .iter()
        .chain(of_pods)
        .chain(of_projects)
        .find_map(|(part, reason)| expression.contains(part).then_some(*reason))
}

#[test]
fn every_panel_and_variable_has_data() {
    need("prometheus", "prometheus").unwrap();
    let scene = Scene::start();
    let fake = rare_daemon();
    let daemons = [&scene.first.uri_ro, &scene.second.uri_ro, &scene.third.uri_ro, &fake.uri()];
    let exporters = daemons.map(|uri| serve(uri));
    let targets = std::array::from_fn::<_, 4, _>(|index| (HOSTS[index], exporters[index].address));
    // On a busy machine a guest takes long to boot, and longer while it is scraped.
    scene.second.wait_for_disk_reads(&scene.timed).unwrap();
    let prometheus = Prometheus::start(scene.first.folder(), &targets);
    // Another client polls the same daemons all the time.
    let [of_first, of_second] = [&scene.first, &scene.second].map(|lab| Polling { lab, slow: Mutex::default() });
    beside(
        || of_first.domstats(),
        || beside(|| of_second.domstats(), || what_happens(&prometheus, &scene.first, &fake)),
    );
    let mut wrong = holes_in_gauges(&prometheus, HOSTS[0], of_first);
    wrong.extend(holes_in_gauges(&prometheus, HOSTS[1], of_second));
    wrong.extend(prometheus.rules_in_error());
    scene.troubles();
    std::thread::sleep(TROUBLED);
    let mut nowhere = BTreeMap::new();
    let mut rare = 0;
    let mut asked = 0;
    for dashboard in dashboards::dashboards() {
        for panel in panels(&dashboard) {
            let mut names = BTreeMap::new();
            let found = queries(&dashboard, panel).into_iter().map(|query| {
                // Whether a value is too high depends on the machine.
                let expression = without_limits(&query.expression);
                let of = |hosts| prometheus.panel(&fill(&expression, hosts), query.instant);
                let (from_real, mut everything) = (of(REAL).unwrap_or_default(), of(ONE_JOB));
                // On a busy machine the last scrape may lack it.
                let is_single = panel["type"] != "stat" && nowhere_for(&query.expression).is_none();
                if is_single && everything.as_ref().is_ok_and(Vec::is_empty) {
                    std::thread::sleep(Duration::from_secs(6));
                    everything = of(ONE_JOB);
                }
                wrong.extend(everything.as_ref().err().map(|error| format!("{}: {error}", query.place)));
                (query, from_real, everything.unwrap_or_default())
            });
            let mut found: Vec<_> = found.collect();
            // One number may be there in place of another.
            if panel["type"] == "stat" && found.iter().any(|(.., everything)| !everything.is_empty()) {
                found.retain(|(.., everything)| !everything.is_empty());
            }
            for (query, from_real, everything) in found {
                asked += 1;
                let is_rare = RARE.iter().any(|(part, _)| query.expression.contains(part));
                rare += usize::from(from_real.is_empty());
                if from_real.is_empty() && !is_rare && nowhere_for(&query.expression).is_none() {
                    wrong.push(format!("{}: no data of real guests: {}", query.place, query.expression));
                }
                if let Some(reason) = nowhere_for(&query.expression).filter(|_| everything.is_empty()) {
                    nowhere.entry(query.place.clone()).or_insert(reason);
                    continue;
                }
                wrong.extend(faults(&query, &everything, &mut names));
            }
        }
        for (series, label) in variables(&dashboard) {
            let values = prometheus.label_values(&fill(&series, ONE_JOB), &label);
            if values.is_empty() {
                wrong.push(format!("{}: the variable {label} has no values", text(&dashboard["title"])));
            }
        }
        for (name, expression) in annotations(&dashboard) {
            if prometheus.range(&fill(&expression, ONE_JOB)).is_ok_and(|series| series.is_empty()) {
                wrong.push(format!("{}: the annotation {name} marks nothing", text(&dashboard["title"])));
            }
        }
    }
    println!("{asked} queries, {rare} of them without data of real guests");
    nowhere.iter().for_each(|(place, reason)| println!("without data: {place}: {reason}"));
    wrong.extend(layouts_differ(&prometheus));

    if let Some(command) = std::env::var_os("DASHBOARDS_THEN") {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).env("PROMETHEUS", format!("http://{}", prometheus.address));
        assert!(shell.status().unwrap().success(), "the command of DASHBOARDS_THEN failed");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All that happens while Prometheus scrapes.
fn what_happens(prometheus: &Prometheus, machine: &Lab, fake: &FakeLibvirtd) {
    // A domain freezes while it is scraped, as they do, another one starts, and a daemon is away for a few seconds.
    fake.faults().hang_domain("frozen-3");
    prometheus.scrape_for(Duration::from_secs(15));
    machine.guests(&["tcg"]).unwrap();
    prometheus.scrape_for(Duration::from_secs(25));
    fake.kill();
    prometheus.scrape_for(Duration::from_secs(33));
    fake.revive().unwrap();
    for at in [50, 60, 70, 80] {
        prometheus.scrape_for(Duration::from_secs(at));
        misfortunes(fake);
    }
    let seconds = std::env::var("DASHBOARDS_SECONDS").ok().and_then(|text| text.parse().ok());
    prometheus.scrape_for(Duration::from_secs(seconds.unwrap_or(SCRAPED)));
}

/// Another client of a daemon.
struct Polling<'a> {
    lab: &'a Lab,
    /// The beginning, since 1970, and the end of its calls that took long.
    slow: Mutex<Vec<[Duration; 2]>>,
}

impl Polling<'_> {
    fn domstats(&self) {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let started = now();
        self.lab.virsh(&["domstats"]).unwrap();
        let ended = now();
        if ended - started > LOOKED_INTO {
            self.slow.lock().unwrap().push([started, ended]);
        }
    }
}

/// The gauges of an exporter's guests that lack a sample of a scrape, in every job.
///
/// Guests, daemon or machine may have been too slow for the scrape: then the other client had to wait as well.
fn holes_in_gauges(prometheus: &Prometheus, host: &str, polling: Polling) -> Vec<String> {
    let is_judged = |kind: &str, name: &str| kind == "gauge" || name == holes::STATE_REASON;
    let all = metrics_doc::all().into_iter().filter(|metric| is_judged(metric.kind, &metric.name));
    let names: BTreeSet<String> = all.map(|metric| metric.name).collect();
    let of_exporter = format!("instance=~\"(two:)?{host}:9177\"");
    // Scrapes first: one more may come before the gauges are read.
    let scrapes = prometheus.samples(&format!("up{{{of_exporter}}}"));
    let mut gauges = prometheus.samples(&format!("{{__name__=~\"libvirt_domain_.+\",{of_exporter}}}"));
    gauges.retain(|(labels, _)| names.contains(&labels["__name__"]));
    let slow = polling.slow.into_inner().unwrap();
    let is_busy = |at: Duration, before: Duration, least: Duration| {
        let (started, ended) = (at.saturating_sub(before), at + Duration::from_secs(2));
        slow.iter().any(|[from, until]| *until - *from > least && *from < ended && started < *until)
    };
    let was_slow = |at| is_busy(at, Duration::from_secs(1), AT_ONCE);
    let all: Vec<Duration> = scrapes.iter().flat_map(|(_, samples)| samples.keys().copied()).collect();
    let judged = all.iter().filter(|at| !was_slow(**at)).count();
    println!("{host}: {} gauges, {judged} of {} scrapes while virsh had its answers at once", gauges.len(), all.len());
    assert!(gauges.len() > 100 && scrapes.len() == 3, "{} gauges, {} jobs", gauges.len(), scrapes.len());
    let mut holes = holes::holes(&gauges, &scrapes);
    let silent = holes.iter().filter(|hole| !hole.is_marked).count();
    println!("{host}: {} holes, {silent} of them not marked, on a busy machine, too", holes.len());
    let is_excused = |hole: &Hole| hole.is_marked && is_busy(hole.at, HELD_TO_BE_FROZEN, LOOKED_INTO);
    holes.retain(|hole| !was_slow(hole.at) && !is_excused(hole));
    holes.into_iter().map(|hole| hole.text).collect()
}

/// The exporter with everything turned on; no receiver accepts its pushes.
fn serve(uri: &str) -> Exporter {
    let groups =
        format!("{}, pressure, limits, job, snapshot, guest, host, pool, network", ALL_GROUPS.replace(',', ", "));
    let config = format!(
        "collection: {{backing_chain: true, inactive_domains: all, workers: 2, groups: [{groups}]}}\notlp: {{enabled: true, endpoint: 'http://127.0.0.1:9', interval: 5s}}\n"
    );
    Exporter::configured(uri, &config, &[]).unwrap()
}

/// What happens to domains, and does not to the lab's.
fn misfortunes(fake: &FakeLibvirtd) {
    let (dev_alias, src_path) = ("virtio-disk0".to_owned(), "/var/lib/libvirt/images/rare-0-vda.qcow2".to_owned());
    let events = [
        Event::Reboot,
        // Crashed: panicked.
        Event::lifecycle(8, 0),
        Event::IoErrorReason { src_path, dev_alias, action: 1, reason: "enospc".to_owned() },
        Event::BlockThreshold { dev: "vda".to_owned(), path: None, threshold: 1 << 30, excess: 4096 },
    ];
    for event in events {
        fake.events().send("rare-0", event).unwrap();
    }
}

/// Two domains with every statistic there is, one that will freeze, and an unknown key.
fn rare_daemon() -> FakeLibvirtd {
    let future = "domain 99 3b0c0f0e-9a53-4c0d-8f47-0d1e2f3a4b5c \"future\"\nstate.state int 1\nstate.reason int 1\n\
        balloon.rss ullong 1024\nballoon.future ullong 5\n";
    let scenario = Scenario::builder()
        .named_domains("rare-{}", 2, Template::everything())
        .named_domains("frozen-{}", 2, Template::medium())
        .params(future)
        .unwrap()
        .job_wait(Duration::from_millis(500))
        .clock(Clock::Time)
        .build();
    let daemon = FakeLibvirtd::start(scenario).unwrap();
    let rates = ["data_remaining", "memory_bps", "memory_dirty_rate", "memory_page_size"];
    let params = rates.map(|key| (key.to_owned(), Value::ULLong(4096))).into_iter();
    let params = params.chain([("operation".to_owned(), Value::Int(5))]).collect();
    daemon.domains().update("rare-0", |domain| domain.job = Some(Job { kind: 2, params })).unwrap();
    daemon
        .domains()
        .update("rare-1", |domain| domain.xml = Some(limited(&domain.name, &domain.uuid.to_string())))
        .unwrap();
    daemon
}

/// The definition of a domain with a CPU quota and a throttled disk.
fn limited(name: &str, uuid: &str) -> String {
    let throttles: String = ["total", "read", "write"]
        .iter()
        .map(|of| format!("<{of}_bytes_sec>1000000</{of}_bytes_sec><{of}_iops_sec>100</{of}_iops_sec>"))
        .collect();
    format!(
        "<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid><cputune><period>100000</period><quota>50000</quota>\
         <global_period>100000</global_period><global_quota>150000</global_quota></cputune><devices><disk type='file'>\
         <source file='/var/lib/libvirt/images/{name}-vda.qcow2'/><target dev='vda'/><iotune>{throttles}</iotune></disk>\
         </devices></domain>"
    )
}

/// An expression with its variables and ranges; with one line for itself, so that others are left for `others`.
fn fill(expression: &str, instance: &str) -> String {
    let values = [
        ("instance", instance),
        ("domain", ".+"),
        ("project", ".+"),
        ("flavor", ".+"),
        ("namespace", ".+"),
        ("top", "1"),
    ];
    interpolate(&expression.replace("$__rate_interval", RATE_INTERVAL), &values)
}

/// An expression that finds everything, where it is to find what is above a limit.
fn without_limits(expression: &str) -> String {
    regex::Regex::new(r" > (0\.\d+|[1-9]\d*(\.\d+)?)").unwrap().replace_all(expression, "").into_owned()
}

/// What is wrong with the data of a query; `names` are those of the panel's other lines.
fn faults(query: &Query, series: &[Series], names: &mut BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    if series.is_empty() {
        wrong.push(format!("{}: no data: {}", query.place, query.expression));
    }
    for (labels, values) in series {
        if values.iter().any(|value| !value.is_finite()) {
            wrong.push(format!("{}: {labels:?} has values that are no numbers: {}", query.place, query.expression));
        }
        if query.table.is_none() {
            // It is chosen above the panels of these which hosts they are about: a guest that migrates is on two.
            let of_a_host = ["Libvirt / Host", "Libvirt / Domain"].iter().any(|title| query.place.starts_with(title));
            let host = labels.get("instance").filter(|_| of_a_host).cloned().unwrap_or_default();
            let legend = format!("{host} {}", query.legend);
            let name =
                labels.iter().fold(legend, |name, (label, value)| name.replace(&format!("{{{{{label}}}}}"), value));
            // A line of the same query that ended before this one began is the same line.
            if let Some(other) = names.insert(name.clone(), format!("{labels:?} of {}", query.expression)) {
                wrong.push(format!(
                    "{}: {name} is the name of {labels:?} of {} and of {other}",
                    query.place, query.expression
                ));
            }
        }
    }
    wrong
}

/// The expressions whose results are not the same for hosts in one job and in two. What two jobs see a little later may come
/// yet.
fn layouts_differ(prometheus: &Prometheus) -> Vec<String> {
    let rules = dashboards::rules::groups().into_iter().flat_map(|group| group.rules);
    let recorded = rules.filter_map(|rule| rule.record).map(|name| format!("{name}{{instance=~\"$instance\"}}"));
    let alerts = dashboards::alerts::groups().into_iter().flat_map(|group| group.rules).map(|rule| rule.expr);
    let all = dashboards::dashboards();
    let shown = all.iter().flat_map(|dashboard| {
        let of_panels = panels(dashboard).into_iter().flat_map(|panel| queries(dashboard, panel));
        let of_panels = of_panels.map(|query| query.expression);
        of_panels.chain(annotations(dashboard).into_iter().map(|(_, expression)| expression)).collect::<Vec<_>>()
    });
    let all = recorded.chain(alerts).chain(shown).filter(|expression| !expression.contains(WHETHER_SCRAPED));
    let mut expressions: BTreeSet<String> = all.collect();
    let mut wrong = Vec::new();
    for _ in 0..3 {
        wrong.clear();
        expressions.retain(|expression| {
            let found = differs(prometheus, expression);
            wrong.extend(found.iter().map(|difference| format!("{expression}: {difference}")));
            !found.is_empty()
        });
        if expressions.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_secs(15));
    }
    wrong
}

fn differs(prometheus: &Prometheus, expression: &str) -> Vec<String> {
    // The ten largest of six busy guests are another six each moment.
    let expression = without_limits(&expression.replace("($top,", "(1000,"));
    // What a guest that moves in has counted before the first scrape of a job is in no rate of that job.
    let is = |of: &BTreeMap<_, String>, label, start| of.get(label).is_some_and(|value| value.starts_with(start));
    let of = |layout: &str| {
        let lines = prometheus.lines(&fill(&expression, layout), layout).into_iter();
        lines.filter(|(of, _)| !(is(of, "domain", "mover") && is(of, "instance", "compute-3"))).collect()
    };
    let values = !OF_EACH_SCRAPE.iter().any(|(part, _)| expression.contains(part));
    layouts::differences(&of(ONE_JOB), &of(TWO_JOBS), values)
}
