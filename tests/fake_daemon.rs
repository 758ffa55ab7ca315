//! The libvirt layer on the fake daemon: what it reads.
//!
//! What it says of faults is in `fake_daemon_breaks.rs` and `fake_daemon_faults.rs`; faults that hang an open, and the count of
//! what is left behind, in `fake_daemon_open.rs`.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;
#[path = "support/golden.rs"]
#[allow(dead_code, reason = "configurations are of no interest here")]
mod golden;

use std::time::Duration;

use domstats_exporter::encode::encode_params;
use domstats_exporter::libvirt::{
    ControlState, DomainList, DomainSelection, ErrorClass, ParamValue, Records, StatsGroups, StatsRequest,
};
use fake::{
    GROUPS, SOON, STATS, assert_serves, everything, fetch, handles, open, scenario_text, small, start, start_fetch,
    start_small, within,
};
use fake_libvirtd::{Change, Domain, DomainState, Procedure, Scenario, Template};
use uuid::Uuid;

#[test]
fn every_key_arrives_as_the_scenario_has_it() {
    let scenario = Scenario::builder()
        .named_domains("all-{}", 2, Template::everything())
        .named_domains("big-{}", 1, Template::large())
        .domain(Domain::new("off", Template::everything()).with_state(DomainState::Shutoff));
    let daemon = start(scenario);
    let mut connection = open(&daemon);
    for backing_chain in [false, true] {
        let request = StatsRequest { backing_chain, ..everything() };
        let (same, records) = fetch(connection, request);
        connection = same;
        let records = records.unwrap();
        assert_eq!(encode_params(&[&records]), scenario_text(&daemon, backing_chain));
        for (_, prefix) in GROUPS {
            let mut params = records.domains().flat_map(|domain| domain.params());
            assert!(params.any(|param| param.key.starts_with(prefix)), "{prefix}");
        }
        let types: Vec<&str> = records.domain(0).params().map(|param| param.value.type_name()).collect();
        for name in ["int", "uint", "llong", "ullong", "double", "boolean", "string"] {
            assert!(types.contains(&name), "{name}");
        }
    }
    // The same again, of named domains, and later.
    let domains = handles(&connection);
    let mut records = Records::default();
    connection.fetch_stats_of(&domains, everything(), &mut records).unwrap();
    assert_eq!(encode_params(&[&records]), scenario_text(&daemon, false));
    daemon.advance(Duration::from_secs(10));
    let mut later = Records::default();
    connection.fetch_stats_of(&domains, everything(), &mut later).unwrap();
    let total = |records: &Records| {
        let cpu = records.domain(0).params().find(|param| param.key == "cpu.time");
        match cpu.unwrap().value {
            ParamValue::ULLong(nanos) => nanos,
            other => panic!("{other:?}"),
        }
    };
    assert!(total(&later) > total(&records));
    assert_eq!(later.param_count(), records.param_count());
}

#[test]
fn a_group_brings_its_own_keys_and_no_others() {
    let daemon = start(Scenario::builder().domains(1, Template::everything()));
    let connection = open(&daemon);
    let mut sum = 0;
    for (group, prefix) in GROUPS {
        let mut records = Records::default();
        let request = StatsRequest { groups: group, ..everything() };
        connection.fetch_stats(request, |_, _| true, &mut records).unwrap();
        assert!(records.param_count() > 0, "{prefix}");
        assert!(records.domain(0).params().all(|param| param.key.starts_with(prefix)), "{prefix}");
        sum += records.param_count();
    }
    let mut records = Records::default();
    connection.fetch_stats(everything(), |_, _| true, &mut records).unwrap();
    assert_eq!(records.param_count(), sum);
}

#[test]
fn the_golden_parameters_come_back_byte_for_byte() {
    for case in golden::cases() {
        let path = golden::folder().join(&case).with_extension("params");
        let text = std::fs::read_to_string(path).unwrap();
        // A parameter of no known type cannot pass libvirt; see `parameters_that_libvirt_cannot_take_...`.
        let kept = text.lines().filter(|line| line.starts_with('#') || !line.contains(" unknown("));
        let text = kept.map(|line| format!("{line}\n")).collect::<String>();
        // What is read in the background comes by other calls.
        let text = encode_params(&[&golden::sources(&golden::records(&text).unwrap()).0]);
        let daemon = start(Scenario::builder().params(&text).unwrap());
        let (_, records) = fetch(open(&daemon), everything());
        let came = encode_params(&[&records.unwrap()]);
        assert_eq!(came, encode_params(&[&golden::records(&text).unwrap()]), "{case}");
        assert_eq!(came, scenario_text(&daemon, false), "{case}");
    }
}

