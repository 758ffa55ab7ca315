//! The real `virsh` on the fake daemon: every command that the project, or a reader of it, uses.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use fake_libvirtd::domain::{Agent, Job, Metadata, Node};
use fake_libvirtd::params::Value;
use fake_libvirtd::stats::{flag, group};
use fake_libvirtd::{Change, Clock, Domain, DomainState, FakeLibvirtd, Procedure, Scenario, Template};
use std::time::Duration;
use support::raw::RawClient;
use support::{start_small, virsh};

/// The first words of each line of a listing.
fn listed(daemon: &FakeLibvirtd, arguments: &[&str]) -> Vec<String> {
    let mut all = vec!["list", "--all", "--name"];
    all.extend(arguments);
    let text = virsh(daemon, &all).ok();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Four domains that differ in everything a listing can filter by.
fn various() -> FakeLibvirtd {
    let template = std::sync::Arc::new(Template::small());
    let domain = |name: &str| Domain::new(name, std::sync::Arc::clone(&template));
    let mut transient = domain("transient").with_state(DomainState::Paused);
    transient.persistent = false;
    let mut saved = domain("saved").with_state(DomainState::Shutoff);
    (saved.managed_save, saved.autostart) = (true, true);
    let mut snapshots = domain("snapshots");
    (snapshots.snapshots, snapshots.checkpoints) = (Node::only("s1"), Node::only("c1"));
    let mut titled = domain("titled").with_state(DomainState::Crashed);
    titled.title = Some("The <title>".to_owned());
    titled.description = Some("A description".to_owned());
    titled.metadata.push(Metadata { uri: "urn:x".to_owned(), xml: "<x:a xmlns:x='urn:x'>1</x:a>".to_owned() });
    let scenario = Scenario::builder();
    let scenario = scenario.domain(transient).domain(saved).domain(snapshots).domain(titled);
    FakeLibvirtd::start(scenario.build()).unwrap()
}

#[test]
fn lists_are_filtered_by_every_flag() {
    let daemon = various();
    assert_eq!(listed(&daemon, &[]).len(), 4);
    for (flag, names) in [
        ("--persistent", &["snapshots", "saved", "titled"][..]),
        ("--transient", &["transient"]),
        ("--autostart", &["saved"]),
        ("--no-autostart", &["transient", "snapshots", "titled"]),
        ("--with-managed-save", &["saved"]),
        ("--without-managed-save", &["transient", "snapshots", "titled"]),
        ("--with-snapshot", &["snapshots"]),
        ("--without-snapshot", &["transient", "saved", "titled"]),
        ("--with-checkpoint", &["snapshots"]),
        ("--without-checkpoint", &["transient", "saved", "titled"]),
        ("--state-running", &["snapshots"]),
        ("--state-paused", &["transient"]),
        ("--state-shutoff", &["saved"]),
        ("--state-other", &["titled"]),
    ] {
        let mut found = listed(&daemon, &[flag]);
        found.sort();
        let mut expected: Vec<_> = names.iter().map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(found, expected, "{flag}");
    }
    let table = virsh(&daemon, &["list", "--all", "--managed-save", "--title"]).ok();
    assert!(table.contains("saved       saved") || table.contains("saved        saved"), "{table}");
    assert!(table.contains("The <title>"), "{table}");
}

#[test]
fn a_domain_is_described() {
    let daemon = various();
    let said = |arguments: &[&str]| virsh(&daemon, arguments).ok().trim().to_owned();
    assert_eq!(said(&["domstate", "--reason", "transient"]), "paused (user)");
    assert_eq!(said(&["domstate", "--reason", "saved"]), "shut off (shutdown)");
    assert_eq!(said(&["domstate", "--reason", "titled"]), "crashed (panicked)");
    assert_eq!(said(&["domcontrol", "snapshots"]), "ok");
    assert_eq!(said(&["domjobinfo", "snapshots"]), "Job type:         None");
    assert_eq!(said(&["desc", "titled"]), "A description");
    assert_eq!(said(&["desc", "--title", "titled"]), "The <title>");
    assert_eq!(said(&["metadata", "titled", "--uri", "urn:x"]), "<x:a xmlns:x='urn:x'>1</x:a>");
    for (domain, persistent, autostart, saved) in
        [("transient", "no", "disable", "no"), ("saved", "yes", "enable", "yes")]
    {
        let info = said(&["dominfo", domain]);
        for line in [
            format!("Persistent:     {persistent}"),
            format!("Autostart:      {autostart}"),
            format!("Managed save:   {saved}"),
        ] {
            assert!(info.contains(&line), "{info}");
        }
    }
    let missing = virsh(&daemon, &["metadata", "titled", "--uri", "urn:y"]).failed();
    assert!(missing.contains("metadata not found"), "{missing}");
    let missing = virsh(&daemon, &["domstate", "nobody"]).failed();
    assert!(missing.contains("failed to get domain 'nobody'"), "{missing}");
}

#[test]
fn statistics_come_for_all_and_by_name_and_group() {
    let daemon = start_small();
    let all = virsh(&daemon, &["domstats"]).ok();
    assert_eq!(all.matches("Domain: ").count(), 3);
    assert_eq!(all.matches(".rd.bytes=").count(), 3);
    let one = virsh(&daemon, &["domstats", "vm-1"]).ok();
    assert!(one.starts_with("Domain: 'vm-1'\n") && one.matches("Domain: ").count() == 1);
    let groups = [
        ("--state", "state."),
        ("--cpu-total", "cpu."),
        ("--balloon", "balloon."),
        ("--vcpu", "vcpu."),
        ("--interface", "net."),
        ("--block", "block."),
        ("--dirtyrate", "dirtyrate."),
    ];
    for (flag, prefix) in groups {
        let text = virsh(&daemon, &["domstats", flag, "vm-0"]).ok();
        let keys: Vec<&str> = text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty()).collect();
        assert!(!keys.is_empty() && keys.iter().all(|key| key.starts_with(prefix)), "{flag}: {text}");
    }
    daemon.domains().change("vm-2", Change::Destroy).unwrap();
    let active = virsh(&daemon, &["domstats", "--list-active", "--state"]).ok();
    let inactive = virsh(&daemon, &["domstats", "--list-inactive"]).ok();
    assert!(!active.contains("vm-2") && inactive.contains("vm-2") && !inactive.contains("vm-0"));
    assert!(inactive.contains("state.reason=2") && !inactive.contains("net."));
    let last = daemon.counters().log_of(Procedure::ConnectGetAllDomainStats).pop().unwrap();
    assert_eq!((last.stats, last.flags, last.domains), (Some(0), Some(2), Some(0)));
}

