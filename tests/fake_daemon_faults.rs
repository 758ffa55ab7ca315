//! The libvirt layer on the fake daemon: faults that the connection survives.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;
#[path = "support/waiting.rs"]
mod waiting;

use std::time::Duration;

use domstats_exporter::libvirt::{
    ControlState, DomainList, ErrorClass, ParamValue, Records, StatsGroups, StatsRequest,
};
use fake::{
    JOB_WAIT, SOON, STATS, assert_recovered, assert_serves, counts, everything, fetch, handles, open, open_watched,
    small, start, start_fetch, start_small, try_open, within,
};
use fake_libvirtd::{
    Change, Identity, Limits, ParamFault, Procedure, RecordFault, ReplyFault, Scenario, Template, Times,
};
use waiting::assert_no_wait;

#[test]
fn every_error_has_its_class_and_its_message() {
    let daemon = start_small();
    let mut connection = open(&daemon);
    for (code, class) in [
        (1, ErrorClass::Other(1)),
        (3, ErrorClass::NotSupported),
        (8, ErrorClass::Other(8)),
        (29, ErrorClass::ReadOnly),
        (38, ErrorClass::Other(38)),
        (39, ErrorClass::TooLarge),
        (42, ErrorClass::VanishedDomain),
        (45, ErrorClass::PermissionDenied),
        (68, ErrorClass::Other(68)),
        (74, ErrorClass::Other(74)),
        (88, ErrorClass::PermissionDenied),
        (86, ErrorClass::Other(86)),
        (9999, ErrorClass::Other(9999)),
    ] {
        let fault = ReplyFault::Error { code, message: format!("fault number {code}") };
        daemon.faults().every_reply(fault, Times::Always);
        let uuid = daemon.domains().get("vm-0").unwrap().uuid;
        let (same, errors) = within(SOON, move || {
            let mut records = Records::default();
            let errors = [
                connection.fetch_stats(everything(), |_, _| true, &mut records).unwrap_err(),
                connection.list_domains(DomainList::Active).unwrap_err(),
                connection.lookup_domain(uuid).unwrap_err(),
            ];
            assert!(records.is_empty());
            (connection, errors)
        });
        for error in errors {
            assert_eq!(error.class, class, "{error}");
            assert!(error.message.contains(&format!("fault number {code}")), "{error}");
            let hint = error.to_string().contains("unix_sock_ro_perms");
            assert_eq!(hint, class == ErrorClass::PermissionDenied, "{error}");
        }
        daemon.faults().clear();
        connection = assert_serves(same, &daemon);
    }
}

#[test]
fn an_open_that_is_refused_says_why() {
    let daemon = start_small();
    for procedure in [Procedure::AuthList, Procedure::ConnectOpen] {
        for (code, class) in [
            (1, ErrorClass::ConnectFailed),
            (29, ErrorClass::PermissionDenied),
            (38, ErrorClass::ConnectFailed),
            (45, ErrorClass::PermissionDenied),
            (88, ErrorClass::PermissionDenied),
        ] {
            let fault = ReplyFault::Error { code, message: format!("refused by {code}") };
            daemon.faults().reply(procedure, fault, Times::Next(1));
            let uri = daemon.uri();
            let (result, on_close) = within(SOON, move || try_open(&uri));
            let error = result.unwrap_err();
            assert_eq!(error.class, class, "{error}");
            assert!(error.to_string().contains(&format!("cannot open {}", daemon.uri())), "{error}");
            assert!(error.message.contains(&format!("refused by {code}")), "{error}");
            assert!(on_close.is_freed() && on_close.calls() == 0);
        }
    }
    assert_recovered(&daemon);
}

#[test]
fn a_daemon_without_close_callbacks_and_keepalive_serves() {
    let daemon = start_small();
    for procedure in [Procedure::ConnectRegisterCloseCallback, Procedure::ConnectSupportsFeature] {
        let fault = ReplyFault::Error { code: 3, message: "no such thing".to_owned() };
        daemon.faults().reply(procedure, fault, Times::Always);
        let (connection, on_close) = open_watched(&daemon);
        drop(assert_serves(connection, &daemon));
        assert!(on_close.is_freed(), "{procedure:?}");
        assert_eq!(on_close.calls(), 0);
        daemon.faults().clear();
    }
    // Without the reply to a version, the rest is still told.
    let connection = open(&daemon);
    let fault = ReplyFault::Error { code: 3, message: "no such thing".to_owned() };
    daemon.faults().reply(Procedure::ConnectGetVersion, fault, Times::Always);
    let versions = connection.versions().unwrap();
    assert_eq!((&*versions.libvirt, &*versions.hypervisor), ("9.0.0", ""));
}

