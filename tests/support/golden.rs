//! The golden cases: `tests/golden/<case>.params` as records, with the configuration that the case asks for. Those called
//! `inventory` and so on also have what definitions and events say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use domstats_exporter::collect::{Collection, DomainStatus, Reading, Selection};
use domstats_exporter::config::{self, Config, Group};
use domstats_exporter::domains::{
    AddressSource, Addresses, Definition, Domain, DomainCounts, Flags, HostCounts, InterfaceAddresses, Metadata,
    PowerState, Snapshot, parse_definition,
};
use domstats_exporter::libvirt::{
    EventKind, Identity, JobOutcome, Messages, ObjectEvent, ObjectKind, ParamValue, Records,
};
use domstats_exporter::metrics::{Families, FamilyBuilder, domain_metrics};
use domstats_exporter::tables::Source;
use fake_libvirtd::params::{self, Value};

/// Where the cases are.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The names of all cases, in order.
pub(crate) fn cases() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("the folder of the golden cases");
    let paths = entries.map(|entry| entry.expect("an entry of the folder").path());
    let inputs = paths.filter(|path| path.extension().is_some_and(|extension| extension == "params"));
    let mut cases: Vec<String> = inputs.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    cases.sort();
    cases
}

/// A case: the configuration of its `# config: ` comment (YAML on one line), and its records.
pub(crate) fn load(case: &str) -> (Config, Records) {
    let path = folder().join(case).with_extension("params");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let config = text.lines().find_map(|line| line.strip_prefix("# config: ")).unwrap_or_default();
    let config = config::parse(config, case).unwrap_or_else(|error| panic!("{case}: {error}"));
    (config, records(&text).unwrap_or_else(|error| panic!("{case}: {error}")))
}

/// The records that a text in the format of the golden cases describes.
pub(crate) fn records(text: &str) -> Result<Records, params::ParseError> {
    let mut records = Records::default();
    for domain in params::parse(text)? {
        records.push_domain(&domain.name, domain.uuid, domain.id);
        for (key, value) in &domain.params {
            let value = match value {
                Value::Int(value) => ParamValue::Int(*value),
                Value::UInt(value) => ParamValue::UInt(*value),
                Value::LLong(value) => ParamValue::LLong(*value),
                Value::ULLong(value) => ParamValue::ULLong(*value),
                Value::Double(value) => ParamValue::Double(*value),
                Value::Boolean(value) => ParamValue::Boolean(*value),
                Value::String(value) => ParamValue::String(value),
                Value::Unknown(tag) => ParamValue::Unknown(*tag),
            };
            records.push(key, value);
        }
    }
    Ok(records)
}

/// What libvirt's bulk statistics give, and what background probes: the objects of a case whose first key is of such a group.
pub(crate) fn sources(records: &Records) -> (Records, Vec<Reading>) {
    let (mut of_stats, mut readings) = (Records::default(), Vec::new());
    for record in records.domains() {
        let group = record.params().next().and_then(|param| Group::of_key(param.key));
        let group = group.filter(|group| group.info().source == Source::Probe);
        let mut alone = Records::default();
        let records = if group.is_some() { &mut alone } else { &mut of_stats };
        records.push_domain(record.name, record.uuid, record.id);
        record.params().for_each(|param| records.push(param.key, param.value));
        let until = std::time::Instant::now();
        readings.extend(group.map(|group| Reading { probe: group.as_str(), group, until, records: Arc::new(alone) }));
    }
    (of_stats, readings)
}

/// The families of a case, without those of the exporter itself.
pub(crate) fn families(case: &str) -> Families {
    let (config, records) = load(case);
    let (records, readings) = sources(&records);
    let readings: Vec<&Reading> = readings.iter().collect();
    let builder = FamilyBuilder::new(&config);
    // Every image with a number is in the chain of its disk.
    let mut built = builder.build_with(&[&records], &readings, &|_, _, _| Some(true));
    let known = if case.starts_with("inventory") { snapshot(&config) } else { Snapshot::default() };
    let running = known.domains.iter().filter(|target| target.is_active());
    let status =
        |target: &Arc<Domain>| DomainStatus { identity: target.identity.clone(), missing: None, quarantined: None };
    let domains = running.map(status).collect();
    let collection =
        Collection { domains, snapshot: Arc::new(known), ..Collection::empty(UNIX_EPOCH, std::time::Instant::now()) };
    domain_metrics::append(&mut built, &builder, &config, &collection, &Selection::default());
    Families { openmetrics_created: config.web.openmetrics_created, ..built.families }
}