#[test]
fn every_key_group_up_to_libvirt_12_7_is_decoded() {
    let scenario = Scenario::builder().domains(1, Template::everything());
    let daemon = FakeLibvirtd::start(scenario.build()).unwrap();
    let text = virsh(&daemon, &["domstats", "--backing"]).ok();
    for line in [
        "vcpu.1.halted=yes",
        "vcpu.0.tlb_flush.sum=",
        "block.count=6",
        "block.1.backingIndex=2",
        "block.0.limits.iov_max=",
        "block.0.timed_group.1.rd_queue_depth_avg=1.25",
        "block.0.latency_histogram.zone_append.bin.3.start=10000000",
        "perf.emulation_faults=",
        "iothread.2.poll-weight=3",
        "cpu.energy.monitor.0.pkg.1.core_energy=1000.25",
        "memory.bandwidth.monitor.0.node.1.bytes.total=",
        "dirtyrate.vcpu.1.megabytes_per_second=6",
        "vm.remote_tlb_flush.sum=",
        "net.1.name=vnet0",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    let plain = virsh(&daemon, &["domstats", "--block"]).ok();
    assert!(plain.contains("block.count=2"));
}

#[test]
fn counters_grow_with_the_clock() {
    let daemon = start_small();
    let time = || {
        let text = virsh(&daemon, &["domstats", "--cpu-total", "vm-0"]).ok();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("cpu.time=")).unwrap();
        line.parse::<u64>().unwrap()
    };
    let before = time();
    assert_eq!(time(), before);
    daemon.advance(Duration::from_secs(10));
    assert_eq!(time(), before + 5_000_000_000);

    let scenario = support::small().clock(Clock::PerCall(Duration::from_secs(1))).build();
    let daemon = FakeLibvirtd::start(scenario).unwrap();
    let text = |_| virsh(&daemon, &["domstats", "--cpu-total", "vm-0"]).ok();
    let texts: Vec<String> = (0..3).map(text).collect();
    assert!(texts[0] != texts[1] && texts[1] != texts[2]);
}

