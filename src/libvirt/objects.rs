//! Changes of the host's objects: storage pools and networks. Those of domains are in `watch`.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

use uuid::Uuid;
use virt::sys;

use super::connection::Connection;
use super::error::LibvirtError;
use super::watch::{Registration, Sink, call, forget, new_key, release};
use super::{network, storage_pool};

/// What is called with the UUID of an object and what has happened to it. As [`EventSink`](super::EventSink) it must be quick,
/// must not call libvirt and must not drop a connection.
pub type ObjectSink = Arc<dyn Fn(ObjectKind, Uuid, ObjectEvent) + Send + Sync>;

/// A kind of object whose changes can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// Storage pools.
    Pool,
    /// Networks.
    Network,
}

/// What has happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectEvent {
    /// It was defined, started, stopped and the like: `virStoragePoolEventLifecycleType`, `virNetworkEventLifecycleType`.
    Lifecycle(i32),
    /// A storage pool was refreshed.
    Refreshed,
}

impl Connection {
    /// Registers for the changes of all objects of a kind. From here on `sink` is called on the thread of libvirt's event loop,
    /// until the connection is dropped. One call to the daemon for each kind of event; where another daemon has the objects, that
    /// one has to answer, too.
    ///
    /// # Errors
    /// Of any class.
    pub fn watch_objects(&self, kind: ObjectKind, sink: &ObjectSink) -> Result<(), LibvirtError> {
        match kind {
            ObjectKind::Pool => {
                self.watch_pools(sys::VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, pool_lifecycle(), sink)?;
                self.watch_pools(sys::VIR_STORAGE_POOL_EVENT_ID_REFRESH, Some(pool_refreshed), sink)
            }
            ObjectKind::Network => self.register(kind, sink, |opaque| {
                let id = sys::VIR_NETWORK_EVENT_ID_LIFECYCLE.cast_signed();
                // SAFETY: an open connection, no certain network, a function of this event's type; the opaque pointer is a number
                // that nothing follows.
                unsafe {
                    sys::virConnectNetworkEventRegisterAny(
                        self.as_ptr(),
                        null_mut(),
                        id,
                        network_lifecycle(),
                        opaque,
                        Some(release),
                    )
                }
            }),
        }
    }

    fn watch_pools(
        &self,
        event: sys::virStoragePoolEventID,
        callback: sys::virConnectStoragePoolEventGenericCallback,
        sink: &ObjectSink,
    ) -> Result<(), LibvirtError> {
        self.register(ObjectKind::Pool, sink, |opaque| {
            let id = event.cast_signed();
            // SAFETY: as for networks; the caller gives event and function that belong together.
            unsafe {
                sys::virConnectStoragePoolEventRegisterAny(
                    self.as_ptr(),
                    null_mut(),
                    id,
                    callback,
                    opaque,
                    Some(release),
                )
            }
        })
    }

    fn register(
        &self,
        kind: ObjectKind,
        sink: &ObjectSink,
        register: impl FnOnce(*mut c_void) -> c_int,
    ) -> Result<(), LibvirtError> {
        let key = new_key(Sink::Objects(Arc::clone(sink)));
        let id = register(std::ptr::without_provenance_mut(key));
        if id >= 0 {
            self.watch.borrow_mut().push(Registration { key, id, of: Some(kind) });
            return Ok(());
        }
        let error = self.last_error("cannot watch storage pools and networks");
        forget(key);
        Err(error)
    }
}

/// Ends a registration. A failure leaves nothing to do: libvirt has let go of it all the same.
pub(super) fn deregister(connection: &Connection, kind: ObjectKind, id: c_int) {
    match kind {
        // SAFETY: an open connection and the number of a registration for pools on it.
        ObjectKind::Pool => unsafe { sys::virConnectStoragePoolEventDeregisterAny(connection.as_ptr(), id) },
        // SAFETY: likewise for networks.
        ObjectKind::Network => unsafe { sys::virConnectNetworkEventDeregisterAny(connection.as_ptr(), id) },
    };
}

fn tell(opaque: *mut c_void, kind: ObjectKind, event: ObjectEvent, uuid: impl FnOnce() -> Uuid) {
    call(opaque, |sink| {
        if let Sink::Objects(sink) = sink {
            sink(kind, uuid(), event);
        }
    });
}

/// The function for changes of a pool's life cycle, in the type that registrations of all kinds have.
fn pool_lifecycle() -> sys::virConnectStoragePoolEventGenericCallback {
    unsafe extern "C" fn changed(
        _connection: sys::virConnectPtr,
        pool: sys::virStoragePoolPtr,
        event: c_int,
        _detail: c_int,
        opaque: *mut c_void,
    ) {
        tell(opaque, ObjectKind::Pool, ObjectEvent::Lifecycle(event), || storage_pool::uuid_of(pool));
    }
    let function: sys::virConnectStoragePoolEventLifecycleCallback = Some(changed);
    // SAFETY: both are nullable pointers to C functions; libvirt casts it back before it calls it.
    unsafe { std::mem::transmute(function) }
}

unsafe extern "C" fn pool_refreshed(
    _connection: sys::virConnectPtr,
    pool: sys::virStoragePoolPtr,
    opaque: *mut c_void,
) {
    tell(opaque, ObjectKind::Pool, ObjectEvent::Refreshed, || storage_pool::uuid_of(pool));
}

/// Likewise for networks.
fn network_lifecycle() -> sys::virConnectNetworkEventGenericCallback {
    unsafe extern "C" fn changed(
        _connection: sys::virConnectPtr,
        network: sys::virNetworkPtr,
        event: c_int,
        _detail: c_int,
        opaque: *mut c_void,
    ) {
        tell(opaque, ObjectKind::Network, ObjectEvent::Lifecycle(event), || network::uuid_of(network));
    }
    let function: sys::virConnectNetworkEventLifecycleCallback = Some(changed);
    // SAFETY: as for pools.
    unsafe { std::mem::transmute(function) }
}