#[test]
fn a_late_reply_and_a_slow_domain_are_waited_for() {
    let daemon = start_small();
    let delay = Duration::from_millis(800);
    daemon.faults().reply(STATS, ReplyFault::Delay(delay), Times::Next(1));
    let ((connection, result), took) = start_fetch(open(&daemon), everything()).result(SOON);
    assert_eq!(result.unwrap().len(), 3);
    assert!(took >= delay);
    daemon.faults().delay_domain("vm-1", delay);
    let ((connection, result), took) = start_fetch(connection, everything()).result(SOON);
    assert_eq!(counts(&result.unwrap())["vm-1"], 47);
    assert!(took >= delay);
    // What needs no monitor does not wait.
    daemon.faults().delay_domain("vm-1", 10 * SOON);
    let request = StatsRequest { groups: StatsGroups::WITHOUT_MONITOR, ..everything() };
    let (connection, result) = fetch(connection, request);
    assert_eq!(result.unwrap().len(), 3);
    daemon.faults().clear();
    drop(assert_serves(connection, &daemon));
}

#[test]
fn a_frozen_domain_blocks_its_first_caller_only() {
    let daemon = start_small();
    daemon.faults().hang_domain("vm-1");
    let second = open(&daemon);
    let domain = second.lookup_domain(daemon.domains().get("vm-1").unwrap().uuid).unwrap();
    assert_eq!(domain.control_state(&second).unwrap(), ControlState::Ok);
    let nowait = StatsRequest { nowait: true, ..everything() };
    let blocked = start_fetch(open(&daemon), nowait);
    assert!(daemon.wait_until_hung("vm-1", SOON));
    std::thread::sleep(Duration::from_millis(200));

    let ((second, result), took) = start_fetch(second, nowait).result(SOON);
    let partial = result.unwrap();
    assert_no_wait(took, JOB_WAIT);
    let partial = partial.domains().find(|domain| domain.name == "vm-1").unwrap();
    let keys: Vec<&str> = partial.params().map(|param| param.key).collect();
    for key in ["state.state", "cpu.time", "balloon.current", "vcpu.0.time", "net.0.rx.bytes", "block.0.path"] {
        assert!(keys.contains(&key), "{key} is not in {keys:?}");
    }
    for key in ["balloon.rss", "block.0.rd.bytes", "dirtyrate.calc_status", "cpu.haltpoll.success.time"] {
        assert!(!keys.contains(&key), "{key}");
    }
    let ControlState::Occupied(since) = domain.control_state(&second).unwrap() else { panic!("not occupied") };
    assert!(since >= Duration::from_millis(200) && since < SOON, "{since:?}");
    // Who waits gets the same, later.
    let partial_keys = keys.len();
    let ((second, result), took) = start_fetch(second, everything()).result(SOON);
    assert!(took >= JOB_WAIT, "{took:?}");
    assert_eq!(counts(&result.unwrap())["vm-1"], partial_keys);
    // What asks no monitor is served as ever.
    let request = StatsRequest { groups: StatsGroups::WITHOUT_MONITOR, ..everything() };
    let ((second, result), took) = start_fetch(second, request).result(SOON);
    assert_no_wait(took, JOB_WAIT);
    assert_eq!(result.unwrap().len(), 3);
    assert_eq!(handles(&second).len(), 3);

    assert!(blocked.blocks_for(Duration::ZERO));
    daemon.release("vm-1");
    let ((first, result), _) = blocked.result(SOON);
    assert_eq!(counts(&result.unwrap())["vm-1"], 47);
    assert_eq!(domain.control_state(&second).unwrap(), ControlState::Ok);
    drop(assert_serves(second, &daemon));
    drop(assert_serves(first, &daemon));
}