#[test]
fn definition_addresses_and_host_are_told() {
    let daemon = start_small();
    let said = |arguments: &[&str]| virsh(&daemon, arguments).ok();
    let xml = said(&["dumpxml", "vm-1"]);
    assert!(xml.contains("<domain type='qemu' id='2'>") && xml.contains("<target dev='vnet1'/>"));
    assert!(!said(&["dumpxml", "--inactive", "vm-1"]).contains("vnet1"));
    daemon.domains().update("vm-1", |domain| domain.xml = Some("<domain/>".to_owned())).unwrap();
    assert_eq!(said(&["dumpxml", "vm-1"]).trim(), "<domain/>");
    for source in ["lease", "arp"] {
        let text = said(&["domifaddr", "vm-1", "--source", source]);
        assert!(text.contains(" vnet1 ") && text.contains("10.0.0.1/8"), "{text}");
    }
    assert!(said(&["version"]).contains("Running hypervisor: QEMU 7.2.22"));
    assert!(said(&["capabilities"]).contains("<arch>x86_64</arch>"));
    assert!(said(&["nodeinfo"]).contains("CPU(s):              64"));
    assert_eq!(said(&["hostname"]).trim(), "fakehost");
    let agent = virsh(&daemon, &["domifaddr", "vm-1", "--source", "agent"]).failed();
    assert!(agent.contains("guest agent is not configured"), "{agent}");
}

