//! What a scrape costs real guests: their CPU times come from the host's files, agree with libvirt's, and interrupt no vCPU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(unreachable_pub, missing_docs, dead_code)]

#[path = "support/lab.rs"]
mod lab;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::{Exporter, Lab, Running, Suite, need, qemu, signal};

/// The samples of one scrape that are about CPU time.
type Samples = BTreeMap<String, f64>;

/// An exporter whose CPU times come from there.
fn serve(lab: &Lab, source: &str) -> Exporter {
    Exporter::configured(&lab.uri_ro, &format!("collection: {{cpu_source: {source}, deadline: 60s}}\n"), &[]).unwrap()
}

fn samples(exporter: &Exporter) -> Samples {
    let body = exporter.metrics("text/plain").unwrap();
    let is_meant = |line: &&str| line.starts_with("libvirt_domain_cpu_") || line.starts_with("libvirt_domain_vcpu");
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series.to_owned(), value.parse().ok()?))
    };
    body.lines().filter(is_meant).filter_map(sample).collect()
}

fn of<'s>(samples: &'s Samples, guest: &'s str) -> impl Iterator<Item = (&'s String, &'s f64)> {
    samples.iter().filter(move |(series, _)| series.contains(&format!("domain=\"{guest}\"")))
}

/// Whether the host's files are the source, or have agreed with libvirt just now: otherwise there are halt polling times.
fn is_from_host(samples: &Samples, guest: &str) -> bool {
    let mut own = of(samples, guest).peekable();
    own.peek().is_some() && !own.any(|(series, _)| series.contains("haltpoll"))
}

