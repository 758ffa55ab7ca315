//! The host, its storage pools and its networks on the fake daemon: what background probes bring, and what a pool that hangs
//! costs.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/scraper.rs"]
mod scraper;
#[path = "support/waiting.rs"]
mod waiting;

use domstats_exporter::collect::Reading;
use domstats_exporter::config::Group;
use domstats_exporter::encode::Format;
use domstats_exporter::metrics::FamilyBuilder;
use fake_libvirtd::{FakeLibvirtd, Host, Network, Pool, Procedure, ReplyFault, Scenario, Template, Times};
use scraper::{DEADLINE, Scrape, Scraper, configuration};
use waiting::assert_no_wait;

fn daemon() -> FakeLibvirtd {
    let pool = |name: &str, state| Pool { name: name.to_owned(), state, capacity: 1 << 40, allocation: 1 << 30 };
    let network =
        |name: &str, active, leases| Network { name: name.to_owned(), active, bridge: format!("br-{name}"), leases };
    let pools = vec![pool("images", 2), pool("old", 0), pool("nfs", 3)];
    let networks = vec![network("default", true, 7), network("spare", false, 0)];
    let host = Host { cpus: 6, memory_kib: 8 << 20, pools, networks, ..Host::default() };
    FakeLibvirtd::start(Scenario::builder().host(host).domains(3, Template::small()).build()).expect("a fake daemon")
}

fn readings(scrape: &Scrape, group: Group) -> usize {
    scrape.collection.readings.iter().filter(|reading| reading.group == group).count()
}

#[test]
fn what_probes_find_is_exported() {
    let daemon = daemon();
    let config = configuration(&daemon, "");
    let scraper = Scraper::start(&config);
    let all = [(Group::Host, 1), (Group::Pool, 3), (Group::Network, 2)];
    let scrape = scraper.until("everything has been read", |scrape| {
        all.iter().all(|(group, count)| readings(scrape, *group) == *count)
    });
    let found: Vec<&Reading> = scrape.collection.readings.iter().collect();
    let built = FamilyBuilder::new(&config).build_with(&scrape.collection.records(), &found, &|_, _, _| None);
    let text = String::from_utf8(Format::Text.encode(&built.families)).expect("UTF-8");
    for line in [
        "libvirt_host_memory_free_bytes 4294967296",
        "libvirt_host_numa_memory_bytes{node=\"0\"} 8589934592",
        "libvirt_host_hugepages{node=\"0\",page_size=\"2097152\"} 1024",
        "libvirt_host_hugepages_free{node=\"0\",page_size=\"2097152\"} 1024",
        "libvirt_host_cpus_present 6",
        "libvirt_host_cpu_cores_per_socket 6",
        "libvirt_pool_info{pool=\"images\",pool_type=\"dir\",path=\"/srv/images\"} 1",
        "libvirt_pool_state{pool=\"images\",state=\"running\"} 1",
        "libvirt_pool_state{pool=\"nfs\",state=\"degraded\"} 1",
        "libvirt_pool_state{pool=\"old\",state=\"inactive\"} 1",
        "libvirt_pool_capacity_bytes{pool=\"images\"} 1099511627776",
        "libvirt_pool_allocation_bytes{pool=\"nfs\"} 1073741824",
        "libvirt_pool_available_bytes{pool=\"nfs\"} 1098437885952",
        "libvirt_pool_autostart{pool=\"old\"} 1",
        "libvirt_network_info{network=\"default\",bridge=\"br-default\",forward_mode=\"nat\"} 1",
        "libvirt_network_active{network=\"spare\"} 0",
        "libvirt_network_dhcp_leases{network=\"default\"} 7",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
    for absent in [
        "libvirt_pool_capacity_bytes{pool=\"old\"}",
        "libvirt_network_dhcp_leases{network=\"spare\"}",
        "page_size=\"4096\"",
    ] {
        assert!(!text.contains(absent), "{absent} is in\n{text}");
    }
    assert_eq!((built.unmapped_keys, built.duplicates), (0, 0));
}

#[test]
fn a_pool_that_hangs_costs_only_itself() {
    let daemon = daemon();
    daemon.faults().reply(Procedure::StoragePoolGetInfo, ReplyFault::Swallow, Times::Next(1));
    let scraper = Scraper::new(&daemon, "");
    let good = |scrape: &Scrape| {
        (readings(scrape, Group::Pool), readings(scrape, Group::Network), readings(scrape, Group::Host)) == (2, 2, 1)
    };
    // The call is abandoned after five seconds, and the next one begins.
    scraper.until("all but one have been read", good);
    let failed = || scraper.collector.stats().probes.get("pool").is_some_and(|status| !status.success);
    let scrape = scraper.scrape();
    assert_eq!((scrape.complete(), scraper.collector.stats().stuck_calls, good(&scrape)), (3, 0, true));
    assert_no_wait(scrape.took, DEADLINE);
    // Those after it were answered.
    assert!(!failed());
    assert_eq!(daemon.counters().calls(Procedure::StoragePoolGetInfo), 3);
}

#[test]
fn what_a_driver_does_not_have_is_absent_and_no_failure() {
    let daemon = daemon();
    let refused = || ReplyFault::Error { code: 3, message: "this function is not supported".to_owned() };
    for procedure in [
        Procedure::ConnectListAllStoragePools,
        Procedure::ConnectListAllNetworks,
        Procedure::NodeGetCpuMap,
        Procedure::ConnectGetCapabilities,
    ] {
        daemon.faults().reply(procedure, refused(), Times::Always);
    }
    let scraper = Scraper::new(&daemon, "");
    let scrape = scraper.until("the host has been read", |scrape| readings(scrape, Group::Host) == 1);
    assert_eq!((readings(&scrape, Group::Pool), readings(&scrape, Group::Network)), (0, 0));
    scraper.until("all probes have been asked", |_| {
        let probes = scraper.collector.stats().probes;
        ["host", "pool", "network"].iter().all(|probe| probes.get(probe).is_some_and(|status| status.success))
    });
    let host = scrape.collection.readings.iter().find(|reading| reading.group == Group::Host).expect("a reading");
    let keys: Vec<String> = host.records.keys().map(str::to_owned).collect();
    assert!(keys.contains(&"host.memory.free".to_owned()), "{keys:?}");
    assert!(!keys.iter().any(|key| key == "host.cpu.present" || key.starts_with("host.numa")), "{keys:?}");
}
