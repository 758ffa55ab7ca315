//! Networks of libvirt's.

use uuid::Uuid;
use virt::sys;

use super::connection::Connection;
use super::error::{ErrorClass, LibvirtError};
use super::object::object;

object! {
    /// A network as one connection knows it. The handle holds a reference to its connection.
    Network(_virNetwork), "network", list_networks, network, unless VIR_ERR_NO_NETWORK;
    virConnectListAllNetworks, virNetworkLookupByUUID, virNetworkGetName, virNetworkGetUUID, virNetworkGetAutostart,
    virNetworkIsPersistent, virNetworkGetXMLDesc, virNetworkFree
}

impl Network {
    /// Whether it is started.
    ///
    /// # Errors
    /// Of any class.
    pub fn is_active(&self, connection: &Connection) -> Result<bool, LibvirtError> {
        // SAFETY: a valid network.
        let answer = unsafe { sys::virNetworkIsActive(self.0.as_ptr()) };
        if answer < 0 { Err(connection.last_error(Self::KEPT)) } else { Ok(answer != 0) }
    }

    /// How many DHCP leases it has given that have not expired (`virNetworkGetDHCPLeases`).
    ///
    /// # Errors
    /// Of any class.
    pub fn dhcp_leases(&self, connection: &Connection) -> Result<u32, LibvirtError> {
        let (mac, leases) = (std::ptr::null(), std::ptr::null_mut());
        // SAFETY: a valid network; without a MAC address all leases are meant, without a list only their number.
        let count = unsafe { sys::virNetworkGetDHCPLeases(self.0.as_ptr(), mac, leases, 0) };
        u32::try_from(count).map_err(|_| connection.last_error("cannot ask for a network's DHCP leases"))
    }
}