#[test]
fn any_number_of_domains_is_read() {
    for count in [0, 1, 1_000] {
        let daemon = start(Scenario::builder().domains(count, Template::small()));
        let (connection, records) = fetch(open(&daemon), everything());
        let records = records.unwrap();
        assert_eq!((records.len(), records.param_count()), (count, 47 * count));
        let domains = handles(&connection);
        assert_eq!(domains.len(), count);
        let mut named = Records::default();
        connection.fetch_stats_of(&domains, everything(), &mut named).unwrap();
        assert_eq!(encode_params(&[&named]), encode_params(&[&records]));
        assert_eq!(encode_params(&[&named]), scenario_text(&daemon, false));
    }
}

#[test]
fn ten_thousand_domains_come_in_one_call_or_in_batches() {
    let daemon = start(Scenario::builder().domains(10_000, Template::small()));
    let (connection, records) = fetch(open(&daemon), everything());
    let records = records.unwrap();
    assert_eq!((records.len(), records.param_count()), (10_000, 470_000));
    let connection = within(SOON, move || {
        let domains = handles(&connection);
        let mut batches = Records::default();
        for batch in domains.chunks(1_000) {
            connection.fetch_stats_of(batch, everything(), &mut batches).unwrap();
        }
        assert_eq!(batches.len(), 10_000);
        for (one, other) in records.domains().zip(batches.domains()) {
            assert_eq!((one.name, one.uuid, one.id), (other.name, other.uuid, other.id));
            assert!(one.params().eq(other.params()), "{}", one.name);
        }
        connection
    });
    let calls = daemon.counters().log_of(STATS);
    assert_eq!(calls.len(), 11);
    assert!(calls[1..].iter().all(|call| call.domains == Some(1_000)));
    assert!(connection.is_alive());
}

#[test]
fn what_exceeds_libvirts_limits_is_too_large_and_the_connection_stays() {
    // By bytes: 10,000 domains of 270 parameters are 104 MB.
    let daemon = start(Scenario::builder().domains(10_000, Template::medium()));
    let (connection, result) = start_fetch(open(&daemon), everything()).result(4 * SOON).0;
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
    assert!(error.to_string().contains("Unable to encode message payload"), "{error}");
    let connection = within(4 * SOON, move || {
        let domains = handles(&connection);
        let mut records = Records::default();
        let error = connection.fetch_stats_of(&domains, everything(), &mut records).unwrap_err();
        assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
        assert!(records.is_empty());
        connection.fetch_stats_of(&domains[..1_000], everything(), &mut records).unwrap();
        assert_eq!(records.param_count(), 270_000);
        connection
    });
    assert!(connection.is_alive());
}

#[test]
fn more_domains_than_libvirt_lists_are_too_many() {
    let daemon = start(Scenario::builder().domains(16_385, Template::small()));
    let (connection, result) = fetch(open(&daemon), everything());
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
    assert!(error.message.contains("exceeds max limit: 16384"), "{error}");
    let error = connection.list_domains(DomainList::Active).unwrap_err();
    assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
    assert!(connection.list_domains(DomainList::Inactive).unwrap().is_empty());
    daemon.domains().remove("vm-0").unwrap();
    assert_eq!(connection.list_domains(DomainList::Active).unwrap().len(), 16_384);
}

