//! The addresses of a domain's interfaces (`virDomainInterfaceAddresses`).

use std::net::IpAddr;

use virt::sys;

use super::connection::Connection;
use super::domain::Domain;
use super::error::LibvirtError;
use super::text::{libc_free, text};

/// Where the address of an interface was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressSource {
    /// A DHCP lease of a libvirt network.
    Lease,
    /// The host's table of neighbours.
    Arp,
    /// The guest agent.
    Agent,
}

impl AddressSource {
    fn number(self) -> sys::virDomainInterfaceAddressesSource {
        match self {
            Self::Lease => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
            Self::Arp => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
            Self::Agent => sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
        }
    }
}

/// The addresses of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddresses {
    /// The name: of the host's device for leases and neighbours, of the guest's for the agent.
    pub name: String,
    /// The MAC address in lower case, empty where it is not known.
    pub mac: String,
    /// The addresses in the order in which libvirt gives them.
    pub addresses: Vec<IpAddr>,
}

impl Domain {
    /// The addresses of a running domain that one source knows, loopback and link-local ones among them; texts that are not
    /// addresses are omitted. An interface may have none.
    ///
    /// [`AddressSource::Agent`] needs a read-write connection and waits for the guest.
    ///
    /// # Errors
    /// Of any class; [`super::ErrorClass::Other`] where the domain does not run or its agent does not answer.
    pub fn addresses(
        &self,
        connection: &Connection,
        source: AddressSource,
    ) -> Result<Vec<InterfaceAddresses>, LibvirtError> {
        let mut list = std::ptr::null_mut();
        // SAFETY: a valid domain and a valid out-parameter, which libvirt sets to a list that `InterfaceList` frees.
        let count = unsafe { sys::virDomainInterfaceAddresses(self.as_ptr(), &raw mut list, source.number(), 0) };
        let Ok(count) = usize::try_from(count) else {
            return Err(connection.last_error("cannot ask for a domain's addresses"));
        };
        Ok(InterfaceList { list, count }.interfaces())
    }
}

/// Owns the reply of `virDomainInterfaceAddresses`.
struct InterfaceList {
    list: *mut sys::virDomainInterfacePtr,
    count: usize,
}

impl InterfaceList {
    fn pointers(&self) -> &[sys::virDomainInterfacePtr] {
        if self.list.is_null() {
            return &[];
        }
        // SAFETY: a successful call leaves an array of `count` pointers there, alive as long as `self`.
        unsafe { std::slice::from_raw_parts(self.list, self.count) }
    }

    fn interfaces(&self) -> Vec<InterfaceAddresses> {
        let interfaces = self.pointers().iter().filter_map(|&interface| {
            // SAFETY: null is checked by `as_ref`; each element points to a live interface of the list.
            unsafe { interface.as_ref() }
        });
        interfaces.map(copy_interface).collect()
    }
}

impl Drop for InterfaceList {
    fn drop(&mut self) {
        for &interface in self.pointers() {
            // SAFETY: the interface came from libvirt and is freed once; null is allowed.
            unsafe { sys::virDomainInterfaceFree(interface) };
        }
        // SAFETY: the array itself was allocated by libvirt with malloc; null is allowed.
        unsafe { libc_free(self.list.cast()) };
    }
}

fn copy_interface(interface: &sys::virDomainInterface) -> InterfaceAddresses {
    let addresses: &[sys::virDomainIPAddress] = match usize::try_from(interface.naddrs) {
        Ok(count) if !interface.addrs.is_null() => {
            // SAFETY: a non-null `addrs` is an array of `naddrs` addresses that belongs to the interface.
            unsafe { std::slice::from_raw_parts(interface.addrs, count) }
        }
        _ => &[],
    };
    InterfaceAddresses {
        name: text(interface.name),
        mac: text(interface.hwaddr).to_ascii_lowercase(),
        addresses: addresses.iter().filter_map(|address| text(address.addr).parse().ok()).collect(),
    }
}