/// Domains with definitions: one that runs and has been through everything, one that may not use all of its host, one that is
/// shut off, and one that is shut off without statistics. Another has not been read yet.
fn snapshot(config: &Config) -> Snapshot {
    let target = |name: &str, uuid: u128, id: Option<u32>, definition: Definition| Domain {
        identity: Identity { name: name.into(), uuid: uuid::Uuid::from_u128(uuid), id },
        state: if id.is_some() { PowerState::Running } else { PowerState::ShutOff },
        flags: Some(Flags { persistent: true, ..Flags::default() }),
        first_seen: started() - Duration::from_secs(3600),
        started: None,
        booted: None,
        attached: BTreeMap::new(),
        definition,
        agent_connected: None,
        counts: Arc::default(),
        addresses: None,
        selected: true,
    };
    let defined = |file: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/definitions").join(file);
        let xml = fs::read_to_string(path).expect("a definition");
        let metadata = parse_definition(&xml, &config.metadata.labels).expect("a definition");
        let messages = Some(Messages { deprecation: 1, tainting: 2 });
        Definition::Known(Arc::new(Metadata { messages, ..metadata }))
    };
    let mut host = HostCounts::default();
    let mut counts = DomainCounts::default();
    for (number, event) in (0_u64..).zip(events()) {
        host.count(&event, false);
        counts.count(&event, started() + Duration::from_secs(2 * number));
    }
    host.objects = [
        ((ObjectKind::Pool, ObjectEvent::Lifecycle(2)), 1),
        ((ObjectKind::Pool, ObjectEvent::Refreshed), 3),
        ((ObjectKind::Network, ObjectEvent::Lifecycle(3)), 1),
    ]
    .into();
    let web = Domain {
        flags: Some(Flags {
            autostart: true,
            persistent: true,
            managed_save: true,
            has_snapshots: true,
            has_checkpoints: true,
        }),
        started: Some(started()),
        agent_connected: Some(true),
        counts: Arc::new(counts),
        addresses: Some(Some(Arc::new(addresses()))),
        ..target("web", 0x6d2c_5a0e_3f47_4c0d_9a53_0d1e_2f3a_4b5c, Some(3), defined("web.xml"))
    };
    let billing = target("instance-0000002a", 0x0f2f_9d6e_8c1b_4a67_9b5e_3f2d_1c0b_9a88, None, defined("nova.xml"));
    let unseen = target("unseen", 1, None, defined("nova.xml"));
    let limited = target("limited", 0x2d9c_7a55_52c0_4d7e_8f0e_6a1b_2c3d_4e5f, Some(7), defined("limits.xml"));
    let new = Domain { flags: None, ..target("new", 2, Some(4), Definition::Pending) };
    Snapshot {
        domains: [unseen, new, billing, limited, web].map(Arc::new).into(),
        counts: Arc::new(host),
        resyncs: BTreeMap::new(),
        hostname: "host".into(),
        ..Snapshot::default()
    }
}

/// What a guest agent says: one NIC of the definition, and a device of the guest's own.
fn addresses() -> Addresses {
    let of = |name: &str, mac: &str, addresses: &[&str]| InterfaceAddresses {
        name: name.into(),
        mac: mac.into(),
        addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
    };
    let interfaces = vec![
        of("lo", "00:00:00:00:00:00", &["127.0.0.1", "::1"]),
        of("docker0", "02:42:00:00:00:01", &["172.17.0.1"]),
        of("eth0", "52:54:00:ab:cd:01", &["192.0.2.7", "2001:db8::7", "fe80::5054:ff:feab:cd01"]),
    ];
    Addresses { source: AddressSource::Agent, interfaces }
}

/// When the domain `web` of the case `inventory` started.
pub(crate) fn started() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_700_000_030_250)
}

/// One of each kind that is counted, and some that this version has no word for.
fn events() -> Vec<EventKind> {
    let job = |operation, success| {
        let (duration, downtime) = (Some(Duration::from_millis(2500)), Some(Duration::from_micros(37_500)));
        EventKind::JobCompleted(JobOutcome { operation, success, duration, downtime })
    };
    let io_error =
        |alias: &str, action, reason: &str| EventKind::IoError { alias: alias.into(), action, reason: reason.into() };
    vec![
        EventKind::Lifecycle { event: 2, detail: 0 },
        EventKind::Lifecycle { event: 8, detail: 0 },
        EventKind::Lifecycle { event: 5, detail: 2 },
        EventKind::Lifecycle { event: 5, detail: 77 },
        EventKind::Lifecycle { event: 99, detail: 1 },
        EventKind::Reboot,
        EventKind::Reboot,
        EventKind::Watchdog { action: 6 },
        EventKind::Watchdog { action: 42 },
        io_error("virtio-disk0", 1, "enospc"),
        io_error("vda", 1, "enospc"),
        io_error("virtio-disk0", 2, ""),
        io_error("gone", 9, "eio"),
        EventKind::ControlError,
        EventKind::BlockJob { device: "vda".into(), job: 4, status: 3 },
        EventKind::BlockJob { device: "vda".into(), job: 4, status: 0 },
        EventKind::BlockJob { device: "vdb".into(), job: 9, status: 9 },
        job(5, Some(false)),
        job(2, Some(true)),
        job(99, None),
        EventKind::MigrationIteration { iteration: 3 },
        EventKind::MemoryFailure { recipient: 1, action: 1 },
        EventKind::BlockThreshold { device: "vdb[1]".into() },
        EventKind::DeviceRemovalFailed,
        EventKind::AgentLifecycle { connected: true },
    ]
}
