//! The list of domains as JSON: what `domstats-exporter targets` prints.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Value, json};

use crate::domains::{Definition, Domain, DomainCounts, Flags, JobTimes, Metadata, Snapshot};

/// All domains, selected or not, in the order of their UUIDs: an array with one object per domain. Every key is in every
/// object; an unknown value is `null`, and what the domain XML does not contain is empty.
///
/// # Errors
/// Never in practice: every key is a string.
pub fn json(snapshot: &Snapshot) -> serde_json::Result<String> {
    let domains: Vec<Entry<'_>> = snapshot.domains.iter().map(|domain| entry(domain)).collect();
    serde_json::to_string_pretty(&domains)
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    uuid: String,
    id: Option<u32>,
    state: &'static str,
    selected: bool,
    flags: Option<Flags>,
    first_seen: String,
    started: Option<String>,
    agent_connected: Option<bool>,
    definition: Option<&'a Metadata>,
    definition_error: Option<&'a str>,
    /// `None` until they have been queried.
    addresses: Option<Addresses<'a>>,
    events: Value,
}

#[derive(Serialize, Default)]
struct Addresses<'a> {
    source: Option<&'static str>,
    interfaces: Vec<Interface<'a>>,
}

#[derive(Serialize)]
struct Interface<'a> {
    name: &'a str,
    mac: &'a str,
    addresses: &'a [IpAddr],
}

fn entry(domain: &Domain) -> Entry<'_> {
    Entry {
        name: &domain.identity.name,
        uuid: domain.identity.uuid.to_string(),
        id: domain.identity.id,
        state: domain.state.as_str(),
        selected: domain.selected,
        flags: domain.flags,
        first_seen: rfc3339(domain.first_seen),
        started: domain.started.map(rfc3339),
        agent_connected: domain.agent_connected,
        definition: domain.metadata(),
        definition_error: match &domain.definition {
            Definition::Failed(reason) => Some(reason.as_str()),
            Definition::Pending | Definition::Known(_) => None,
        },
        addresses: addresses(domain),
        events: events(&domain.counts),
    }
}

fn addresses(domain: &Domain) -> Option<Addresses<'_>> {
    let Some(known) = domain.addresses.as_ref()? else { return Some(Addresses::default()) };
    let interfaces = known.interfaces.iter().map(|interface| Interface {
        name: &interface.name,
        mac: &interface.mac,
        addresses: &interface.addresses,
    });
    Some(Addresses { source: Some(known.source.as_str()), interfaces: interfaces.collect() })
}

/// What is counted by more than one thing is a list with an object for each combination. Numbers are libvirt's enumerations.
fn events(counts: &DomainCounts) -> Value {
    fn list<K, V>(counts: impl IntoIterator<Item = (K, V)>, row: impl Fn(K, V) -> Value) -> Value {
        counts.into_iter().map(|(key, count)| row(key, count)).collect()
    }
    json!({
        "reboots": counts.reboots,
        "crashes": counts.crashes,
        "control_errors": counts.control_errors,
        "device_removal_failures": counts.device_removal_failures,
        "watchdogs": list(&counts.watchdogs, |action, count| json!({"action": action, "count": count})),
        "io_errors": list(&counts.io_errors, |(alias, action, reason), count| {
            json!({"alias": alias, "action": action, "reason": reason, "count": count})
        }),
        "block_jobs": list(&counts.block_jobs, |(device, job, status), count| {
            json!({"device": device, "job": job, "status": status, "count": count})
        }),
        "jobs": list(&counts.jobs, |(operation, success), count| {
            json!({"operation": operation, "success": success, "count": count})
        }),
        "last_job": counts.last_job.map(|JobTimes { duration, downtime }| {
            json!({"duration_seconds": seconds(duration), "downtime_seconds": seconds(downtime)})
        }),
        "migration_iteration": counts.migration_iteration,
        "memory_failures": list(&counts.memory_failures, |(recipient, action), count| {
            json!({"recipient": recipient, "action": action, "count": count})
        }),
        "block_thresholds": list(&counts.block_thresholds, |device, count| json!({"device": device, "count": count})),
    })
}

