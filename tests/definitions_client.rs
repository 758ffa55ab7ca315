//! Listings, definitions, addresses and the host's name as the libvirt layer reads them: on the fake daemon, and on the
//! driver within the library.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;

use std::net::IpAddr;
use std::time::Duration;

use domstats_exporter::libvirt::{
    Access, AddressSource, Connection, Domain, DomainList, ErrorClass, InterfaceAddresses, LibvirtError, Messages,
};
use fake::{SOON, UnderWay, open, start, start_small, within};
use fake_libvirtd::domain::{Interface, Node};
use fake_libvirtd::{Domain as Served, DomainState, FakeLibvirtd, Procedure, ReplyFault, Scenario, Template, Times};

/// One domain of a connection, by name.
fn domain(connection: &Connection, name: &str) -> Domain {
    let domains = connection.list_domains(DomainList::All).unwrap();
    domains.into_iter().find(|domain| domain.identity().name == name).unwrap()
}

fn addresses(
    daemon: &FakeLibvirtd,
    name: &str,
    source: AddressSource,
) -> Result<Vec<InterfaceAddresses>, LibvirtError> {
    let connection = open(daemon);
    domain(&connection, name).addresses(&connection, source)
}

#[test]
fn a_listing_has_what_it_is_asked_for() {
    let served = |name: &str, state| Served::new(name, Template::small()).with_state(state);
    let mut transient = served("run", DomainState::Running);
    transient.persistent = false;
    let mut paused = served("paused", DomainState::Paused);
    paused.autostart = true;
    let mut off = served("off", DomainState::Shutoff);
    off.managed_save = true;
    let mut asleep = served("asleep", DomainState::PmSuspended);
    asleep.snapshots = Node::only("snapshot");
    let mut crashed = served("crashed", DomainState::Crashed);
    crashed.checkpoints = Node::only("checkpoint");
    let domains = [transient, paused, off, asleep, crashed];
    let daemon = start(domains.into_iter().fold(Scenario::builder(), |builder, domain| builder.domain(domain)));
    let connection = open(&daemon);
    for (which, names) in [
        (DomainList::All, &["run", "paused", "off", "asleep", "crashed"][..]),
        (DomainList::Active, &["run", "paused", "asleep"]),
        (DomainList::Inactive, &["off", "crashed"]),
        (DomainList::Running, &["run"]),
        (DomainList::Paused, &["paused"]),
        (DomainList::ShutOff, &["off"]),
        (DomainList::Other, &["asleep", "crashed"]),
        (DomainList::Persistent, &["paused", "off", "asleep", "crashed"]),
        (DomainList::Autostart, &["paused"]),
        (DomainList::ManagedSave, &["off"]),
        (DomainList::HasSnapshot, &["asleep"]),
        (DomainList::HasCheckpoint, &["crashed"]),
    ] {
        let listed: Vec<_> = connection.list_domains(which).unwrap().iter().map(Domain::identity).collect();
        assert_eq!(listed.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), names, "{which:?}");
        for one in &listed {
            let served = daemon.domains().get(&one.name).unwrap();
            assert_eq!((one.uuid, one.id), (served.uuid, served.id));
        }
    }
}

#[test]
fn the_hosts_name_is_the_daemons() {
    let daemon = start_small();
    let connection = open(&daemon);
    assert_eq!(connection.hostname().unwrap(), "fakehost");
    let fault = ReplyFault::Error { code: 3, message: "no".to_owned() };
    daemon.faults().reply(Procedure::ConnectGetHostname, fault, Times::Next(1));
    let error = connection.hostname().unwrap_err();
    assert_eq!((error.class, error.operation.as_str()), (ErrorClass::NotSupported, "cannot ask for the host's name"));
    daemon.kill();
    assert_eq!(within(SOON, move || connection.hostname().unwrap_err()).class, ErrorClass::Disconnected);
}

