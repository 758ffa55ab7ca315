use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::collect::DomainStatus;
use crate::config::{self, Group};
use crate::domains::{Definition, DefinitionFailure, Disk, DomainCounts, HostCounts, Metadata, PowerState, Snapshot};
use crate::encode::Format;
use crate::libvirt::{ErrorClass, Identity, LibvirtError, ParamValue, Records};

fn domain(name: &str, uuid: u128, id: Option<u32>) -> Domain {
    let disk = Disk { device: "vda".into(), alias: "virtio-disk0".into(), ..Disk::default() };
    let metadata = Metadata { os_type: "hvm".into(), disks: vec![disk], ..Metadata::default() };
    Domain {
        identity: Identity { name: name.into(), uuid: Uuid::from_u128(uuid), id },
        state: if id.is_some() { PowerState::Running } else { PowerState::ShutOff },
        flags: None,
        first_seen: UNIX_EPOCH,
        started: None,
        booted: None,
        attached: BTreeMap::new(),
        definition: Definition::Known(Arc::new(metadata)),
        agent_connected: None,
        counts: Arc::default(),
        addresses: None,
        selected: true,
    }
}

fn collection(domains: impl IntoIterator<Item = Domain>) -> Collection {
    let counts = HostCounts { lifecycle: BTreeMap::from([((2, 0), 1)]), ..HostCounts::default() };
    let all: Arc<[Arc<Domain>]> = domains.into_iter().map(Arc::new).collect();
    let running = all.iter().filter(|domain| domain.is_active()).map(|domain| DomainStatus {
        identity: domain.identity.clone(),
        missing: None,
        quarantined: None,
    });
    let domains = running.collect();
    let snapshot = Snapshot { domains: all, counts: Arc::new(counts), ..Snapshot::default() };
    Collection { domains, snapshot: Arc::new(snapshot), ..Collection::empty(UNIX_EPOCH, Instant::now()) }
}

