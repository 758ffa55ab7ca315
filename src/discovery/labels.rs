//! The labels of a domain: what relabelling can choose from.

use std::collections::BTreeMap;

use crate::config::Uri;
use crate::domains::{Domain, Interface, Located, ScrapeTarget, Snapshot};

const PREFIX: &str = "__meta_libvirt_";

/// Labels by name. An empty value is the same as none to Prometheus, and is omitted.
#[derive(Debug, Clone, Default)]
pub(super) struct Labels(BTreeMap<String, String>);

impl Labels {
    /// `__meta_libvirt_hypervisor_*`, the same for all domains.
    pub(super) fn of_host(snapshot: &Snapshot, uri: &Uri) -> Self {
        let mut labels = Self::default();
        labels.put("hypervisor_hostname", &snapshot.hostname);
        labels.put("hypervisor_uri", uri.redacted().as_str());
        if let Some(versions) = &snapshot.versions {
            labels.put("hypervisor_type", &versions.driver);
            labels.put("hypervisor_version", &versions.hypervisor);
        }
        labels
    }

    /// `__meta_libvirt_domain_*` and `__meta_libvirt_metadata_*`.
    pub(super) fn add_domain(&mut self, domain: &Domain) {
        let identity = &domain.identity;
        self.put("domain_name", &identity.name);
        self.put("domain_uuid", &identity.uuid.to_string());
        self.put("domain_id", &shown(identity.id));
        self.put("domain_state", domain.state.as_str());
        self.put("domain_persistent", &shown(domain.flags.map(|flags| flags.persistent)));
        self.put("domain_autostart", &shown(domain.flags.map(|flags| flags.autostart)));
        let Some(metadata) = domain.metadata() else { return };
        self.put("domain_title", &metadata.title);
        self.put("domain_os_type", &metadata.os_type);
        self.put("domain_os_id", &metadata.os);
        self.put("domain_machine", &metadata.machine);
        self.put("domain_arch", &metadata.arch);
        self.put("domain_vcpus", &shown(metadata.vcpus));
        self.put("domain_memory_bytes", &shown(metadata.memory_bytes));
        for (label, value) in &metadata.labels {
            self.put(&format!("metadata_{}", sanitised(label)), value);
        }
    }

    /// `__meta_libvirt_address*`, `__meta_libvirt_ipv*`, and `__meta_libvirt_interface_*` of the interface that is scraped.
    pub(super) fn add_addresses(&mut self, domain: &Domain, located: &[Located<'_>], primary: &Located<'_>) {
        if let Some(Some(known)) = &domain.addresses {
            self.put("address_source", known.source.as_str());
        }
        // A comma at both ends, so that an expression can look for `,address,`.
        let list: String = located.iter().map(|one| format!("{},", one.address)).collect();
        self.put("addresses", &format!(",{list}"));
        let first = |is_wanted: fn(&Located<'_>) -> bool| {
            shown(located.iter().find(|one| is_wanted(one)).map(|one| one.address))
        };
        self.put("ipv4", &first(|one| one.address.is_ipv4()));
        self.put("ipv6", &first(|one| one.address.is_ipv6()));
        match primary.interface {
            Some(interface) => self.add_interface(interface),
            None => {
                self.put("interface_name", &primary.seen.name);
                self.put("interface_mac", &primary.seen.mac);
            }
        }
    }

    fn add_interface(&mut self, interface: &Interface) {
        self.put("interface_name", &interface.device);
        self.put("interface_mac", &interface.mac);
        self.put("interface_model", &interface.model);
        self.put("interface_type", &interface.kind);
        self.put("interface_network", &interface.network);
        self.put("interface_bridge", &interface.bridge);
        self.put("interface_portgroup", &interface.portgroup);
    }

    /// What the guest's metadata says of how to scrape it.
    pub(super) fn add_scrape(&mut self, element: &ScrapeTarget) {
        self.put("job", &element.job);
        self.insert("__metrics_path__".to_owned(), &element.path);
        self.insert("__scheme__".to_owned(), &element.scheme);
    }

    pub(super) fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }

    fn put(&mut self, key: &str, value: &str) {
        self.insert(format!("{PREFIX}{key}"), value);
    }

    /// Of two labels that become the same one when sanitised, the first stays.
    fn insert(&mut self, name: String, value: &str) {
        if !value.is_empty() {
            self.0.entry(name).or_insert_with(|| value.to_owned());
        }
    }
}

/// The text of a value that there is, else none.
fn shown(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// What Prometheus makes of a name that is not one.
fn sanitised(name: &str) -> String {
    name.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect()
}
