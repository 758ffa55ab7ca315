//! The libvirt layer on the fake daemon: what it asks of one domain about its job, its snapshots, its disks and its guest.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;

use std::time::{Duration, UNIX_EPOCH};

use domstats_exporter::libvirt::{Access, Connection, DiskError, ErrorClass, Generation, ParamValue, Records};
use fake::{open, start};
use fake_libvirtd::domain::{Agent, Job, Node, uuid_of};
use fake_libvirtd::params::Value;
use fake_libvirtd::{Domain, DomainState, Procedure, ReplyFault, Scenario, Template, Times};

fn domain(name: &str) -> Domain {
    Domain::new(name, Template::small())
}

fn params(records: &Records) -> Vec<(&str, ParamValue<'_>)> {
    records.domain(0).params().map(|param| (param.key, param.value)).collect()
}

#[test]
fn a_job_is_told_while_it_runs() {
    let text = |key: &str| key.to_owned();
    let params_of_job = vec![(text("operation"), Value::Int(5)), (text("memory_remaining"), Value::ULLong(7))];
    let with = |kind| Some(Job { kind, params: params_of_job.clone() });
    let mut domains = ["idle", "bounded", "unbounded", "completed"].map(domain);
    for (number, domain) in domains.iter_mut().enumerate().skip(1) {
        domain.job = with(i32::try_from(number).unwrap());
    }
    let scenario = domains.into_iter().fold(Scenario::builder(), fake_libvirtd::ScenarioBuilder::domain);
    let daemon = start(scenario.domain(domain("off").with_state(DomainState::Shutoff)));
    let connection = open(&daemon);
    let ask = |name: &str| connection.lookup_domain(uuid_of(name)).unwrap().job_stats(&connection);
    for name in ["bounded", "unbounded"] {
        let job = ask(name).unwrap().expect("a job");
        let expected = [("operation", ParamValue::Int(5)), ("memory_remaining", ParamValue::ULLong(7))];
        assert_eq!(params(&job), expected);
    }
    for name in ["idle", "completed", "off"] {
        assert!(ask(name).unwrap().is_none(), "{name}");
    }
    // What the host says to which a guest is migrating.
    let message = "migration statistics are available only on the source host".to_owned();
    daemon.faults().reply(Procedure::DomainGetJobStats, ReplyFault::Error { code: 55, message }, Times::Next(1));
    assert!(ask("idle").unwrap().is_none());
    let message = "denied".to_owned();
    daemon.faults().reply(Procedure::DomainGetJobStats, ReplyFault::Error { code: 88, message }, Times::Next(1));
    assert_eq!(ask("idle").unwrap_err().class, ErrorClass::PermissionDenied);
    let gone = connection.lookup_domain(uuid_of("idle")).unwrap();
    daemon.domains().remove("idle").unwrap();
    assert_eq!(gone.job_stats(&connection).unwrap_err().class, ErrorClass::VanishedDomain);
}

#[test]
fn snapshots_and_checkpoints_are_read_by_generation() {
    let node = |name: &str, parent: Option<&str>| Node {
        name: name.to_owned(),
        parent: parent.map(str::to_owned),
        created: 1_700_000_000,
        ..Node::default()
    };
    let mut tree = domain("tree");
    let leaf = Node { external: true, current: true, ..node("leaf", Some("middle")) };
    tree.snapshots = vec![node("root", None), node("middle", Some("root")), leaf, node("other", Some("root"))];
    tree.checkpoints = vec![node("only", None)];
    let daemon = start(Scenario::builder().domain(tree).domain(domain("bare")));
    let connection = open(&daemon);
    let tree = connection.lookup_domain(uuid_of("tree")).unwrap();
    let count = |which| tree.snapshots(&connection, which).unwrap().len();
    assert_eq!([Generation::All, Generation::Roots, Generation::Leaves].map(count), [4, 1, 2]);
    let root = &tree.snapshots(&connection, Generation::Roots).unwrap()[0];
    let xml = root.xml_description(&connection).unwrap();
    assert!(xml.contains("<name>root</name>") && xml.contains("<creationTime>1700000000<"), "{xml}");
    let current = tree.current_snapshot(&connection).unwrap().expect("a current one");
    assert!(current.xml_description(&connection).unwrap().contains("snapshot='external'"));
    let checkpoints = tree.checkpoints(&connection, Generation::Leaves).unwrap();
    assert!(checkpoints[0].xml_description(&connection).unwrap().contains("<name>only</name>"));

    let bare = connection.lookup_domain(uuid_of("bare")).unwrap();
    assert!(bare.snapshots(&connection, Generation::All).unwrap().is_empty());
    assert!(bare.checkpoints(&connection, Generation::Roots).unwrap().is_empty());
    assert!(bare.current_snapshot(&connection).unwrap().is_none());
    // It is deleted between the list and the question.
    daemon.domains().update("tree", |domain| domain.snapshots.clear()).unwrap();
    assert_eq!(root.xml_description(&connection).unwrap_err().class, ErrorClass::Other(72));
    drop(daemon);
}

