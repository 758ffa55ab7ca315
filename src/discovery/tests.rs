use std::sync::Arc;
use std::time::SystemTime;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::config;
use crate::domains::{AddressSource, Addresses, DefinitionFailure, Flags, Interface, InterfaceAddresses, Metadata};
use crate::libvirt::{Identity, Versions};

/// A configuration with the keys of `service_discovery` that `yaml` has.
fn config(yaml: &str) -> Config {
    let text = format!("libvirt: {{uri: 'qemu+tls://user:secret@node-7/system'}}\nservice_discovery: {{{yaml}}}\n");
    config::parse(&text, "test").expect("a configuration")
}

/// A network interface of a definition: its number is in device and MAC address.
fn interface(number: u8, network: &str) -> Interface {
    Interface {
        device: format!("vnet{number}"),
        mac: mac(number),
        kind: "network".to_owned(),
        network: network.to_owned(),
        ..Interface::default()
    }
}

fn mac(number: u8) -> String {
    format!("52:54:00:00:00:{number:02x}")
}

/// What was seen on the interface of that number.
fn seen(number: u8, addresses: &[&str]) -> InterfaceAddresses {
    let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
    InterfaceAddresses { name: format!("vnet{number}"), mac: mac(number), addresses }
}

fn addresses(interfaces: Vec<InterfaceAddresses>) -> Option<Option<Arc<Addresses>>> {
    Some(Some(Arc::new(Addresses { source: AddressSource::Lease, interfaces })))
}

/// A running domain with one interface and one address.
fn domain(number: u8) -> Domain {
    let metadata = Metadata { interfaces: vec![interface(1, "default")], ..Metadata::default() };
    Domain {
        identity: Identity {
            name: format!("vm-{number}"),
            uuid: Uuid::from_u128(u128::from(number)),
            id: Some(u32::from(number)),
        },
        state: PowerState::Running,
        flags: None,
        first_seen: SystemTime::UNIX_EPOCH,
        started: None,
        booted: None,
        attached: std::collections::BTreeMap::new(),
        definition: Definition::Known(Arc::new(metadata)),
        agent_connected: None,
        counts: Arc::default(),
        addresses: addresses(vec![seen(1, &[&format!("192.0.2.{number}")])]),
        selected: true,
    }
}

fn with_metadata(number: u8, change: impl FnOnce(&mut Metadata)) -> Domain {
    let mut metadata = domain(number).metadata().cloned().expect("metadata");
    change(&mut metadata);
    Domain { definition: Definition::Known(Arc::new(metadata)), ..domain(number) }
}

fn build(domains: Vec<Domain>, yaml: &str) -> Result<Vec<TargetGroup>, Incomplete> {
    let domains = domains.into_iter().map(Arc::new).collect();
    build_target_groups(&Snapshot { domains, ..Snapshot::default() }, &config(yaml))
}

/// `address:port` of each domain.
fn scraped(domains: Vec<Domain>, yaml: &str) -> Vec<String> {
    build(domains, yaml).expect("a complete list").into_iter().flat_map(|group| group.targets).collect()
}