#[test]
fn a_definition_comes_as_it_is() {
    let xml = format!("<domain><title>t\u{fc}r &amp; \u{1f5a5}</title><x>{}</x></domain>\n", "y".repeat(3 << 20));
    let mut large = Served::new("large", Template::small());
    large.xml = Some(xml.clone());
    let mut beyond = Served::new("beyond", Template::small());
    beyond.xml = Some("x".repeat((4 << 20) + 1));
    let daemon = start(Scenario::builder().domain(Served::new("vm", Template::small())).domain(large).domain(beyond));
    let connection = open(&daemon);
    let read = |name| domain(&connection, name).xml_description(&connection);
    let small = read("vm").unwrap();
    assert!(small.starts_with("<domain type='") && small.contains("<name>vm</name>") && small.ends_with("</domain>\n"));
    assert_eq!(read("large").unwrap(), xml);
    // The protocol ends at 4 MiB.
    let error = read("beyond").unwrap_err();
    assert_eq!((error.class, error.operation.as_str()), (ErrorClass::TooLarge, "cannot read a domain's definition"));
    assert!(connection.is_alive());
    let gone = domain(&connection, "vm");
    daemon.domains().remove("vm").unwrap();
    assert_eq!(gone.xml_description(&connection).unwrap_err().class, ErrorClass::VanishedDomain);
}

#[test]
fn warnings_are_counted_by_kind() {
    let mut warned = Served::new("warned", Template::small());
    let messages = [(1, "deprecated configuration: machine type"), (2, "tainted: custom monitor"), (2, "tainted: x")];
    warned.messages = messages.map(|(kind, message)| (kind, message.to_owned())).to_vec();
    let daemon = start(Scenario::builder().domain(Served::new("vm", Template::small())).domain(warned));
    let connection = open(&daemon);
    let count = |name| domain(&connection, name).messages(&connection);
    assert_eq!(count("vm"), Ok(Messages::default()));
    assert_eq!(count("warned"), Ok(Messages { deprecation: 1, tainting: 2 }));
    let fault = ReplyFault::Error { code: 3, message: "no".to_owned() };
    daemon.faults().reply(Procedure::DomainGetMessages, fault, Times::Next(1));
    assert_eq!(count("vm").unwrap_err().class, ErrorClass::NotSupported);
}

#[test]
fn a_definition_of_a_busy_domain_waits_and_ends_with_its_connection() {
    let daemon = start_small();
    let connection = open(&daemon);
    daemon.faults().reply(Procedure::DomainGetXmlDesc, ReplyFault::Swallow, Times::Always);
    let handle = domain(&connection, "vm-1");
    let reading = UnderWay::start(move || handle.xml_description(&connection).unwrap_err());
    assert!(reading.blocks_for(Duration::from_millis(300)));
    daemon.kill();
    assert_eq!(reading.result(SOON).0.class, ErrorClass::Disconnected);
}

#[test]
fn addresses_come_by_interface() {
    let interface = |name: &str, hwaddr: &str, addresses: &[(&str, u32)]| Interface {
        name: name.to_owned(),
        hwaddr: hwaddr.to_owned(),
        addresses: addresses.iter().map(|(address, prefix)| ((*address).to_owned(), *prefix)).collect(),
    };
    let mut served = Served::new("vm", Template::small());
    served.interfaces = Some(vec![
        interface("vnet0", "52:54:00:AB:CD:EF", &[("192.0.2.7", 24), ("fe80::1", 64), ("2001:db8::7", 64)]),
        interface("vnet1", "", &[("not an address", 0), ("::1", 128), ("fe80::1%eth0", 64)]),
        interface("vnet2", "52:54:00:00:00:02", &[]),
    ]);
    let off = Served::new("off", Template::small()).with_state(DomainState::Shutoff);
    let daemon = start(Scenario::builder().domain(served).domain(off));
    let expected = |name: &str, mac: &str, addresses: &[&str]| InterfaceAddresses {
        name: name.to_owned(),
        mac: mac.to_owned(),
        addresses: addresses.iter().map(|address| address.parse::<IpAddr>().unwrap()).collect(),
    };
    for source in [AddressSource::Lease, AddressSource::Arp] {
        assert_eq!(
            addresses(&daemon, "vm", source).unwrap(),
            [
                expected("vnet0", "52:54:00:ab:cd:ef", &["192.0.2.7", "fe80::1", "2001:db8::7"]),
                expected("vnet1", "", &["::1"]),
                expected("vnet2", "52:54:00:00:00:02", &[]),
            ]
        );
        assert_eq!(addresses(&daemon, "off", source).unwrap_err().class, ErrorClass::Other(55));
    }
}

