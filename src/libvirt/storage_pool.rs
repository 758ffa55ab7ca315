//! Storage pools.

use uuid::Uuid;
use virt::sys;

use super::connection::Connection;
use super::error::{ErrorClass, LibvirtError};
use super::object::object;

object! {
    /// A storage pool as one connection knows it. The handle holds a reference to its connection.
    StoragePool(_virStoragePool), "storage pool", list_storage_pools, storage_pool, unless VIR_ERR_NO_STORAGE_POOL;
    virConnectListAllStoragePools, virStoragePoolLookupByUUID, virStoragePoolGetName, virStoragePoolGetUUID,
    virStoragePoolGetAutostart, virStoragePoolIsPersistent, virStoragePoolGetXMLDesc, virStoragePoolFree
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

impl StoragePool {
    /// State and sizes. libvirt does not look at the storage for it.
    ///
    /// # Errors
    /// Of any class.
    pub fn info(&self, connection: &Connection) -> Result<StoragePoolInfo, LibvirtError> {
        let mut info = sys::virStoragePoolInfo { state: 0, capacity: 0, allocation: 0, available: 0 };
        // SAFETY: a valid pool and a valid out-parameter.
        if unsafe { sys::virStoragePoolGetInfo(self.0.as_ptr(), &raw mut info) } < 0 {
            return Err(connection.last_error("cannot ask for a storage pool's state"));
        }
        let sys::virStoragePoolInfo { state, capacity, allocation, available } = info;
        Ok(StoragePoolInfo { state, capacity, allocation, available })
    }
}