#[test]
fn a_target_has_every_label_that_something_is_known_for() {
    let mut domain = with_metadata(7, |metadata| {
        metadata.title = "Web \"server\" <7>\nfür alle".to_owned();
        metadata.os_type = "hvm".to_owned();
        metadata.os = "http://debian.org/debian/12".to_owned();
        metadata.machine = "pc-q35-7.2".to_owned();
        metadata.arch = "x86_64".to_owned();
        metadata.vcpus = Some(4);
        metadata.memory_bytes = Some(2 << 30);
        metadata.interfaces[0].model = "virtio".to_owned();
        metadata.interfaces[0].bridge = "virbr0".to_owned();
        metadata.interfaces[0].portgroup = "dmz".to_owned();
        metadata.labels.extend([("project_name".to_owned(), "shop".to_owned())]);
        metadata.scrape = vec![ScrapeTarget {
            port: 9273,
            path: "/telegraf".to_owned(),
            scheme: "https".to_owned(),
            job: "telegraf".to_owned(),
        }];
    });
    domain.flags = Some(Flags { autostart: true, ..Flags::default() });
    domain.addresses = addresses(vec![seen(1, &["192.0.2.7", "2001:db8::7"])]);
    let versions = Versions { driver: "QEMU".to_owned(), hypervisor: "7.2.0".to_owned(), ..Versions::default() };
    let hostname = "node-7.example".to_owned();
    let domains = [Arc::new(domain)].into();
    let snapshot = Snapshot { domains, hostname, versions: Some(versions), ..Snapshot::default() };
    let body = encode_target_groups(&snapshot, &config("")).expect("a complete list");
    let groups: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        groups,
        serde_json::json!([{
            "targets": ["192.0.2.7:9273"],
            "labels": {
                "__meta_libvirt_domain_name": "vm-7",
                "__meta_libvirt_domain_uuid": "00000000-0000-0000-0000-000000000007",
                "__meta_libvirt_domain_id": "7",
                "__meta_libvirt_domain_title": "Web \"server\" <7>\nfür alle",
                "__meta_libvirt_domain_state": "running",
                "__meta_libvirt_domain_os_type": "hvm",
                "__meta_libvirt_domain_os_id": "http://debian.org/debian/12",
                "__meta_libvirt_domain_machine": "pc-q35-7.2",
                "__meta_libvirt_domain_arch": "x86_64",
                "__meta_libvirt_domain_persistent": "false",
                "__meta_libvirt_domain_autostart": "true",
                "__meta_libvirt_domain_vcpus": "4",
                "__meta_libvirt_domain_memory_bytes": "2147483648",
                "__meta_libvirt_hypervisor_hostname": "node-7.example",
                "__meta_libvirt_hypervisor_uri": "qemu+tls://<hidden>@node-7/system",
                "__meta_libvirt_hypervisor_type": "QEMU",
                "__meta_libvirt_hypervisor_version": "7.2.0",
                "__meta_libvirt_interface_name": "vnet1",
                "__meta_libvirt_interface_mac": "52:54:00:00:00:01",
                "__meta_libvirt_interface_model": "virtio",
                "__meta_libvirt_interface_type": "network",
                "__meta_libvirt_interface_network": "default",
                "__meta_libvirt_interface_bridge": "virbr0",
                "__meta_libvirt_interface_portgroup": "dmz",
                "__meta_libvirt_address_source": "lease",
                "__meta_libvirt_addresses": ",192.0.2.7,2001:db8::7,",
                "__meta_libvirt_ipv4": "192.0.2.7",
                "__meta_libvirt_ipv6": "2001:db8::7",
                "__meta_libvirt_metadata_project_name": "shop",
                "__meta_libvirt_job": "telegraf",
                "__metrics_path__": "/telegraf",
                "__scheme__": "https",
            },
        }])
    );
}

#[test]
fn what_is_not_known_is_no_label() {
    let failed = Domain { definition: Definition::Failed(DefinitionFailure::Malformed), ..domain(1) };
    let group = build(vec![failed], "").expect("a complete list").remove(0);
    let names: Vec<&str> = group.labels.keys().map(|name| name.trim_start_matches("__meta_libvirt_")).collect();
    let known = [
        "address_source",
        "addresses",
        "domain_id",
        "domain_name",
        "domain_state",
        "domain_uuid",
        "hypervisor_uri",
        "interface_mac",
        "interface_name",
        "ipv4",
    ];
    assert_eq!(names, known);
    assert_eq!(build(Vec::new(), ""), Ok(Vec::new()));
    let empty = encode_target_groups(&Snapshot::default(), &config("")).expect("a list");
    assert_eq!(empty, b"[]");
}

#[test]
fn each_scrape_element_is_a_target() {
    let element = |port| ScrapeTarget { port, ..ScrapeTarget::default() };
    let two = with_metadata(1, |metadata| metadata.scrape = vec![element(9256), element(9100)]);
    let groups = build(vec![two, domain(2)], "port: 9273").expect("a complete list");
    let targets: Vec<&str> = groups.iter().flat_map(|group| &group.targets).map(String::as_str).collect();
    assert_eq!(targets, ["192.0.2.1:9256", "192.0.2.1:9100", "192.0.2.2:9273"]);
    for group in groups {
        assert!(!group.labels.contains_key("__metrics_path__") && !group.labels.contains_key("__scheme__"));
        assert!(!group.labels.contains_key("__meta_libvirt_job"));
    }
}

#[test]
fn only_selected_domains_in_a_wanted_state_are_targets() {
    let with_state = |number, state| Domain { state, ..domain(number) };
    let all = || {
        vec![
            domain(1),
            with_state(2, PowerState::Paused),
            with_state(3, PowerState::ShutOff),
            with_state(4, PowerState::Other),
            Domain { selected: false, ..domain(5) },
        ]
    };
    assert_eq!(scraped(all(), ""), ["192.0.2.1:9100"]);
    assert_eq!(scraped(all(), "states: [paused]"), ["192.0.2.2:9100"]);
    let both = build(all(), "states: [paused, running]").expect("a complete list");
    let states: Vec<&str> = both.iter().map(|group| group.labels["__meta_libvirt_domain_state"].as_str()).collect();
    assert_eq!(states, ["running", "paused"]);
}