#[test]
fn hung_calls_use_up_the_workers_but_not_those_with_priority() {
    let limits = Limits { max_workers: 20, job_wait: JOB_WAIT, ..Limits::default() };
    let daemon = start(Scenario::builder().domains(21, Template::small()).limits(limits));
    let names = daemon.domains().names();
    for name in &names[..20] {
        daemon.faults().hang_domain(name);
    }
    let hung: Vec<_> = (0..20)
        .map(|number| {
            let connection = open(&daemon);
            let uuid = daemon.domains().get(&names[number]).unwrap().uuid;
            fake::UnderWay::start(move || {
                let domain = connection.lookup_domain(uuid).unwrap();
                let mut records = Records::default();
                let result = connection.fetch_stats_of([&domain], everything(), &mut records);
                (connection, result.map(|()| records))
            })
        })
        .collect();
    assert!(names[..20].iter().all(|name| daemon.wait_until_hung(name, SOON)));
    let other = open(&daemon);
    let domains = handles(&other);
    assert!(matches!(domains[3].control_state(&other), Ok(ControlState::Occupied(_))));
    let request = StatsRequest { groups: StatsGroups::STATE, ..everything() };
    let waiting = start_fetch(other, request);
    assert!(waiting.blocks_for(Duration::from_secs(1)));
    for name in &names[..20] {
        daemon.release(name);
    }
    let ((other, result), _) = waiting.result(SOON);
    assert_eq!(result.unwrap().len(), 21);
    for call in hung {
        let ((connection, result), _) = call.result(SOON);
        assert_eq!(result.unwrap().param_count(), 47);
        assert!(connection.is_alive());
    }
    drop(domains);
    drop(assert_serves(other, &daemon));
}

#[test]
fn a_vm_that_dies_fails_the_call_of_an_old_libvirt_but_not_the_connection() {
    let daemon = start_small();
    daemon.faults().die_mid_call("vm-1");
    let (connection, result) = fetch(open(&daemon), everything());
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::Other(38), "{error}");
    assert!(error.message.contains("Unable to read from monitor: Connection reset by peer"), "{error}");
    let connection = assert_serves(connection, &daemon);
    // Without the groups that are fragile, the call goes on.
    daemon.domains().change("vm-1", Change::Start).unwrap();
    daemon.faults().die_mid_call("vm-1");
    let request = StatsRequest { groups: everything().groups.without(StatsGroups::FRAGILE), ..everything() };
    let (connection, result) = fetch(connection, request);
    let records = result.unwrap();
    assert_eq!((records.len(), records.domain(1).name, records.domain(1).id), (3, "vm-1", None));
    drop(assert_serves(connection, &daemon));
    // Nor does it matter to a newer libvirt.
    let daemon = start(small().libvirt_version(11_003_000));
    daemon.faults().die_mid_call("vm-1");
    let (_, result) = fetch(open(&daemon), everything());
    assert!(!result.unwrap().domain(1).is_active());
    assert_recovered(&daemon);
}

#[test]
fn a_reply_beyond_the_daemons_limit_is_too_large() {
    let daemon = start_small();
    daemon.faults().reply_limit(Some(3000));
    let (connection, result) = fetch(open(&daemon), everything());
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
    assert!(error.message.contains("Unable to encode message payload"), "{error}");
    let domains = handles(&connection);
    let mut records = Records::default();
    for domain in &domains {
        connection.fetch_stats_of([domain], everything(), &mut records).unwrap();
    }
    assert_eq!(counts(&records).into_values().collect::<Vec<_>>(), [47, 47, 47]);
    daemon.faults().clear();
    drop(domains);
    drop(assert_serves(connection, &daemon));
}

#[test]
fn more_records_than_allowed_are_too_large() {
    let daemon = start(small().limits(Limits { records_max: 2, ..Limits::default() }));
    let (connection, result) = fetch(open(&daemon), everything());
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
    assert!(error.message.contains("records is 3, which exceeds max limit: 2"), "{error}");
    daemon.domains().remove("vm-0").unwrap();
    drop(assert_serves(connection, &daemon));
}

