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
    /// Addresses of running domains.
    TABLE: Some(Group::Address), Subject::Domain;
    ADDRESS_INFO = Info, NUMBER, "libvirt_domain_interface_address_info", "libvirt.domain.network.interface.address.info", ["interface", "mac", "address", "address_source"],
        "Address of a network interface, loopback and link-local ones excluded, and its source: lease, arp or agent; an interface that is not in the domain XML has the name that the guest gives it";
}