#[test]
fn every_source_has_its_own_addresses() {
    let text = |text: &str| text.to_owned();
    let interfaces = |name: &str, address: &str| {
        Some(vec![Interface { name: text(name), hwaddr: text(""), addresses: vec![(text(address), 24)] }])
    };
    let mut served = Served::new("vm", Template::small());
    served.interfaces = Some(Vec::new());
    served.neighbours = interfaces("vnet0", "192.0.2.1");
    served.agent_interfaces = interfaces("eth0", "192.0.2.2");
    let daemon = start(Scenario::builder().domain(served));
    let uri = daemon.uri();
    let connection = within(SOON, move || Connection::open(&uri, Access::ReadWrite, || {})).unwrap();
    let domain = domain(&connection, "vm");
    let from = |source| {
        let found = domain.addresses(&connection, source).unwrap();
        found.into_iter().map(|one| (one.name, one.addresses[0].to_string())).collect::<Vec<_>>()
    };
    assert_eq!(from(AddressSource::Lease), []);
    assert_eq!(from(AddressSource::Arp), [(text("vnet0"), text("192.0.2.1"))]);
    assert_eq!(from(AddressSource::Agent), [(text("eth0"), text("192.0.2.2"))]);
}

#[test]
fn the_agent_is_asked_on_a_read_write_connection_only() {
    let daemon = start_small();
    assert_eq!(addresses(&daemon, "vm-0", AddressSource::Agent).unwrap_err().class, ErrorClass::ReadOnly);
    let uri = daemon.uri();
    let connection = within(SOON, move || Connection::open(&uri, Access::ReadWrite, || {})).unwrap();
    let error = domain(&connection, "vm-0").addresses(&connection, AddressSource::Agent).unwrap_err();
    // There is no agent, but that is another matter.
    assert!(matches!(error.class, ErrorClass::Other(_)), "{error}");
    assert!(error.to_string().starts_with("cannot ask for a domain's addresses: "), "{error}");
}

#[test]
fn errors_say_which_access_was_wanted() {
    let daemon = start_small();
    for (access, words, setting) in [
        (Access::ReadOnly, " read-only: ", "unix_sock_ro_perms"),
        (Access::ReadWrite, " read-write: ", "unix_sock_rw_perms"),
    ] {
        let fault = ReplyFault::Error { code: 45, message: "authentication failed".to_owned() };
        daemon.faults().reply(Procedure::ConnectOpen, fault, Times::Next(1));
        let uri = daemon.uri();
        let error = within(SOON, move || Connection::open(&uri, access, || {})).unwrap_err();
        assert_eq!((error.class, error.access), (ErrorClass::PermissionDenied, Some(access)));
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot open {}{words}", daemon.uri())), "{text}");
        assert!(text.contains(setting), "{text}");
        let uri = "qemu+unix:///system?socket=/nowhere";
        let error = within(SOON, move || Connection::open(uri, access, || {})).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot open {uri}{words}")), "{error}");
    }
}

/// The driver within the library has one domain, with made-up addresses.
#[test]
fn a_driver_within_the_library_is_read_the_same_way() {
    let connection = Connection::open("test:///default", Access::ReadOnly, || {}).unwrap();
    let test = domain(&connection, "test");
    assert!(!connection.hostname().unwrap().is_empty());
    assert!(test.xml_description(&connection).unwrap().contains("<name>test</name>"));
    assert_eq!(test.identity().id, Some(1));
    // It may have no interface, but it answers.
    test.addresses(&connection, AddressSource::Lease).unwrap();
}