/// What is shown beside the statistics of `records`, as text without comments.
fn shown_with(yaml: &str, records: &Records, collection: &Collection, selection: &Selection) -> Vec<String> {
    let config = config::parse(yaml, "test").expect("a valid configuration");
    let builder = FamilyBuilder::new(&config);
    let mut built = builder.build(&[records]);
    built.families.families.clear();
    append(&mut built, &builder, &config, collection, selection);
    let text = String::from_utf8(Format::Text.encode(&built.families)).expect("UTF-8");
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn lines(collection: &Collection) -> Vec<String> {
    shown_with("domains: {labels: [domain]}", &Records::default(), collection, &Selection::default())
}

/// The domains that have an info metric.
fn names(lines: &[String]) -> Vec<&str> {
    let rest = lines.iter().filter_map(|line| line.strip_prefix("libvirt_domain_info{domain=\""));
    rest.filter_map(|rest| rest.split('"').next()).collect()
}

const LIFECYCLE: &str = "libvirt_host_lifecycle_events_total{event=\"started\",detail=\"booted\"} 1";

#[test]
fn a_domain_is_shown_while_it_runs_or_has_statistics() {
    let unwanted = Domain { selected: false, ..domain("unwanted", 3, Some(3)) };
    let all = collection([domain("off", 1, None), domain("on", 2, Some(1)), unwanted, domain("a-off", 4, None)]);
    assert_eq!(names(&lines(&all)), ["on"]);
    let vanished = Collection { domains: Vec::new(), ..all.clone() };
    assert!(names(&lines(&vanished)).is_empty(), "gone before its statistics could be asked for");
    let mut records = Records::default();
    records.push_domain("off", Uuid::from_u128(1), None);
    records.push("state.state", ParamValue::Int(5));
    records.push_domain("unwanted", Uuid::from_u128(3), Some(3));
    let shown = shown_with("", &records, &all, &Selection::default());
    assert_eq!(names(&shown), ["off", "on"]);
    assert!(shown[0].contains("uuid=\"00000000-0000-0000-0000-000000000001\""), "{}", shown[0]);
}

#[test]
fn without_libvirt_no_domain_is_shown_but_what_has_happened_is() {
    let mut away = collection([domain("on", 1, Some(1))]);
    away.error = Some(LibvirtError::own("cannot connect", ErrorClass::ConnectFailed, "nothing listens"));
    assert_eq!(lines(&away), [LIFECYCLE]);
}

#[test]
fn a_narrowed_scrape_gets_what_belongs_to_it() {
    let all = collection([domain("web-1", 1, Some(1)), domain("db-1", 2, Some(2))]);
    let only = |groups: &[Group]| Selection { groups: Some(groups.iter().copied().collect()), ..Selection::default() };
    let shown = |yaml: &str, selection: &Selection| {
        let lines = shown_with(yaml, &Records::default(), &all, selection);
        let name = |line: &String| line.split('{').next().map(str::to_owned);
        lines.iter().filter_map(name).collect::<BTreeSet<_>>()
    };
    let block = BTreeSet::from(["libvirt_domain_block_info".to_owned()]);
    assert_eq!(shown("", &only(&[Group::Block])), block);
    assert_eq!(shown("", &only(&[Group::Vcpu])), BTreeSet::new());
    assert_eq!(shown("collection: {groups: [block, vcpu]}", &Selection::default()), block);
    assert_eq!(shown("metrics: {include: [libvirt_domain_block_.*]}", &Selection::default()), block);
    let domains = Selection {
        domains: crate::config::NamePatterns::new(vec!["web-.*".to_owned()]).expect("a regex"),
        ..Selection::default()
    };
    assert_eq!(names(&shown_with("", &Records::default(), &all, &domains)), ["web-1"]);
}

#[test]
fn two_domains_of_one_name_are_told_apart_or_shown_once() {
    let twins = collection([domain("twin", 2, Some(2)), domain("twin", 1, Some(1))]);
    assert_eq!(names(&lines(&twins)), ["twin"]);
    assert_eq!(names(&shown_with("", &Records::default(), &twins, &Selection::default())), ["twin", "twin"]);
}

#[test]
fn a_domain_has_the_name_of_its_definition_where_that_is_its_own() {
    let titled = |name: &str, uuid, title: &str| {
        let metadata = Metadata { title: title.into(), ..Metadata::default() };
        Domain { definition: Definition::Known(Arc::new(metadata)), ..domain(name, uuid, Some(1)) }
    };
    let domains = [
        titled("instance-1", 1, "web"),
        titled("instance-2", 2, "twin"),
        titled("instance-3", 3, "twin"),
        titled("instance-4", 4, ""),
        titled("instance-5", 5, "instance-4"),
        titled("same", 6, "same"),
    ];
    for labels in ["[domain, uuid]", "[domain]"] {
        let config = config::parse(&format!("domains: {{labels: {labels}, name_from: title}}"), "test").expect("good");
        let builder = FamilyBuilder::new(&config);
        let mut built = builder.build(&[&Records::default()]);
        append(&mut built, &builder, &config, &collection(domains.clone()), &Selection::default());
        crate::metrics::rename(&mut built, &config.domains.name_from, domains.iter());
        let text = String::from_utf8(Format::Text.encode(&built.families)).expect("UTF-8");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let expected = ["web", "instance-2", "instance-3", "instance-4", "instance-5", "same"];
        assert_eq!(names(&lines), expected, "{labels}");
        assert_eq!(labels.contains("uuid"), lines.iter().any(|line| line.contains("domain=\"web\",uuid=")));
    }
}

#[test]
fn errors_wait_for_the_name_of_their_disk() {
    let io_errors = BTreeMap::from([(("virtio-disk0".to_owned(), 1, "eio".to_owned()), 3)]);
    let counts = Arc::new(DomainCounts { io_errors, ..DomainCounts::default() });
    let errors = |definition: Definition| {
        let domain = Domain { counts: Arc::clone(&counts), definition, ..domain("on", 1, Some(1)) };
        let lines = lines(&collection([domain]));
        lines.into_iter().find(|line| line.starts_with("libvirt_domain_block_io_errors_total"))
    };
    let with = |device: &str| {
        Some(format!(
            "libvirt_domain_block_io_errors_total{{domain=\"on\",device=\"{device}\",action=\"pause\",reason=\"eio\"}} 3"
        ))
    };
    assert_eq!(errors(domain("on", 1, None).definition), with("vda"));
    assert_eq!(errors(Definition::Failed(DefinitionFailure::Malformed)), with("virtio-disk0"));
    assert_eq!(errors(Definition::Pending), None);
}

#[test]
fn counters_begin_with_the_run_that_they_are_of() {
    let began = Some(UNIX_EPOCH + Duration::from_secs(7));
    let on = |id| Domain { started: began, ..domain("on", 1, Some(id)) };
    let began_in = |collection: &Collection| {
        let config = Config::default();
        let builder = FamilyBuilder::new(&config);
        let mut built = builder.build(&collection.records());
        append(&mut built, &builder, &config, collection, &Selection::default());
        built.families.subjects.iter().filter_map(|subject| Some(subject.started.as_ref()?.process)).collect::<Vec<_>>()
    };
    assert_eq!(began_in(&collection([on(3)])), [began]);
    let mut records = Records::default();
    records.push_domain("on", Uuid::from_u128(1), Some(3));
    records.push("cpu.time", ParamValue::ULLong(5));
    let batches = vec![Arc::new(records)];
    assert_eq!(began_in(&Collection { batches: batches.clone(), ..collection([on(3)]) }), [began]);
    // It has started again since the record was made.
    assert_eq!(began_in(&Collection { batches, ..collection([on(4)]) }), [None]);
}

#[test]
fn guests_and_devices_begin_when_they_do() {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let interface = |device: &str, alias: &str, is_lasting| Interface {
        device: device.into(),
        alias: alias.into(),
        is_lasting,
        ..Interface::default()
    };
    let disk = |device: &str, alias: &str| Disk { device: device.into(), alias: alias.into(), ..Disk::default() };
    let metadata = Metadata {
        disks: vec![disk("vda", "virtio-disk0"), disk("vdb", "virtio-disk1")],
        interfaces: vec![interface("vnet0", "net0", false), interface("vhu1", "net1", true)],
        ..Metadata::default()
    };
    let moved = Domain {
        started: Some(at(7)),
        attached: BTreeMap::from([("virtio-disk1".to_owned(), at(9)), ("net0".to_owned(), at(8))]),
        definition: Definition::Known(Arc::new(metadata)),
        ..domain("on", 1, Some(3))
    };
    let start = |label, name: &str, at| DeviceStart { label, name: name.to_owned(), at };
    let expected = Started {
        incarnation: Some((Uuid::from_u128(1), 3)),
        process: Some(at(7)),
        guest: None,
        exporter: Some(at(0)),
        devices: vec![
            start("device", "vdb", Some(at(9))),
            start("interface", "vnet0", Some(at(8))),
            start("interface", "vhu1", None),
        ],
        seen: None,
    };
    let of = |domain: &Domain| {
        started(&[(SubjectId::HOST, domain)], &collection([domain.clone()]))
            .into_iter()
            .map(|(_, started)| started)
            .next()
    };
    assert_eq!(of(&moved), Some(expected.clone()));
    let booted = Domain { booted: Some(at(7)), ..moved };
    assert_eq!(of(&booted), Some(Started { guest: Some(at(7)), ..expected }));
}

#[test]
fn the_path_in_a_record_is_newer_than_that_in_the_definition() {
    let disk = |device: &str, source_type: &str, source: &str| Disk {
        device: device.into(),
        source_type: source_type.into(),
        source: source.into(),
        driver_type: "raw".into(),
        ..Disk::default()
    };
    let disks = vec![disk("vda", "file", "/old"), disk("vdb", "file", "/same"), disk("vdc", "network", "rbd:x")];
    let definition = Definition::Known(Arc::new(Metadata { disks, ..Metadata::default() }));
    let mut records = Records::default();
    records.push_domain("on", Uuid::from_u128(1), Some(1));
    let images =
        [("vda", Some("/new")), ("vda", Some("/old")), ("vdb", Some("/same")), ("vdc", None), ("vdc", Some("/copy"))];
    for (number, (name, path)) in images.into_iter().enumerate() {
        records.push(&format!("block.{number}.name"), ParamValue::String(name));
        if let Some(path) = path {
            records.push(&format!("block.{number}.path"), ParamValue::String(path));
        }
    }
    let batches = vec![Arc::new(records)];
    let collection = Collection { batches, ..collection([Domain { definition, ..domain("on", 1, Some(1)) }]) };
    let shown: Vec<String> =
        lines(&collection).into_iter().filter(|line| line.starts_with("libvirt_domain_block_info")).collect();
    let expected = [
        "device=\"vda\",disk_type=\"file\",path=\"/new\",readonly=\"false\"",
        "device=\"vdb\",disk_type=\"file\",path=\"/same\",driver_type=\"raw\",readonly=\"false\"",
        "device=\"vdc\",disk_type=\"network\",source=\"rbd:x\",driver_type=\"raw\",readonly=\"false\"",
    ];
    assert_eq!(shown, expected.map(|labels| format!("libvirt_domain_block_info{{domain=\"on\",{labels}}} 1")));
}

#[test]
fn what_is_unknown_has_no_sample() {
    let unknown = Domain { definition: Definition::Pending, ..domain("on", 1, Some(1)) };
    let shown = lines(&collection([unknown]));
    let zeros = ["reboots_total", "crashes_total", "control_errors_total", "device_removal_failures_total"];
    let mut expected = vec![LIFECYCLE.to_owned()];
    expected.extend(zeros.map(|name| format!("libvirt_domain_{name}{{domain=\"on\"}} 0")));
    assert_eq!(shown, expected);
}

proptest! {
    #[test]
    fn no_two_samples_share_name_and_labels(
        aliases in prop::collection::vec("(virtio-disk0|vda|\"|)", 0..4),
        errors in prop::collection::btree_map(("(virtio-disk0|vda|\"|x)", -1..12, "(eio|\\\\|)"), 1_u64..9, 0..12),
        jobs in prop::collection::btree_map(("vd[ab]", -1..12, -1..12), 1_u64..9, 0..12),
        watchdogs in prop::collection::btree_map(-1..12, 1_u64..9, 0..12),
    ) {
        let disk = |(number, alias)| Disk { device: format!("vd{number}"), alias, ..Disk::default() };
        let disks = aliases.into_iter().enumerate().map(disk).collect();
        let definition = Definition::Known(Arc::new(Metadata { disks, ..Metadata::default() }));
        let total: u64 = errors.values().sum();
        let counts = DomainCounts { io_errors: errors, block_jobs: jobs, watchdogs, ..DomainCounts::default() };
        let lines = lines(&collection([Domain { definition, counts: Arc::new(counts), ..domain("on", 1, Some(1)) }]));
        let series: BTreeSet<&str> = lines.iter().filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
        prop_assert_eq!(series.len(), lines.len());
        let errors = lines.iter().filter(|line| line.starts_with("libvirt_domain_block_io_errors_total"));
        let shown: u64 = errors.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
        prop_assert_eq!(shown, total);
    }
}
