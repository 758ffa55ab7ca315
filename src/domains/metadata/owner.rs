//! What management software has written into the metadata of a domain, each in its own namespace.

use std::collections::{BTreeMap, HashSet};

use roxmltree::Node;

use super::ScrapeTarget;
use super::tree::{attribute, attribute_at, children, find, text_at};

/// Reads a value from the software's own element, or from `domain` around it.
type Read = fn(element: Node<'_, '_>, domain: Node<'_, '_>) -> String;

/// One management system: its namespaces, the name of its element, and the labels in it.
struct Owner {
    namespaces: &'static [&'static str],
    element: &'static str,
    labels: &'static [(&'static str, Read)],
}

const OWNERS: &[Owner] = &[
    // OpenStack
    Owner {
        namespaces: &[
            "http://openstack.org/xmlns/libvirt/nova/1.1",
            "http://openstack.org/xmlns/libvirt/nova/1.0",
            "http://openstack.org/nova/instance/1",
        ],
        element: "instance",
        labels: &[
            ("instance_name", |instance, _| text_at(instance, "name")),
            ("flavor", |instance, _| attribute_at(instance, "flavor", "name")),
            ("project_id", |instance, _| attribute_at(instance, "owner/project", "uuid")),
            ("project_name", |instance, _| text_at(instance, "owner/project")),
            ("user_id", |instance, _| attribute_at(instance, "owner/user", "uuid")),
            ("user_name", |instance, _| text_at(instance, "owner/user")),
            ("image_id", |instance, _| image(instance)),
        ],
    },
    Owner {
        namespaces: &["http://opennebula.org/xmlns/libvirt/1.0"],
        element: "vm",
        labels: &[
            ("instance_name", |vm, _| text_at(vm, "name")),
            ("user_id", |vm, _| text_at(vm, "uid")),
            ("user_name", |vm, _| text_at(vm, "uname")),
            ("group_id", |vm, _| text_at(vm, "gid")),
            ("group_name", |vm, _| text_at(vm, "gname")),
        ],
    },
    Owner {
        namespaces: &["http://ovirt.org/vm/1.0"],
        element: "vm",
        labels: &[("ovirt_cluster_version", |vm, _| text_at(vm, "clusterVersion"))],
    },
    Owner {
        namespaces: &["http://kubevirt.io"],
        element: "kubevirt",
        labels: &[
            ("kubevirt_uid", |kubevirt, _| text_at(kubevirt, "uid")),
            ("kubevirt_namespace", |_, domain| kubernetes_name(domain).0),
            ("kubevirt_name", |_, domain| kubernetes_name(domain).1),
        ],
    },
];

const SCRAPE: &str = "urn:domstats-exporter:scrape:1";
/// More than any guest serves.
const MOST_SCRAPES: usize = 64;

/// The labels that the metadata of `domain` gives; none is empty.
pub(super) fn labels(domain: Node<'_, '_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for element in find(domain, "metadata").into_iter().flat_map(|metadata| metadata.children()) {
        let name = element.tag_name();
        let namespace = name.namespace().unwrap_or_default();
        let owner = OWNERS.iter().find(|owner| owner.element == name.name() && owner.namespaces.contains(&namespace));
        for (label, read) in owner.into_iter().flat_map(|owner| owner.labels) {
            let value = read(element, domain);
            if !value.is_empty() {
                found.entry((*label).to_owned()).or_insert(value);
            }
        }
    }
    found
}

/// Namespace and name of KubeVirt's instance, which make up the domain's name: neither has an underscore.
fn kubernetes_name(domain: Node<'_, '_>) -> (String, String) {
    let name = text_at(domain, "name");
    name.split_once('_').map(|(namespace, name)| (namespace.to_owned(), name.to_owned())).unwrap_or_default()
}

/// The image that an instance of Nova was made from; its root may also be a volume.
fn image(instance: Node<'_, '_>) -> String {
    let mut roots = children(instance, "root");
    roots.find(|root| attribute(*root, "type") == "image").map(|root| attribute(root, "uuid")).unwrap_or_default()
}

/// Where to scrape the guest: every `<scrape xmlns="urn:domstats-exporter:scrape:1" port="..."/>` in the metadata, at any
/// depth, as libvirt keeps only one element of a namespace at the top. One without a valid port, path and scheme is ignored.
pub(super) fn scrape_targets(domain: Node<'_, '_>) -> Vec<ScrapeTarget> {
    let mut seen = HashSet::new();
    let elements = find(domain, "metadata").into_iter().flat_map(|metadata| metadata.descendants());
    let elements = elements.filter(|element| element.has_tag_name((SCRAPE, "scrape")));
    elements.filter_map(scrape_target).filter(|target| seen.insert(target.clone())).take(MOST_SCRAPES).collect()
}

fn scrape_target(element: Node<'_, '_>) -> Option<ScrapeTarget> {
    let port = attribute(element, "port").parse().ok().filter(|port| *port != 0)?;
    let target = ScrapeTarget {
        port,
        path: attribute(element, "path"),
        scheme: attribute(element, "scheme").to_ascii_lowercase(),
        job: attribute(element, "job"),
    };
    let path_good = target.path.is_empty() || target.path.starts_with('/');
    let scheme_good = ["", "http", "https"].contains(&target.scheme.as_str());
    (path_good && scheme_good).then_some(target)
}