#[test]
fn a_job_is_shown() {
    let daemon = start_small();
    let job = Job {
        kind: 2,
        params: vec![
            ("operation".to_owned(), Value::Int(6)),
            ("time_elapsed".to_owned(), Value::ULLong(1234)),
            ("memory_total".to_owned(), Value::ULLong(1 << 30)),
        ],
    };
    daemon.domains().update("vm-0", |domain| domain.job = Some(job)).unwrap();
    let text = virsh(&daemon, &["domjobinfo", "vm-0"]).ok();
    for line in ["Job type:         Unbounded", "Operation:        Snapshot", "1234         ms", "1.000 GiB"] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[test]
fn domains_are_started_and_stopped() {
    let daemon = start_small();
    for (command, state) in [
        ("suspend", "paused"),
        ("resume", "running"),
        ("reboot", "running"),
        ("shutdown", "shut off"),
        ("start", "running"),
        ("destroy", "shut off"),
    ] {
        virsh(&daemon, &[command, "vm-1"]).ok();
        assert_eq!(virsh(&daemon, &["domstate", "vm-1"]).ok().trim(), state, "{command}");
    }
    let off = virsh(&daemon, &["suspend", "vm-1"]).failed();
    assert!(off.contains("domain is not running"), "{off}");
    assert_eq!(daemon.domains().get("vm-1").unwrap().reason, 2);
}

#[test]
fn a_read_only_connection_is_refused_what_libvirt_refuses() {
    let daemon = start_small();
    for arguments in [&["-r", "domstats"][..], &["-r", "list", "--all"], &["-r", "dumpxml", "vm-0"]] {
        virsh(&daemon, arguments).ok();
    }
    for arguments in
        [&["-r", "destroy", "vm-0"][..], &["-r", "dumpxml", "--security-info", "vm-0"], &["-r", "guestinfo", "vm-0"]]
    {
        let said = virsh(&daemon, arguments).failed();
        assert!(said.contains("forbidden"), "{said}");
    }
    // The library refuses most of this by itself; a client without that sees the daemon refuse.
    let mut client = RawClient::open(&daemon, true);
    let denied = |result: Result<Vec<u8>, (i32, String)>| assert_eq!(result.unwrap_err().0, 29);
    denied(client.call_domain(&daemon, "vm-0", Procedure::DomainDestroy, |_| {}));
    denied(client.call_domain(&daemon, "vm-0", Procedure::DomainSuspend, |_| {}));
    denied(client.call_domain(&daemon, "vm-0", Procedure::DomainGetXmlDesc, |out| {
        out.u32(1);
    }));
    denied(client.call_domain(&daemon, "vm-0", Procedure::DomainInterfaceAddresses, |out| {
        out.u32(1).u32(0);
    }));
    assert_eq!(client.stats(&daemon, &[], group::STATE, 0).unwrap().len(), 3);
    assert!(daemon.counters().connections().values().any(|one| one.read_only));
}

#[test]
fn flags_that_libvirt_does_not_know_are_refused() {
    let daemon = start_small();
    let mut client = RawClient::open(&daemon, false);
    let (code, message) = client.stats(&daemon, &[], 0, 1 << 20).unwrap_err();
    assert_eq!(code, 8);
    assert!(message.contains("unsupported flags (0x100000) in function qemuConnectGetAllDomainStats"));
    assert_eq!(client.stats(&daemon, &[], 1 << 20, 1 << 31).unwrap_err().0, 74);
    let records = client.stats(&daemon, &[], 1 << 20, 0).unwrap();
    assert!(records.len() == 3 && records.iter().all(|record| record.params == 0));
    assert_eq!(client.call(Procedure::Other(9999), |_| {}).unwrap_err().0, 39);
    let reply = client.call(Procedure::ConnectDomainEventCallbackRegisterAny, |out| {
        out.i32(27).u32(0);
    });
    assert!(reply.unwrap_err().1.contains("unsupported event ID 27"));
}

#[test]
fn golden_parameters_are_served_as_they_are() {
    let text = "domain 3 4dea22b3-1d52-d8f3-2516-782e98ab3fa0 \"vm one\"\nstate.state int 3\nstate.reason int 1\n\
                x.ratio double 1.5\nx.flag boolean 1\nblock.0.name string \"v d a\"\n\
                domain - 4dea22b3-1d52-d8f3-2516-782e98ab3fa1 \"off\"\nstate.state int 5\n";
    let scenario = Scenario::builder().params(text).unwrap();
    let daemon = FakeLibvirtd::start(scenario.build()).unwrap();
    assert_eq!(
        virsh(&daemon, &["domstats"]).ok().trim_end(),
        "Domain: 'vm one'\n  state.state=3\n  state.reason=1\n  x.ratio=1.500000\n  x.flag=yes\n  block.0.name=v d a\n\n\
         Domain: 'off'\n  state.state=5"
    );
    assert_eq!(virsh(&daemon, &["domstate", "vm one"]).ok().trim(), "paused");
    assert_eq!(virsh(&daemon, &["domuuid", "off"]).ok().trim(), "4dea22b3-1d52-d8f3-2516-782e98ab3fa1");
}

#[test]
fn none_and_ten_thousand_domains_are_served() {
    let daemon = FakeLibvirtd::start(Scenario::default()).unwrap();
    assert_eq!(virsh(&daemon, &["domstats"]).ok().trim(), "");
    assert_eq!(listed(&daemon, &[]).len(), 0);

    let scenario = Scenario::builder().domains(10_000, Template::medium());
    let daemon = FakeLibvirtd::start(scenario.build()).unwrap();
    assert_eq!(listed(&daemon, &[]).len(), 10_000);
    let state = virsh(&daemon, &["domstats", "--state", "--interface"]).ok();
    assert_eq!(state.matches("Domain: ").count(), 10_000);
    assert!(state.contains("net.0.name=vnet9999"));
    // All that they have to say is more than a reply may hold.
    let all = virsh(&daemon, &["domstats"]).failed();
    assert!(all.contains("Unable to encode message payload"), "{all}");
    let names = daemon.domains().names();
    let mut client = RawClient::open(&daemon, false);
    for batch in names.chunks(2_000) {
        let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
        let records = client.stats(&daemon, &batch, 0, flag::NOWAIT).unwrap();
        assert!(records.len() == 2_000 && records.iter().all(|record| record.params == 270));
    }
}

#[test]
fn snapshots_and_checkpoints_are_trees() {
    let node = |name: &str, parent: Option<&str>, created| Node {
        name: name.to_owned(),
        parent: parent.map(str::to_owned),
        created,
        ..Node::default()
    };
    let mut domain = Domain::new("vm", Template::small());
    let leaf = Node { external: true, current: true, ..node("c", Some("b"), 1_700_000_300) };
    domain.snapshots = vec![node("a", None, 1_700_000_100), node("b", Some("a"), 1_700_000_200), leaf];
    domain.checkpoints = vec![node("k", None, 1_700_000_400)];
    let daemon = FakeLibvirtd::start(Scenario::builder().domain(domain).build()).unwrap();
    let said = |arguments: &[&str]| virsh(&daemon, arguments).ok();
    let names =
        |arguments: &[&str]| said(arguments).lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert_eq!(names(&["snapshot-list", "vm", "--name"]).trim(), "a b c");
    assert_eq!(names(&["snapshot-list", "vm", "--name", "--roots"]).trim(), "a");
    assert_eq!(names(&["snapshot-list", "vm", "--name", "--leaves"]).trim(), "c");
    assert_eq!(names(&["snapshot-current", "vm", "--name"]).trim(), "c");
    let xml = said(&["snapshot-dumpxml", "vm", "c"]);
    assert!(xml.contains("<creationTime>1700000300</creationTime>") && xml.contains("snapshot='external'"), "{xml}");
    assert_eq!(names(&["checkpoint-list", "vm", "--name"]).trim(), "k");
    assert!(said(&["checkpoint-dumpxml", "vm", "k"]).contains("<creationTime>1700000400</creationTime>"));
    let missing = virsh(&daemon, &["snapshot-dumpxml", "vm", "x"]).failed();
    assert!(missing.contains("snapshot"), "{missing}");
}

#[test]
fn a_guest_agent_answers_what_it_is_asked_for_or_nothing() {
    let mut domain = Domain::new("vm", Template::small());
    let info = vec![
        ("os.id".to_owned(), Value::String("debian".to_owned())),
        ("hostname".to_owned(), Value::String("inside".to_owned())),
    ];
    let vcpus = vec![("vcpus".to_owned(), Value::String("0-3".to_owned()))];
    domain.agent = Some(Agent { info, vcpus, seconds: 1_700_000_000 });
    let daemon = FakeLibvirtd::start(Scenario::builder().domain(domain).build()).unwrap();
    let all = virsh(&daemon, &["guestinfo", "vm"]).ok();
    assert!(all.contains("debian") && all.contains("inside"), "{all}");
    let os = virsh(&daemon, &["guestinfo", "vm", "--os"]).ok();
    assert!(os.contains("debian") && !os.contains("inside"), "{os}");
    assert!(virsh(&daemon, &["domtime", "vm"]).ok().contains("1700000000"));
    assert!(virsh(&daemon, &["guestvcpus", "vm"]).ok().contains("0-3"));
    daemon.faults().silence_agent("vm", Duration::from_millis(300));
    let failed = virsh(&daemon, &["guestinfo", "vm"]).failed();
    assert!(failed.contains("Guest agent is not responding"), "{failed}");
    assert!(virsh(&daemon, &["domstate", "vm"]).ok().contains("running"));
}