#[test]
fn there_is_the_whole_list_or_none() {
    let unknown = |number| Domain { addresses: None, ..domain(number) };
    let pending = |number| Domain { definition: Definition::Pending, ..domain(number) };
    let refusal = build(vec![domain(1), unknown(2), pending(3), unknown(4)], "").expect_err("a partial list");
    assert_eq!(refusal, Incomplete { definitions: 1, addresses: 2 });
    assert_eq!(
        refusal.to_string(),
        "the list is not complete yet (domains whose XML was not read yet: 1, whose addresses were not: 2)"
    );
    // Domains that are no targets are not waited for, nor those without an address.
    let paused = Domain { state: PowerState::Paused, ..unknown(2) };
    let excluded = Domain { selected: false, ..pending(3) };
    let silent = Domain { addresses: Some(None), ..domain(4) };
    assert_eq!(scraped(vec![domain(1), paused, excluded, silent], ""), ["192.0.2.1:9100"]);
}

/// A domain with three interfaces in its definition.
fn three(interfaces: Vec<InterfaceAddresses>) -> Vec<Domain> {
    let mut domain = with_metadata(1, |metadata| {
        metadata.interfaces = vec![interface(3, "lan"), interface(1, "storage"), interface(2, "")];
        metadata.interfaces[2].bridge = "br0".to_owned();
    });
    domain.addresses = addresses(interfaces);
    vec![domain]
}

#[test]
fn the_first_interface_of_the_definition_is_scraped() {
    for (yaml, interfaces, expected, list) in [
        ("", vec![seen(1, &["192.0.2.1"]), seen(3, &["192.0.2.3"])], "192.0.2.3:9100", ",192.0.2.3,192.0.2.1,"),
        // IPv4 before IPv6, but the interface before that.
        ("", vec![seen(3, &["2001:db8::3", "192.0.2.3"])], "192.0.2.3:9100", ",2001:db8::3,192.0.2.3,"),
        ("", vec![seen(1, &["192.0.2.1"]), seen(3, &["2001:db8::3"])], "[2001:db8::3]:9100", ",2001:db8::3,192.0.2.1,"),
        (
            "address_family: ipv4",
            vec![seen(1, &["192.0.2.1"]), seen(3, &["2001:db8::3"])],
            "192.0.2.1:9100",
            ",2001:db8::3,192.0.2.1,",
        ),
        (
            "address_family: ipv6",
            vec![seen(3, &["192.0.2.3"]), seen(1, &["192.0.2.1", "2001:db8::1", "2001:db8::2"])],
            "[2001:db8::1]:9100",
            ",192.0.2.3,192.0.2.1,2001:db8::1,2001:db8::2,",
        ),
        // What only the guest itself can reach is no address.
        (
            "",
            vec![
                seen(
                    3,
                    &[
                        "::ffff:127.0.0.1",
                        "127.0.0.1",
                        "::1",
                        "169.254.0.9",
                        "fe80::3",
                        "0.0.0.0",
                        "::",
                        "224.0.0.1",
                        "ff02::1",
                    ],
                ),
                seen(2, &["192.0.2.2"]),
            ],
            "192.0.2.2:9100",
            ",192.0.2.2,",
        ),
        // An interface that is not in the definition comes last.
        ("", vec![seen(9, &["192.0.2.9"]), seen(2, &["192.0.2.2"])], "192.0.2.2:9100", ",192.0.2.2,192.0.2.9,"),
        ("", vec![seen(9, &["192.0.2.9"])], "192.0.2.9:9100", ",192.0.2.9,"),
        // One address twice is one.
        ("", vec![seen(2, &["192.0.2.2"]), seen(1, &["192.0.2.2", "192.0.2.2"])], "192.0.2.2:9100", ",192.0.2.2,"),
        // By network, and by bridge.
        ("networks: [stor.*]", vec![seen(3, &["192.0.2.3"]), seen(1, &["192.0.2.1"])], "192.0.2.1:9100", ",192.0.2.1,"),
        (
            "networks: [x, 'br\\d']",
            vec![seen(3, &["192.0.2.3"]), seen(2, &["192.0.2.2"])],
            "192.0.2.2:9100",
            ",192.0.2.2,",
        ),
    ] {
        let groups = build(three(interfaces.clone()), yaml).expect("a complete list");
        assert_eq!(groups.len(), 1, "{yaml} {interfaces:?}");
        assert_eq!(groups[0].targets, [expected], "{yaml} {interfaces:?}");
        assert_eq!(groups[0].labels["__meta_libvirt_addresses"], list, "{yaml} {interfaces:?}");
    }
}