#[test]
fn the_selection_and_the_name_choose_domains() {
    let off = Domain::new("off", Template::small()).with_state(DomainState::Shutoff);
    let paused = Domain::new("paused", Template::small()).with_state(DomainState::Paused);
    let daemon = start(small().domain(off).domain(paused));
    let connection = open(&daemon);
    let names = |domains| {
        let request = StatsRequest { domains, ..everything() };
        let mut records = Records::default();
        connection.fetch_stats(request, |name, _| name != "vm-1", &mut records).unwrap();
        records.domains().map(|domain| domain.name.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(Some(DomainSelection::Active)), ["vm-0", "vm-2", "paused"]);
    assert_eq!(names(Some(DomainSelection::Inactive)), ["off"]);
    assert_eq!(names(None), ["vm-0", "vm-2", "off", "paused"]);
    let listed = |which| -> Vec<_> {
        connection.list_domains(which).unwrap().iter().map(|domain| domain.identity().name).collect()
    };
    assert_eq!(listed(DomainList::Active), ["vm-0", "vm-1", "vm-2", "paused"]);
    assert_eq!(listed(DomainList::Inactive), ["off"]);
}

#[test]
fn versions_identities_and_basic_facts() {
    let daemon = start_small();
    let connection = open(&daemon);
    let versions = connection.versions().unwrap();
    assert_eq!((&*versions.libvirt, &*versions.hypervisor, &*versions.driver), ("9.0.0", "7.2.22", "QEMU"));
    assert!(versions.library.split('.').count() == 3, "{versions:?}");

    let wanted = daemon.domains().get("vm-1").unwrap();
    let domain = connection.lookup_domain(wanted.uuid).unwrap();
    let identity = domain.identity();
    assert_eq!((&identity.name, identity.uuid, identity.id), (&wanted.name, wanted.uuid, wanted.id));
    assert_eq!(domain.uuid(), wanted.uuid);
    let info = domain.info(&connection).unwrap();
    assert_eq!((info.state, info.vcpus, info.maximum_kib), (1, 1, 1 << 20));
    assert_eq!(domain.control_state(&connection).unwrap(), ControlState::Ok);

    daemon.domains().change("vm-1", Change::Destroy).unwrap();
    assert_eq!(domain.info(&connection).unwrap().state, 5);
    let off = domain.control_state(&connection).unwrap_err();
    assert_eq!(off.class, ErrorClass::Other(55), "{off}");
    assert!(off.to_string().contains("domain is not running"), "{off}");
    assert_eq!(connection.lookup_domain(wanted.uuid).unwrap().identity().id, None);

    daemon.domains().remove("vm-1").unwrap();
    for error in [
        connection.lookup_domain(wanted.uuid).unwrap_err(),
        connection.lookup_domain(Uuid::nil()).unwrap_err(),
        domain.info(&connection).unwrap_err(),
        domain.control_state(&connection).unwrap_err(),
    ] {
        assert_eq!(error.class, ErrorClass::VanishedDomain, "{error}");
        assert!(error.message.starts_with("Domain not found"), "{error}");
    }
    // Named domains that have vanished are omitted.
    let mut records = Records::default();
    connection.fetch_stats_of([&domain], everything(), &mut records).unwrap();
    assert!(records.is_empty());
    connection.fetch_stats_of([], everything(), &mut records).unwrap();
    assert!(records.is_empty());
    drop(assert_serves(connection, &daemon));
}

#[test]
fn a_fetch_costs_the_daemon_one_call() {
    let daemon = start_small();
    let connection = open(&daemon);
    let opening = daemon.counters().by_procedure();
    let expected = [
        (Procedure::ConnectOpen, 1),
        (Procedure::ConnectSupportsFeature, 3),
        (Procedure::AuthList, 1),
        (Procedure::ConnectRegisterCloseCallback, 1),
    ];
    assert_eq!(opening, expected.into_iter().collect());
    assert!(daemon.counters().connections().values().all(|connection| connection.read_only));
    daemon.counters().reset();

    let mut records = Records::default();
    connection.fetch_stats(everything(), |_, _| true, &mut records).unwrap();
    assert_eq!(daemon.counters().by_procedure(), [(STATS, 1)].into_iter().collect());
    let domains = handles(&connection);
    daemon.counters().reset();
    let request = StatsRequest { nowait: true, groups: StatsGroups::WITHOUT_MONITOR, ..everything() };
    connection.fetch_stats_of(&domains[1..], request, &mut records).unwrap();
    let calls = daemon.counters().log();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].domains, calls[0].stats, calls[0].flags), (Some(2), Some(0x151), Some(1 << 29)));
    // What is known is not asked for again, nor for handles that are dropped.
    assert!(domains.iter().all(|domain| !domain.identity().name.is_empty()) && connection.is_alive());
    drop(domains);
    assert_eq!(daemon.counters().total_calls(), 1);

    drop(connection);
    assert!(daemon.counters().wait_until(SOON, |all| all.open_connections() == 0));
    let closing = [(STATS, 1), (Procedure::ConnectUnregisterCloseCallback, 1), (Procedure::ConnectClose, 1)];
    assert_eq!(daemon.counters().by_procedure(), closing.into_iter().collect());
}