fn seconds(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_secs_f64())
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::domains::{self, AddressSource, DefinitionFailure, InterfaceAddresses, PowerState, ScrapeTarget};
    use crate::libvirt::{EventKind, Identity, JobOutcome};

    fn domain(number: u8, definition: Definition) -> Domain {
        let name = format!("vm-{number}");
        Domain {
            identity: Identity { name, uuid: Uuid::from_u128(u128::from(number)), id: None },
            state: PowerState::ShutOff,
            flags: None,
            first_seen: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250),
            started: None,
            booted: None,
            attached: std::collections::BTreeMap::new(),
            definition,
            agent_connected: None,
            counts: Arc::default(),
            addresses: None,
            selected: true,
        }
    }

    fn objects(domains: Vec<Domain>) -> Value {
        let domains = domains.into_iter().map(Arc::new).collect();
        let text = json(&Snapshot { domains, ..Snapshot::default() }).expect("JSON");
        serde_json::from_str(&text).expect("JSON")
    }

    #[test]
    fn each_domain_is_an_object_with_every_key() {
        let mut metadata = Metadata { title: "Web \"server\"".to_owned(), vcpus: Some(2), ..Metadata::default() };
        metadata.interfaces.push(domains::Interface { device: "vnet0".to_owned(), ..domains::Interface::default() });
        metadata.scrape.push(ScrapeTarget { port: 9100, ..ScrapeTarget::default() });
        metadata.labels.insert("project".to_owned(), "shop".to_owned());
        let mut running = domain(1, Definition::Known(Arc::new(metadata)));
        running.identity.id = Some(7);
        running.state = PowerState::Running;
        running.flags = Some(Flags { persistent: true, ..Flags::default() });
        running.started = Some(SystemTime::UNIX_EPOCH);
        running.agent_connected = Some(true);
        let interface = InterfaceAddresses {
            name: "vnet0".to_owned(),
            mac: "52:54:00:00:00:01".to_owned(),
            addresses: vec!["192.0.2.1".parse().expect("an address"), "2001:db8::1".parse().expect("an address")],
        };
        let known = domains::Addresses { source: AddressSource::Arp, interfaces: vec![interface] };
        running.addresses = Some(Some(Arc::new(known)));
        let mut failed = domain(2, Definition::Failed(DefinitionFailure::NoDomain));
        failed.addresses = Some(None);
        failed.selected = false;
        let objects = objects(vec![running, failed, domain(3, Definition::Pending)]);
        let running = &objects[0];
        for (pointer, expected) in [
            ("/name", json!("vm-1")),
            ("/uuid", json!("00000000-0000-0000-0000-000000000001")),
            ("/id", json!(7)),
            ("/state", json!("running")),
            ("/selected", json!(true)),
            ("/flags/persistent", json!(true)),
            ("/flags/autostart", json!(false)),
            ("/first_seen", json!("2023-11-14T22:13:20.250Z")),
            ("/started", json!("1970-01-01T00:00:00.000Z")),
            ("/agent_connected", json!(true)),
            ("/definition/title", json!("Web \"server\"")),
            ("/definition/vcpus", json!(2)),
            ("/definition/memory_bytes", Value::Null),
            ("/definition/disks", json!([])),
            ("/definition/interfaces/0/device", json!("vnet0")),
            ("/definition/scrape/0/port", json!(9100)),
            ("/definition/labels", json!({"project": "shop"})),
            ("/definition_error", Value::Null),
            ("/addresses/source", json!("arp")),
            ("/addresses/interfaces/0/mac", json!("52:54:00:00:00:01")),
            ("/addresses/interfaces/0/addresses", json!(["192.0.2.1", "2001:db8::1"])),
        ] {
            assert_eq!(running.pointer(pointer), Some(&expected), "{pointer}");
        }
        let (failed, pending) = (&objects[1], &objects[2]);
        assert_eq!(failed["definition_error"], "no_domain");
        assert_eq!(failed["addresses"], json!({"source": null, "interfaces": []}));
        assert_eq!((&failed["selected"], &failed["definition"]), (&json!(false), &Value::Null));
        assert_eq!((&pending["addresses"], &pending["definition_error"]), (&Value::Null, &Value::Null));
        let keys = |object: &Value| object.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        assert!(keys(running) == keys(failed) && keys(failed) == keys(pending));
        assert_eq!(json(&Snapshot::default()).expect("JSON"), "[]");
    }

    #[test]
    fn what_has_happened_is_counted_by_what_it_was() {
        let mut counts = DomainCounts::default();
        let io_error = EventKind::IoError { alias: "virtio-disk0".into(), action: 1, reason: "enospc".into() };
        let outcome = JobOutcome {
            operation: 4,
            success: Some(true),
            duration: Some(Duration::from_millis(1500)),
            downtime: None,
        };
        for event in [
            EventKind::Reboot,
            io_error.clone(),
            io_error,
            EventKind::Watchdog { action: 1 },
            EventKind::BlockJob { device: "vda".into(), job: 2, status: 0 },
            EventKind::JobCompleted(outcome),
            EventKind::MemoryFailure { recipient: 0, action: 1 },
            EventKind::BlockThreshold { device: "vdb".into() },
            EventKind::MigrationIteration { iteration: 3 },
        ] {
            counts.count(&event, SystemTime::UNIX_EPOCH);
        }
        let domain = Domain { counts: Arc::new(counts), ..domain(1, Definition::Pending) };
        assert_eq!(
            objects(vec![domain])[0]["events"],
            json!({
                "reboots": 1,
                "crashes": 0,
                "control_errors": 0,
                "device_removal_failures": 0,
                "watchdogs": [{"action": 1, "count": 1}],
                "io_errors": [{"alias": "virtio-disk0", "action": 1, "reason": "enospc", "count": 2}],
                "block_jobs": [{"device": "vda", "job": 2, "status": 0, "count": 1}],
                "jobs": [{"operation": 4, "success": true, "count": 1}],
                "last_job": {"duration_seconds": 1.5, "downtime_seconds": null},
                "migration_iteration": 3,
                "memory_failures": [{"recipient": 0, "action": 1, "count": 1}],
                "block_thresholds": [{"device": "vdb", "count": 1}],
            })
        );
    }
}
