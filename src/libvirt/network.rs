//! Networks of libvirt's.

use std::ptr::NonNull;

use uuid::Uuid;
use virt::sys;

use super::connection::Connection;
use super::error::{ErrorClass, LibvirtError};
use super::list::take_all;
use super::text::{OwnedText, text};

/// What no such network is to libvirt.
const NO_NETWORK: ErrorClass = ErrorClass::Other(sys::VIR_ERR_NO_NETWORK.cast_signed());

/// A network as one connection knows it. The handle holds a reference to its connection.
#[derive(Debug)]
pub struct Network {
    pointer: NonNull<sys::_virNetwork>,
}

impl Connection {
    /// The UUIDs of all networks. Waits for a network that is being started.
    ///
    /// # Errors
    /// Of any class.
    pub fn list_networks(&self) -> Result<Vec<Uuid>, LibvirtError> {
        let mut list = std::ptr::null_mut();
        // SAFETY: an open connection and a valid out-parameter.
        let count = unsafe { sys::virConnectListAllNetworks(self.as_ptr(), &raw mut list, 0) };
        let Ok(count) = usize::try_from(count) else { return Err(self.last_error("cannot list the networks")) };
        // SAFETY: a successful call leaves networks there, each with a reference for the caller, then a null pointer.
        let networks = unsafe { take_all(list, count, |pointer| Network { pointer }) };
        Ok(networks.iter().map(Network::uuid).collect())
    }

    /// The network with this UUID; `None` if there is none. Waits for that network alone.
    ///
    /// # Errors
    /// Of any class.
    pub fn network(&self, uuid: Uuid) -> Result<Option<Network>, LibvirtError> {
        // SAFETY: an open connection and the 16 bytes that a UUID has.
        let pointer = unsafe { sys::virNetworkLookupByUUID(self.as_ptr(), uuid.as_bytes().as_ptr()) };
        match NonNull::new(pointer) {
            Some(pointer) => Ok(Some(Network { pointer })),
            None => Some(self.last_error("cannot look up a network"))
                .filter(|error| error.class != NO_NETWORK)
                .map_or(Ok(None), Err),
        }
    }
}

impl Network {
    /// The name, without asking the daemon.
    #[must_use]
    pub fn name(&self) -> String {
        // SAFETY: a valid network; the name belongs to it and is copied.
        text(unsafe { sys::virNetworkGetName(self.as_ptr()) })
    }

    fn uuid(&self) -> Uuid {
        uuid_of(self.as_ptr())
    }

    /// Whether it is started.
    ///
    /// # Errors
    /// Of any class.
    pub fn is_active(&self, connection: &Connection) -> Result<bool, LibvirtError> {
        // SAFETY: a valid network.
        let answer = unsafe { sys::virNetworkIsActive(self.as_ptr()) };
        if answer < 0 { Err(connection.last_error(ATTRIBUTE)) } else { Ok(answer != 0) }
    }

    /// How many DHCP leases it has given that have not expired (`virNetworkGetDHCPLeases`).
    ///
    /// # Errors
    /// Of any class.
    pub fn dhcp_leases(&self, connection: &Connection) -> Result<u32, LibvirtError> {
        let (mac, leases) = (std::ptr::null(), std::ptr::null_mut());
        // SAFETY: a valid network; without a MAC address all leases are meant, without a list only their number.
        let count = unsafe { sys::virNetworkGetDHCPLeases(self.as_ptr(), mac, leases, 0) };
        u32::try_from(count).map_err(|_| connection.last_error("cannot ask for a network's DHCP leases"))
    }

    /// Whether it starts with the host.
    ///
    /// # Errors
    /// Of any class.
    pub fn autostart(&self, connection: &Connection) -> Result<bool, LibvirtError> {
        let mut autostart = 0;
        // SAFETY: a valid network and a valid out-parameter.
        let done = unsafe { sys::virNetworkGetAutostart(self.as_ptr(), &raw mut autostart) };
        if done < 0 { Err(connection.last_error(ATTRIBUTE)) } else { Ok(autostart != 0) }
    }

    /// Whether it is defined, and will be there when it is inactive.
    ///
    /// # Errors
    /// Of any class.
    pub fn is_persistent(&self, connection: &Connection) -> Result<bool, LibvirtError> {
        // SAFETY: a valid network.
        let answer = unsafe { sys::virNetworkIsPersistent(self.as_ptr()) };
        if answer < 0 { Err(connection.last_error(ATTRIBUTE)) } else { Ok(answer != 0) }
    }

    /// The definition as XML.
    ///
    /// # Errors
    /// Of any class.
    pub fn xml_description(&self, connection: &Connection) -> Result<String, LibvirtError> {
        // SAFETY: a valid network; the result is null or a string for the caller.
        let xml = OwnedText::new(unsafe { sys::virNetworkGetXMLDesc(self.as_ptr(), 0) });
        xml.map(|xml| xml.to_text()).ok_or_else(|| connection.last_error("cannot read a network's definition"))
    }

    fn as_ptr(&self) -> sys::virNetworkPtr {
        self.pointer.as_ptr()
    }
}

/// What `is_active`, `autostart` and `is_persistent` fail at.
const ATTRIBUTE: &str = "cannot ask how a network is kept";

impl Drop for Network {
    fn drop(&mut self) {
        // SAFETY: the handle owns one reference and gives it back once. The daemon is not asked.
        unsafe { sys::virNetworkFree(self.as_ptr()) };
    }
}

/// The UUID of a valid network, without asking the daemon.
pub(super) fn uuid_of(network: sys::virNetworkPtr) -> Uuid {
    let mut uuid = [0; 16];
    // SAFETY: a valid network and room for VIR_UUID_BUFLEN (16) bytes.
    unsafe { sys::virNetworkGetUUID(network, uuid.as_mut_ptr()) };
    Uuid::from_bytes(uuid)
}