/// Scrapes until the guests' values come from the host's files.
fn from_host(exporter: &Exporter, guests: &[String]) -> Samples {
    let began = Instant::now();
    loop {
        let samples = samples(exporter);
        if guests.iter().all(|guest| is_from_host(&samples, guest)) {
            return samples;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "still from libvirt: {samples:#?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Scrapes of one guest's values by libvirt, by the host and by libvirt again.
struct Between {
    before: Samples,
    host: Samples,
    after: Samples,
}

/// The values of one exporter are between those of the other before and after, and the series are the same.
fn agree(libvirt: &Exporter, host: &Exporter, guests: &[String]) -> Between {
    let before = samples(libvirt);
    let host = from_host(host, guests);
    let after = samples(libvirt);
    let without_polling =
        |samples: &Samples| samples.keys().filter(|series| !series.contains("haltpoll")).cloned().collect::<Vec<_>>();
    assert_eq!(without_polling(&host), without_polling(&after), "the same series");
    for (series, value) in &host {
        // libvirt rounds to ticks of 10 ms.
        let slack = if series.contains("_seconds_") { 0.021 } else { 0.0 };
        let (before, after) = (before[series], after[series]);
        let is_between = before - slack <= *value && *value <= after + slack;
        assert!(is_between, "{series}: {before} then {value} then {after}");
    }
    Between { before, host, after }
}

#[test]
fn the_hosts_files_and_libvirt_agree_about_running_guests() {
    agree_about(&["web", "sparse", "tcg", "linux"], Duration::from_secs(30));
}

#[test]
#[ignore = "ten guests are more than a machine with other work has CPU for"]
fn the_hosts_files_and_libvirt_agree_about_ten_guests() {
    let guests = ["web", "sparse", "tcg", "linux", "chain", "timed", "odd2", "mover", "mover2", "mover3"];
    agree_about(&guests, Duration::from_secs(60));
}

#[test]
fn the_hosts_files_and_libvirt_agree_where_a_guest_arrives() {
    let [here, there] = [(); 2].map(|()| Lab::start(Suite::Machine).unwrap());
    if here.uri.contains(":///session") {
        eprintln!("SKIPPED: live migration needs a system daemon, and that root and the right to mount");
        return;
    }
    let guest = here.guests(&["mover"]).unwrap();
    let [source, target] = [&here, &there].map(|lab| ["libvirt", "auto"].map(|from| serve(lab, from)));
    agree(&source[0], &source[1], &guest);
    here.virsh(&["migrate", "--live", "--unsafe", &guest[0], &there.uri, "tcp://127.0.0.1"]).unwrap();
    let arrived = agree(&target[0], &target[1], &guest);
    assert!(!arrived.host.is_empty() && of(&samples(&source[1]), &guest[0]).count() == 0);
}

/// Both sources are watched for so long. The first and the fourth of the guests are `web` and `linux`.
fn agree_about(guests: &[&str], watched: Duration) {
    let lab = Lab::start(Suite::Machine).unwrap();
    let guests = lab.guests(guests).unwrap();
    let (libvirt, host) = (serve(&lab, "libvirt"), serve(&lab, "auto"));
    from_host(&host, &guests);
    let (first, started) = (agree(&libvirt, &host, &guests), Instant::now());
    // On a busy machine it takes longer until a guest has used enough to compare.
    let is_busy = |now: &Between| {
        let times = now.host.iter().filter(|(series, _)| series.contains("_time_seconds_total"));
        times.into_iter().any(|(series, value)| first.host.get(series).is_some_and(|before| value - before > 4.0))
    };
    let mut last = agree(&libvirt, &host, &guests);
    while started.elapsed() < watched || !is_busy(&last) {
        assert!(started.elapsed() < Duration::from_secs(300), "no guest is busy: {:#?}", last.host);
        std::thread::sleep(Duration::from_secs(5));
        last = agree(&libvirt, &host, &guests);
    }
    let mut compared = 0;
    for (series, value) in last.host.iter().filter(|(series, _)| series.contains("_time_seconds_total")) {
        let by_host = value - first.host[series];
        let least = last.before[series] - first.after[series];
        let most = last.after[series] - first.before[series];
        if least < 2.0 {
            continue;
        }
        compared += 1;
        let off = by_host / f64::midpoint(least, most) - 1.0;
        println!("{series}: {by_host:.2} s by the host, {least:.2} to {most:.2} s by libvirt, {:+.2} %", off * 100.0);
        assert!(least * 0.99 < by_host && by_host < most * 1.01, "{series}: {least} to {most} by libvirt, {by_host}");
    }
    assert!(compared >= 1, "no guest was busy: {:#?}", last.host);

    // A vCPU is plugged in and unplugged.
    let linux = &guests[3];
    let vcpus = |samples: &Samples| of(samples, linux).filter(|(series, _)| series.contains("vcpu_time_")).count();
    let had = vcpus(&last.host);
    let more = (had + 1).to_string();
    lab.virsh(&["setvcpus", linux, &more, "--live"]).unwrap();
    agree(&libvirt, &host, &guests);
    assert_eq!(vcpus(&samples(&host)), had + 1, "plugged in");

    // libvirtd is restarted: the files are the same.
    lab.kill_daemon();
    let _daemon = lab.start_daemon_beside(&guests[0]);
    let up = |exporter: &Exporter| exporter.metrics("text/plain").is_ok_and(|body| body.contains("\nlibvirt_up 1"));
    let restarted = Instant::now();
    while !(up(&libvirt) && up(&host)) {
        assert!(restarted.elapsed() < Duration::from_secs(60), "the daemon is back");
        std::thread::sleep(Duration::from_millis(200));
    }
    agree(&libvirt, &host, &guests);

    // A guest is started again: another process with other threads.
    let web = &guests[0];
    let old = from_host(&host, &guests);
    let old_time = |samples: &Samples| {
        *of(samples, web).find(|(series, _)| series.starts_with("libvirt_domain_cpu_time_")).expect("its time").1
    };
    lab.virsh(&["destroy", web]).unwrap();
    lab.virsh(&["start", web]).unwrap();
    agree(&libvirt, &host, &guests);
    assert!(old_time(&samples(&host)) < old_time(&old), "a process that has just begun");
}

/// What the kernel says itself of a QEMU's control group; `None` where it has no pressure there.
fn stalled_for_cpu(guest: &str) -> Option<f64> {
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", qemu(guest))).unwrap();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let group = group.strip_suffix("/emulator")?.trim_start_matches('/');
    let group = group.strip_suffix("/libvirt").unwrap_or(group);
    let folders = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|point| std::path::Path::new(point).join(group));
    let text = folders.iter().find_map(|folder| std::fs::read_to_string(folder.join("cpu.pressure")).ok())?;
    let micros: f64 = text.lines().next()?.rsplit_once("total=")?.1.parse().ok()?;
    Some(micros / 1e6)
}

#[test]
fn the_pressure_of_each_guest_is_that_of_its_control_group() {
    let lab = Lab::start(Suite::Machine).unwrap();
    let guests = lab.guests(&["web", "tcg"]).unwrap();
    let exporter = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    for guest in &guests {
        let Some(before) = stalled_for_cpu(guest) else { return println!("no pressure in control groups here") };
        let body = exporter.metrics("text/plain").unwrap();
        let name = format!("libvirt_domain_pressure_cpu_waiting_seconds_total{{domain=\"{guest}\"");
        let line = body.lines().find(|line| line.starts_with(&name)).expect("its pressure");
        let value: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        let after = stalled_for_cpu(guest).expect("as before");
        assert!(before <= value && value <= after, "{guest}: {before}, then {value}, then {after}");
    }
}

/// Periods, throttled periods and throttled seconds of the only vCPU of a guest, as the kernel has them; `None` where libvirt has
/// given its group no quota.
fn throttled_by_kernel(guest: &str) -> Option<[f64; 3]> {
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", qemu(guest))).unwrap();
    groups.lines().find_map(|line| {
        let (_, group) = line.split_once(':')?.1.split_once(':')?;
        let threads = group.strip_suffix("/emulator")?.trim_start_matches('/');
        ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"].iter().find_map(|point| {
            let vcpu = std::path::Path::new(point).join(threads).join("vcpu0");
            let read = |name: &str| std::fs::read_to_string(vcpu.join(name)).ok();
            let quota = read("cpu.max").or_else(|| read("cpu.cfs_quota_us"))?;
            assert!(quota.starts_with("5000"), "{quota}");
            let stat = read("cpu.stat")?;
            let of =
                |name: &str| -> Option<f64> { stat.lines().find_map(|line| line.strip_prefix(name))?.parse().ok() };
            let seconds = of("throttled_usec ").map(|micros| micros / 1e6);
            let seconds = seconds.or_else(|| Some(of("throttled_time ")? / 1e9))?;
            Some([of("nr_periods ")?, of("nr_throttled ")?, seconds])
        })
    })
}

