//! Events, definitions and addresses of real libvirt with a real QEMU guest, on this machine's libvirt and on newer ones.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]
#![allow(unreachable_pub, dead_code, missing_docs)]

#[path = "support/lab.rs"]
mod lab;

use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use domstats_exporter::libvirt::{
    Access, AddressSource, Connection, Domain, DomainList, ErrorClass, Event, EventKind, EventSink, JobOutcome,
};
use lab::{Lab, Suite};

/// More than a busy machine takes for anything here.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn this_machines_libvirt_tells_what_happens() {
    tell(Suite::Machine);
}

#[test]
fn debian_trixies_libvirt_tells_what_happens() {
    tell(Suite::Debian("trixie"));
}

#[test]
fn debian_sids_libvirt_tells_what_happens() {
    tell(Suite::Debian("sid"));
}

/// Waits for an event; those before it are of the same domain, and of no interest.
fn expect(events: &Receiver<Event>, name: &str, wanted: impl Fn(&EventKind) -> bool) -> Event {
    let mut before = Vec::new();
    loop {
        let Ok(event) = events.recv_timeout(SOON) else { panic!("what was waited for never came; but {before:?}") };
        assert_eq!(event.domain.name, name, "{event:?}");
        if wanted(&event.kind) {
            return event;
        }
        before.push(event.kind);
    }
}

/// A guest's life from its definition to its end.
fn tell(suite: Suite) {
    let lab = Lab::start(suite).unwrap();
    let name = lab.guests(&["old"]).unwrap().remove(0);
    let connection = Connection::open(&lab.uri_ro, Access::ReadOnly, || {}).unwrap();
    let (sender, events) = channel();
    let sink: EventSink = Arc::new(move |event| drop(sender.send(event)));
    let watched = connection.watch_events(sink).unwrap();
    println!("{:?}: {watched:?}", connection.versions().unwrap());
    assert!(watched.known.len() >= 24 && watched.known.len() + watched.unknown.len() == 27);
    let lifecycle = |event, detail| expect(&events, &name, |kind| *kind == EventKind::Lifecycle { event, detail });
    let one = |kind: EventKind| expect(&events, &name, |other| *other == kind);

    // A controller whose devices go when they are told to; the guest has no system that could say yes.
    let file = lab.folder().join("usb.xml");
    let xml = lab.virsh(&["dumpxml", &name]).unwrap();
    let with_usb = xml.replace("type='usb' index='0' model='none'", "type='usb' index='0' model='qemu-xhci'");
    assert_ne!(xml, with_usb);
    fs::write(&file, with_usb).unwrap();
    lab.virsh(&["define", file.to_str().unwrap()]).unwrap();
    assert_eq!(lifecycle(0, 1).domain.id, None);
    lab.virsh(&["start", &name]).unwrap();
    let started = lifecycle(2, 0).domain;
    let listed = connection.list_domains(DomainList::Running).unwrap();
    assert_eq!(listed.iter().map(Domain::identity).collect::<Vec<_>>(), std::slice::from_ref(&started));
    assert!(started.id.is_some());

    let domain = connection.lookup_domain(started.uuid).unwrap();
    assert_eq!(connection.hostname().unwrap(), lab.virsh(&["hostname"]).unwrap().trim());
    let same = lab.virsh(&["dumpxml", &name]).unwrap();
    assert_eq!(domain.xml_description(&connection).unwrap().trim(), same.trim());
    for source in [AddressSource::Lease, AddressSource::Arp] {
        // It has no NIC. Daemons without a network driver (code 5) say so, and 9.0 cannot read an empty table of neighbours.
        match domain.addresses(&connection, source) {
            Ok(found) => assert_eq!(found, []),
            Err(error) => assert!([ErrorClass::Other(5), ErrorClass::Other(1)].contains(&error.class), "{error}"),
        }
    }

    lab.virsh(&["suspend", &name]).unwrap();
    assert_eq!(lifecycle(3, 0).domain, started);
    lab.virsh(&["resume", &name]).unwrap();
    lifecycle(4, 0);
    lab.virsh(&["desc", &name, "--live", "--title", "A new title"]).unwrap();
    one(EventKind::MetadataChange);
    assert!(domain.xml_description(&connection).unwrap().contains("<title>A new title</title>"));

    let device = lab.folder().join("device.xml");
    fs::write(&device, "<input type='mouse' bus='usb'/>").unwrap();
    lab.virsh(&["attach-device", &name, device.to_str().unwrap(), "--live"]).unwrap();
    let added = expect(&events, &name, |kind| matches!(kind, EventKind::DeviceAdded { .. })).kind;
    let EventKind::DeviceAdded { alias } = added else { panic!("{added:?}") };
    assert!(domain.xml_description(&connection).unwrap().contains(&format!("<alias name='{alias}'/>")), "{alias}");
    lab.virsh(&["detach-device", &name, device.to_str().unwrap(), "--live"]).unwrap();
    one(EventKind::DeviceRemoved { alias });

    let copy = lab.folder().join("disks/copy");
    let copy = copy.to_str().unwrap();
    lab.virsh(&["blockcopy", &name, "vda", copy, "--transient-job", "--wait", "--pivot"]).unwrap();
    for status in [3, 0] {
        one(EventKind::BlockJob { device: "vda".to_owned(), job: 2, status });
    }
    lab.virsh(&["reset", &name]).unwrap();
    one(EventKind::Reboot);

    lab.virsh(&["managedsave", &name]).unwrap();
    let saved = expect(&events, &name, |kind| matches!(kind, EventKind::JobCompleted(_))).kind;
    // libvirt says only of backups whether they succeeded; of other jobs only success is an event.
    let EventKind::JobCompleted(JobOutcome { operation: 2, success: None, duration: Some(duration), .. }) = saved
    else {
        panic!("{saved:?}")
    };
    assert!(!duration.is_zero() && duration < SOON, "{duration:?}");
    assert_eq!(lifecycle(5, 4).domain.id, None);
    assert_eq!(connection.list_domains(DomainList::ManagedSave).unwrap().len(), 1);
    lab.virsh(&["start", &name]).unwrap();
    let restored = lifecycle(2, 2).domain;
    assert!(restored.id > started.id, "{restored:?}");
    lab.virsh(&["destroy", &name]).unwrap();
    lifecycle(5, 1);
    let renamed = format!("{name}-renamed");
    lab.virsh(&["domrename", &name, &renamed]).unwrap();
    lifecycle(1, 1);
    let kind = EventKind::Lifecycle { event: 0, detail: 2 };
    assert_eq!(expect(&events, &renamed, |other| *other == kind).domain.uuid, started.uuid);
    lab.virsh(&["undefine", &renamed]).unwrap();
    expect(&events, &renamed, |kind| *kind == EventKind::Lifecycle { event: 1, detail: 0 });
    drop(domain);
    drop(connection);
    assert!(events.recv().is_err(), "no event, and no sender");
}
