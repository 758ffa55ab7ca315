//! Storage pools.

use std::ptr::NonNull;

use uuid::Uuid;
use virt::sys;

use super::connection::Connection;
use super::error::{ErrorClass, LibvirtError};
use super::list::take_all;
use super::text::{OwnedText, text};

/// What no such pool is to libvirt.
const NO_POOL: ErrorClass = ErrorClass::Other(sys::VIR_ERR_NO_STORAGE_POOL.cast_signed());

/// A storage pool as one connection knows it. The handle holds a reference to its connection.
#[derive(Debug)]
pub struct StoragePool {
    pointer: NonNull<sys::_virStoragePool>,
}

/// State and sizes of a pool (`virStoragePoolGetInfo`), as of its last refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoragePoolInfo {
    /// `virStoragePoolState`
    pub state: i32,
    /// Size in bytes.
    pub capacity: u64,
    /// Bytes that its volumes take.
    pub allocation: u64,
    /// Bytes that are free.
    pub available: u64,
}

impl Connection {
    /// The UUIDs of all pools. Waits for a pool that is being refreshed.
    ///
    /// # Errors
    /// Of any class.
    pub fn list_storage_pools(&self) -> Result<Vec<Uuid>, LibvirtError> {
        let mut list = std::ptr::null_mut();
        // SAFETY: an open connection and a valid out-parameter.
        let count = unsafe { sys::virConnectListAllStoragePools(self.as_ptr(), &raw mut list, 0) };
        let Ok(count) = usize::try_from(count) else { return Err(self.last_error("cannot list the storage pools")) };
        // SAFETY: a successful call leaves pools there, each with a reference for the caller, then a null pointer.
        let pools = unsafe { take_all(list, count, |pointer| StoragePool { pointer }) };
        Ok(pools.iter().map(StoragePool::uuid).collect())
    }

    /// The pool with this UUID; `None` if there is none. Waits for that pool alone.
    ///
    /// # Errors
    /// Of any class.
    pub fn storage_pool(&self, uuid: Uuid) -> Result<Option<StoragePool>, LibvirtError> {
        // SAFETY: an open connection and the 16 bytes that a UUID has.
        let pointer = unsafe { sys::virStoragePoolLookupByUUID(self.as_ptr(), uuid.as_bytes().as_ptr()) };
        match NonNull::new(pointer) {
            Some(pointer) => Ok(Some(StoragePool { pointer })),
            None => Some(self.last_error("cannot look up a storage pool"))
                .filter(|error| error.class != NO_POOL)
                .map_or(Ok(None), Err),
        }
    }
}

impl StoragePool {
    /// The name, without asking the daemon.
    #[must_use]
    pub fn name(&self) -> String {
        // SAFETY: a valid pool; the name belongs to it and is copied.
        text(unsafe { sys::virStoragePoolGetName(self.as_ptr()) })
    }

    fn uuid(&self) -> Uuid {
        uuid_of(self.as_ptr())
    }

    /// State and sizes. libvirt does not look at the storage for it.
    ///
    /// # Errors
    /// Of any class.
    pub fn info(&self, connection: &Connection) -> Result<StoragePoolInfo, LibvirtError> {
        let mut info = sys::virStoragePoolInfo { state: 0, capacity: 0, allocation: 0, available: 0 };
        // SAFETY: a valid pool and a valid out-parameter.
        if unsafe { sys::virStoragePoolGetInfo(self.as_ptr(), &raw mut info) } < 0 {
            return Err(connection.last_error("cannot ask for a storage pool's state"));
        }
        let sys::virStoragePoolInfo { state, capacity, allocation, available } = info;
        Ok(StoragePoolInfo { state, capacity, allocation, available })
    }

    /// Whether it starts with the host.
    ///
    /// # Errors
    /// Of any class.
    pub fn autostart(&self, connection: &Connection) -> Result<bool, LibvirtError> {
        let mut autostart = 0;
        // SAFETY: a valid pool and a valid out-parameter.
        let done = unsafe { sys::virStoragePoolGetAutostart(self.as_ptr(), &raw mut autostart) };
        if done < 0 { Err(connection.last_error(ATTRIBUTE)) } else { Ok(autostart != 0) }
    }

    /// Whether it is defined, and will be there when it is inactive.
    ///
    /// # Errors
    /// Of any class.
    pub fn is_persistent(&self, connection: &Connection) -> Result<bool, LibvirtError> {
        // SAFETY: a valid pool.
        let answer = unsafe { sys::virStoragePoolIsPersistent(self.as_ptr()) };
        if answer < 0 { Err(connection.last_error(ATTRIBUTE)) } else { Ok(answer != 0) }
    }

    /// The definition as XML.
    ///
    /// # Errors
    /// Of any class.
    pub fn xml_description(&self, connection: &Connection) -> Result<String, LibvirtError> {
        // SAFETY: a valid pool; the result is null or a string for the caller.
        let xml = OwnedText::new(unsafe { sys::virStoragePoolGetXMLDesc(self.as_ptr(), 0) });
        xml.map(|xml| xml.to_text()).ok_or_else(|| connection.last_error("cannot read a storage pool's definition"))
    }

    fn as_ptr(&self) -> sys::virStoragePoolPtr {
        self.pointer.as_ptr()
    }
}

/// What `autostart` and `is_persistent` fail at.
const ATTRIBUTE: &str = "cannot ask how a storage pool is kept";

impl Drop for StoragePool {
    fn drop(&mut self) {
        // SAFETY: the handle owns one reference and gives it back once. The daemon is not asked.
        unsafe { sys::virStoragePoolFree(self.as_ptr()) };
    }
}

/// The UUID of a valid pool, without asking the daemon.
pub(super) fn uuid_of(pool: sys::virStoragePoolPtr) -> Uuid {
    let mut uuid = [0; 16];
    // SAFETY: a valid pool and room for VIR_UUID_BUFLEN (16) bytes.
    unsafe { sys::virStoragePoolGetUUID(pool, uuid.as_mut_ptr()) };
    Uuid::from_bytes(uuid)
}