#[test]
fn parameters_that_libvirt_cannot_take_fail_the_call_and_others_come() {
    let daemon = start_small();
    let mut connection = open(&daemon);
    let request = StatsRequest { groups: StatsGroups::STATE, ..everything() };
    for (name, fault, class, message) in [
        ("vm-0", ParamFault::UnknownType(9), ErrorClass::TooLarge, "Unable to decode message payload"),
        ("vm-2", ParamFault::UnknownType(9), ErrorClass::TooLarge, "Unable to decode message payload"),
        ("vm-0", ParamFault::LongString(5 << 20), ErrorClass::TooLarge, "Unable to decode message payload"),
        ("vm-0", ParamFault::LongKey(80), ErrorClass::Other(1), "too big for destination"),
        ("vm-2", ParamFault::LongKey(80), ErrorClass::Other(1), ""),
    ] {
        daemon.faults().param(name, fault.clone());
        let (same, result) = fetch(connection, request);
        let error = result.unwrap_err();
        assert_eq!(error.class, class, "{fault:?}: {error}");
        assert!(error.message.contains(message), "{fault:?}: {error}");
        daemon.faults().clear();
        connection = assert_serves(same, &daemon);
    }
    let key = format!("{:k<79}", "x.long_");
    let long = "s".repeat(1 << 20);
    for (fault, key, value) in [
        (ParamFault::LongKey(79), &*key, ParamValue::ULLong(79)),
        (ParamFault::NonUtf8String, "x.not_utf8", ParamValue::String("caf\u{fffd} \u{fffd}\u{fffd}")),
        (ParamFault::NonUtf8Key, "x.caf\u{fffd}", ParamValue::ULLong(1)),
        (ParamFault::LongString(1 << 20), "x.long_string", ParamValue::String(&long)),
    ] {
        daemon.faults().param("vm-1", fault.clone());
        let (same, result) = fetch(connection, request);
        let records = result.unwrap();
        let param = records.domain(1).params().last().unwrap();
        assert!(param.key == key && param.value == value, "{fault:?}: {} {:?}", param.key, param.value);
        assert_eq!(counts(&records).into_values().collect::<Vec<_>>(), [2, 3, 2]);
        daemon.faults().clear();
        connection = assert_serves(same, &daemon);
    }
}

#[test]
fn records_that_do_not_agree_with_the_listing_come_as_they_are() {
    let daemon = start_small();
    let connection = open(&daemon);
    let request = StatsRequest { groups: StatsGroups::STATE, ..everything() };
    let seen = || {
        let mut records = Records::default();
        connection.fetch_stats(request, |_, _| true, &mut records).unwrap();
        daemon.faults().clear();
        let middle = records.domains().filter(|domain| !["vm-0", "vm-2"].contains(&domain.name));
        middle.map(|domain| (domain.name.to_owned(), domain.id, domain.params().len())).collect::<Vec<_>>()
    };
    let vm = |name: &str, id| (name.to_owned(), id, 2);
    for (fault, expected) in [
        (RecordFault::Missing, vec![]),
        (RecordFault::Renamed("new".to_owned()), vec![vm("new", Some(2))]),
        (RecordFault::Renamed(String::new()), vec![vm("", Some(2))]),
        (RecordFault::ReId(Some(77)), vec![vm("vm-1", Some(77))]),
        (RecordFault::ReId(None), vec![vm("vm-1", None)]),
        (RecordFault::Twice, vec![vm("vm-1", Some(2)), vm("vm-1", Some(2))]),
    ] {
        daemon.faults().record("vm-1", fault.clone());
        assert_eq!(seen(), expected, "{fault:?}");
    }
    assert_eq!(seen(), [vm("vm-1", Some(2))]);
    let gone = Identity::from(&daemon.domains().remove("vm-1").unwrap());
    daemon.faults().ghost(gone);
    assert_eq!(seen(), [vm("vm-1", Some(2))]);
    drop(assert_serves(connection, &daemon));
}

#[test]
fn connections_of_several_threads_do_not_disturb_each_other() {
    let daemon = start(Scenario::builder().domains(50, Template::medium()));
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let connection = open(&daemon);
            fake::UnderWay::start(move || {
                for _ in 0..10 {
                    let mut records = Records::default();
                    connection.fetch_stats(everything(), |_, _| true, &mut records).unwrap();
                    assert_eq!(records.param_count(), 50 * 270);
                }
            })
        })
        .collect();
    for call in calls {
        call.result(4 * SOON);
    }
    assert_eq!(daemon.counters().calls(STATS), 40);
}