/// libvirt gives a quota of vCPUs to the group of each vCPU, in which alone the kernel counts it.
#[test]
fn a_guest_at_its_vcpu_quota_is_throttled_as_the_kernel_says() {
    let lab = Lab::start(Suite::Machine).unwrap();
    let guests = lab.guests(&["batch", "web"]).unwrap();
    let exporter = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    let scrape = || {
        let body = exporter.metrics("text/plain").unwrap();
        let of = |guest: &str| {
            ["periods", "throttled_periods", "throttled_seconds"].map(|what| -> f64 {
                let name = format!("libvirt_domain_cgroup_cpu_{what}_total{{domain=\"{guest}\"");
                let line = body.lines().find(|line| line.starts_with(&name));
                line.unwrap_or_else(|| panic!("{name}: {body}")).rsplit_once(' ').unwrap().1.parse().unwrap()
            })
        };
        [of(&guests[0]), of(&guests[1])]
    };
    let compare = || {
        let before = throttled_by_kernel(&guests[0])?;
        let [found, other] = scrape();
        let after = throttled_by_kernel(&guests[0]).expect("as before");
        let is_between = |of: usize| before[of] - 1e-6 <= found[of] && found[of] <= after[of] + 1e-6;
        assert!((0..3).all(is_between), "{before:?}, then {found:?}, then {after:?}");
        assert_eq!(other, [0.0; 3], "it has no quota");
        Some(([before, after], found))
    };
    let Some((_, first)) = compare() else { return println!("SKIPPED: libvirt made no group with a quota here") };
    let began = Instant::now();
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let (_, now) = compare().expect("as before");
        if now[1] >= first[1] + 10.0 {
            assert!(now[0] > first[0] && now[2] > first[2], "{first:?}, then {now:?}");
            println!("periods, throttled periods and seconds: {first:?}, then {now:?}");
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "it is never at its quota: {now:?}");
    }
    // Nothing changes in a guest that stands still.
    lab.virsh(&["suspend", &guests[0]]).unwrap();
    loop {
        let ([before, after], found) = compare().expect("as before");
        if before == after {
            assert!((0..3).all(|of| (found[of] - before[of]).abs() < 1e-6), "{before:?}, but {found:?}");
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(180), "it goes on while it is suspended: {after:?}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn cpu_times_of_a_frozen_guest_go_on() {
    let lab = Lab::start(Suite::Machine).unwrap();
    let guests = lab.guests(&["web", "sparse"]).unwrap();
    let exporter = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    from_host(&exporter, &guests);
    signal(qemu(&guests[0]), "-STOP");
    let count = |samples: &Samples| of(samples, &guests[0]).filter(|(series, _)| series.contains("_seconds_")).count();
    let running = count(&samples(&exporter));
    // The first scrape finds it out, the later ones leave its monitor alone.
    for _ in 0..3 {
        let samples = samples(&exporter);
        assert_eq!(count(&samples), running, "{samples:#?}");
    }
    let quarantined = format!("libvirt_domain_quarantined{{domain=\"{}\"", guests[0]);
    let body = exporter.metrics("text/plain").unwrap();
    assert!(body.lines().any(|line| line.starts_with(&quarantined) && line.ends_with(" 1")), "{body}");
    signal(qemu(&guests[0]), "-CONT");
}

/// The signals that the vCPUs of a QEMU were sent while `during` ran: QEMU asks KVM for a vCPU's statistics in the vCPU's own
/// thread, which it gets out of the guest with one.
fn signals(pid: u32, log: &std::path::Path, during: impl FnOnce()) -> usize {
    let mut tracer = Command::new("strace");
    tracer.args(["--trace=none", "--signal=SIGUSR1", "--quiet=attach", "--output"]).arg(log);
    // Its other threads, the one with the monitor among them, go on at their usual speed.
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap();
        if std::fs::read_to_string(task.path().join("comm")).unwrap().starts_with("CPU ") {
            tracer.arg("--attach").arg(task.file_name());
        }
    }
    let mut tracer = Running(tracer.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    std::thread::sleep(Duration::from_secs(2));
    during();
    signal(tracer.0.id(), "-INT");
    tracer.0.wait().unwrap();
    std::fs::read_to_string(log).unwrap().lines().filter(|line| line.contains("SIGUSR1")).count()
}

#[test]
fn ten_scrapes_stop_no_vcpu() {
    need("strace", "strace").unwrap();
    let lab = Lab::start(Suite::Machine).unwrap();
    let guests = lab.guests(&["web"]).unwrap();
    let scrape_ten_times = |exporter: &Exporter| {
        for _ in 0..10 {
            samples(exporter);
        }
    };
    let has_kvm = lab.virsh(&["dumpxml", &guests[0]]).unwrap().contains("type='kvm'");
    let log = lab.folder().join("signals");
    let libvirt = serve(&lab, "libvirt");
    let by_libvirt = signals(qemu(&guests[0]), &log, || scrape_ten_times(&libvirt));
    drop(libvirt);
    let host = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    from_host(&host, &guests);
    let by_host = signals(qemu(&guests[0]), &log, || scrape_ten_times(&host));
    println!("signals to vCPUs in ten scrapes: {by_libvirt} through libvirt, {by_host} with the host's files");
    // QEMU itself may signal one now and then.
    assert!(by_host < 5, "{by_host}");
    // Without KVM there is nothing to stop a vCPU for.
    assert!(by_libvirt >= 10 || !has_kvm, "{by_libvirt}");
}
