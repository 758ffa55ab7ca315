//! Which of the addresses that others can reach a domain at is the one to scrape.

use crate::config::{AddressFamily, AnchoredRegex};
use crate::domains::{Interface, Located};

/// The address to scrape: on the first interface that has a wanted one, and IPv4 rather than IPv6 there.
pub(super) fn primary_address<'a, 'b>(located: &'b [Located<'a>], family: AddressFamily) -> Option<&'b Located<'a>> {
    let is_wanted = |one: &&Located<'_>| match family {
        AddressFamily::Any => true,
        AddressFamily::Ipv4 => one.address.is_ipv4(),
        AddressFamily::Ipv6 => one.address.is_ipv6(),
    };
    let first = located.iter().find(is_wanted)?;
    let of_the_same = located.iter().filter(is_wanted).filter(|one| std::ptr::eq(one.seen, first.seen));
    of_the_same.min_by_key(|one| one.address.is_ipv6())
}

/// Whether an interface is on one of these networks; each is, if there are none.
pub(super) fn is_on(interface: Option<&Interface>, networks: &[AnchoredRegex]) -> bool {
    let names = interface.map(|interface| [interface.network.as_str(), interface.bridge.as_str()]).unwrap_or_default();
    let mut names = names.into_iter().filter(|name| !name.is_empty());
    networks.is_empty() || names.any(|name| networks.iter().any(|regex| regex.is_match(name)))
}