#[test]
fn a_domain_without_an_address_that_counts_is_no_target() {
    for (yaml, interfaces) in [
        ("", vec![]),
        ("", vec![seen(1, &["127.0.0.1", "fe80::1"])]),
        ("address_family: ipv6", vec![seen(1, &["192.0.2.1"])]),
        ("address_family: ipv4", vec![seen(1, &["2001:db8::1"])]),
        ("networks: [lan.+]", vec![seen(3, &["192.0.2.3"]), seen(9, &["192.0.2.9"])]),
        // An interface without a network or bridge is on none.
        ("networks: ['']", vec![seen(9, &["192.0.2.9"])]),
    ] {
        assert_eq!(scraped(three(interfaces.clone()), yaml), [""; 0], "{yaml} {interfaces:?}");
    }
}

#[test]
fn a_guest_with_endless_addresses_is_cut_short() {
    let many: Vec<String> =
        (0..100_000_u32).map(|number| format!("2001:db8::{:x}:{:x}", number >> 16, number & 0xffff)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let groups = build(three(vec![seen(1, &many), seen(2, &["192.0.2.2"])]), "").expect("a complete list");
    assert_eq!(groups[0].labels["__meta_libvirt_addresses"].split(',').count(), 64 + 2);
    assert_eq!(groups[0].targets, ["[2001:db8::]:9100"]);
}

#[test]
fn interfaces_are_told_apart_by_mac_address_then_name() {
    let labels = |seen: InterfaceAddresses| build(three(vec![seen]), "").expect("a complete list").remove(0).labels;
    // As the guest agent sees it: the guest's own name, and capitals.
    let by_mac = InterfaceAddresses { name: "vnet1".into(), mac: mac(2).to_uppercase(), ..seen(2, &["192.0.2.2"]) };
    assert_eq!(labels(by_mac)["__meta_libvirt_interface_bridge"], "br0");
    let by_name = InterfaceAddresses { mac: String::new(), ..seen(1, &["192.0.2.1"]) };
    assert_eq!(labels(by_name)["__meta_libvirt_interface_network"], "storage");
    let docker =
        InterfaceAddresses { name: "docker0".into(), mac: "02:42:00:00:00:01".into(), ..seen(2, &["192.0.2.9"]) };
    let labels = labels(docker);
    assert_eq!(labels["__meta_libvirt_interface_name"], "docker0");
    assert_eq!(labels["__meta_libvirt_interface_mac"], "02:42:00:00:00:01");
    assert!(!labels.contains_key("__meta_libvirt_interface_network"));
}

#[test]
fn names_of_metadata_become_names_of_labels() {
    let domain = with_metadata(1, |metadata| {
        for (name, value) in [("a.b", "1"), ("a_b", "2"), ("größe", "3"), ("0", "4")] {
            metadata.labels.insert(name.to_owned(), value.to_owned());
        }
    });
    let groups = build(vec![domain], "").expect("a complete list");
    let metadata: Vec<(&str, &str)> = groups[0]
        .labels
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("__meta_libvirt_metadata_")?, value.as_str())))
        .collect();
    assert_eq!(metadata, [("0", "4"), ("a_b", "1"), ("gr__e", "3")]);
}

proptest! {
    /// Prometheus refuses a whole list for one name that is none.
    #[test]
    fn whatever_a_definition_says_the_list_is_good(
        text in "\\PC{0,20}",
        labels in proptest::collection::btree_map("\\PC{0,8}", "(?s).{0,8}", 0..6),
        port in 1..=u16::MAX,
        addresses in proptest::collection::vec(any::<std::net::IpAddr>(), 0..6),
    ) {
        let mut domain = with_metadata(1, |metadata| {
            metadata.title.clone_from(&text);
            metadata.interfaces[0].network.clone_from(&text);
            metadata.labels = labels;
            metadata.scrape = vec![ScrapeTarget { port, ..ScrapeTarget::default() }];
        });
        domain.identity.name = text;
        let seen = InterfaceAddresses { addresses, ..seen(1, &[]) };
        domain.addresses = Some(Some(Arc::new(Addresses { source: AddressSource::Agent, interfaces: vec![seen] })));
        for group in build(vec![domain], "").expect("a complete list") {
            let address: SocketAddr = group.targets[0].parse().expect("an address and a port");
            prop_assert!(group.targets.len() == 1 && address.port() == port && !address.ip().is_loopback());
            for (name, value) in group.labels {
                let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                prop_assert!(name.starts_with("__") && name.bytes().all(legal) && !value.is_empty(), "{name}: {value}");
            }
        }
    }
}
