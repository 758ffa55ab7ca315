//! The network addresses of guests, as the sources of `service_discovery.sources` have them.

use super::Group;
use super::group::{GroupInfo, Source};
use super::kind::Subject;
use super::row::{NUMBER, table};

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "address",
    help: "Network addresses of guests, from service_discovery.sources",
    default: false,
    source: Source::Definition,
    prefix: "address",
    ..GroupInfo::USUAL
};

#[rustfmt::skip]
table! {
    /// What has been looked up of a domain that runs.
    TABLE: Some(Group::Address), Subject::Domain;
    ADDRESS_INFO = Info, NUMBER, "libvirt_domain_interface_address_info", "libvirt.domain.network.interface.address.info", ["interface", "mac", "address", "address_source"],
        "An address of a network interface, without loopback and link-local ones, and where it was seen: lease, arp or agent; of an interface that the definition does not have, the guest's own name";
}
