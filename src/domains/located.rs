//! Which of a domain's addresses others can reach it at.

use std::net::IpAddr;

use super::{Addresses, Domain, Interface, InterfaceAddresses};

/// Most addresses of a domain that count. A guest agent can report millions, whatever its guest has.
const MOST_ADDRESSES: usize = 64;

/// An address, and where it is.
#[derive(Debug, Clone, Copy)]
pub struct Located<'a> {
    /// The address.
    pub address: IpAddr,
    /// The interface as the source of the addresses knows it.
    pub seen: &'a InterfaceAddresses,
    /// The interface in the domain's definition, if it is there.
    pub interface: Option<&'a Interface>,
}

/// The addresses that others can reach the domain at, on interfaces that are `wanted`: in the order of the definition's
/// interfaces, and those of interfaces that are not in it last. None is there twice.
pub fn located_addresses(domain: &Domain, wanted: impl Fn(Option<&Interface>) -> bool) -> Vec<Located<'_>> {
    let Some(Some(known)) = &domain.addresses else { return Vec::new() };
    let defined = domain.metadata().map(|metadata| metadata.interfaces.as_slice()).unwrap_or_default();
    let mut interfaces: Vec<_> = seen_interfaces(known, defined).collect();
    // Stable: interfaces of one place, such as a guest's VLANs, stay in the order of their source.
    interfaces.sort_by_key(|(position, _)| position.unwrap_or(usize::MAX));
    let mut located: Vec<Located<'_>> = Vec::new();
    for (position, seen) in interfaces {
        let interface = position.and_then(|position| defined.get(position));
        if !wanted(interface) {
            continue;
        }
        // `::ffff:127.0.0.1` is a loopback address too.
        for address in seen.addresses.iter().map(IpAddr::to_canonical).filter(is_reachable) {
            if located.len() < MOST_ADDRESSES && located.iter().all(|before| before.address != address) {
                located.push(Located { address, seen, interface });
            }
        }
    }
    located
}

/// Each interface with addresses, and its position in the definition.
fn seen_interfaces<'a>(
    known: &'a Addresses,
    defined: &'a [Interface],
) -> impl Iterator<Item = (Option<usize>, &'a InterfaceAddresses)> {
    known.interfaces.iter().map(|seen| {
        let same_device = |interface: &Interface| !seen.name.is_empty() && interface.device == seen.name;
        let same_mac = |interface: &Interface| !seen.mac.is_empty() && interface.mac.eq_ignore_ascii_case(&seen.mac);
        // A guest calls its devices what it likes, so a name counts only where the MAC address does not speak against it.
        let both = defined.iter().position(|interface| same_mac(interface) && same_device(interface));
        let mac = || defined.iter().position(same_mac);
        let name = || defined.iter().position(|interface| seen.mac.is_empty() && same_device(interface));
        (both.or_else(mac).or_else(name), seen)
    })
}

/// Whether an address means the same guest on every host.
fn is_reachable(address: &IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !local && !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}