#[test]
fn a_guest_agent_says_what_it_likes() {
    let mut guest = domain("guest");
    let info = vec![
        ("os.id".to_owned(), Value::String("debian".to_owned())),
        ("hostname".to_owned(), Value::String("in\u{1b}side".to_owned())),
        ("fs.0.total-bytes".to_owned(), Value::ULLong(4096)),
    ];
    let vcpus = vec![("vcpus".to_owned(), Value::String("0-1".to_owned()))];
    guest.agent = Some(Agent { info, vcpus, seconds: -5 });
    let daemon = start(Scenario::builder().domain(guest).domain(domain("bare")));
    let connection = Connection::open(&daemon.uri(), Access::ReadWrite, || {}).unwrap();
    let guest = connection.lookup_domain(uuid_of("guest")).unwrap();
    let said = guest.guest_info(&connection).unwrap();
    let expected = [
        ("os.id", ParamValue::String("debian")),
        ("hostname", ParamValue::String("in\u{1b}side")),
        ("fs.0.total-bytes", ParamValue::ULLong(4096)),
    ];
    assert_eq!(params(&said), expected);
    assert_eq!(guest.guest_time(&connection).unwrap(), UNIX_EPOCH - Duration::from_secs(5));

    assert_eq!(params(&guest.guest_vcpus(&connection).unwrap()), [("vcpus", ParamValue::String("0-1"))]);

    let bare = connection.lookup_domain(uuid_of("bare")).unwrap();
    assert!(matches!(bare.guest_info(&connection).unwrap_err().class, ErrorClass::Other(74 | 86)));
    daemon.faults().silence_agent("guest", Duration::from_millis(50));
    assert_eq!(guest.guest_info(&connection).unwrap_err().class, ErrorClass::Other(86));
    assert_eq!(guest.guest_time(&connection).unwrap_err().class, ErrorClass::Other(86));
    assert_eq!(guest.guest_vcpus(&connection).unwrap_err().class, ErrorClass::Other(86));
    let looking = open(&daemon);
    let guest = looking.lookup_domain(uuid_of("guest")).unwrap();
    assert_eq!(guest.guest_info(&looking).unwrap_err().class, ErrorClass::ReadOnly);
}

#[test]
fn disks_with_errors_are_named() {
    let mut stopped = domain("stopped").with_state(DomainState::Paused);
    stopped.disk_errors = vec![("vda".to_owned(), 2), ("sdb".to_owned(), 1)];
    let daemon = start(
        Scenario::builder()
            .domain(stopped)
            .domain(domain("well"))
            .domain(domain("off").with_state(DomainState::Shutoff)),
    );
    let connection = open(&daemon);
    let ask = |name: &str| connection.lookup_domain(uuid_of(name)).unwrap().disk_errors(&connection);
    let error = |device: &str, code| DiskError { device: device.to_owned(), code };
    assert_eq!(ask("stopped").unwrap(), [error("vda", 2), error("sdb", 1)]);
    assert_eq!(ask("well").unwrap(), []);
    assert_eq!(ask("off").unwrap_err().class, ErrorClass::Other(55));
}
