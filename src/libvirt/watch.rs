//! The registration for events, and its end. Events come on the thread of libvirt's event loop.
//!
//! libvirt is given numbers of registrations, never memory of ours: a registration that the daemon refuses while an earlier
//! one is being served is released by libvirt although it has failed, and one that has been ended may be called once more.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::{Condvar, Mutex};
use virt::sys;

use super::callbacks::CALLBACKS;
use super::connection::Connection;
use super::domain::identity_of;
use super::error::{ErrorClass, LibvirtError};
use super::event::{Event, EventKind};
use super::objects::{self, ObjectKind, ObjectSink};

/// What is called with every event. It must be quick, must not call libvirt and must not drop a connection.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;

/// Which events are watched, by [`EventKind::name`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// Those that will be told.
    pub known: Vec<&'static str>,
    /// Those that the library, the driver or the daemon does not know.
    pub unknown: Vec<&'static str>,
}

/// A registration that libvirt has accepted.
#[derive(Debug)]
pub(super) struct Registration {
    /// Its key in [`SINKS`].
    pub(super) key: usize,
    /// libvirt's number for it, within its connection.
    pub(super) id: i32,
    /// What its events are about: domains where it is `None`.
    pub(super) of: Option<ObjectKind>,
}

/// What is called.
pub(super) enum Sink {
    /// With events of domains.
    Domains(EventSink),
    /// With changes of storage pools or networks.
    Objects(ObjectSink),
}

/// The registrations of all connections: by key, the sink as long as it may be called, until libvirt lets go of the key.
/// Held while a sink is called, so that none is called after its connection is gone.
static SINKS: Mutex<BTreeMap<usize, Option<Sink>>> = Mutex::new(BTreeMap::new());
/// Told when libvirt lets go of a key.
static RELEASED: Condvar = Condvar::new();
/// The next key; none is used twice.
static NEXT_KEY: AtomicUsize = AtomicUsize::new(1);

/// How long the end of a registration waits for the event loop, which may be just calling its sink.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);

/// A key for a sink that is about to be registered.
pub(super) fn new_key(sink: Sink) -> usize {
    let key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
    SINKS.lock().insert(key, Some(sink));
    key
}

/// The sink could not be registered.
pub(super) fn forget(key: usize) {
    let sink = SINKS.lock().remove(&key);
    drop(sink);
}

impl Connection {
    /// Registers for every event that an exporter has a use for, of all domains that there are and will be. From here on
    /// `sink` is called on the thread of libvirt's event loop, in the order of the events, until the connection is dropped;
    /// then it is freed. A second call takes the place of the first. One call to the daemon for each kind of event, at high
    /// priority.
    ///
    /// Events may overtake the replies to calls, and the other way round. To know all domains, watch first, then list.
    ///
    /// # Errors
    /// [`ErrorClass::Disconnected`] and [`ErrorClass::PermissionDenied`]; nothing is watched then.
    pub fn watch_events(&self, sink: EventSink) -> Result<Watched, LibvirtError> {
        self.end_watch();
        let mut watched = Watched::default();
        for callback in CALLBACKS {
            let key = new_key(Sink::Domains(Arc::clone(&sink)));
            // SAFETY: an open connection, no certain domain, a function of this event's type; the opaque pointer is a number
            // that nothing follows.
            let id = unsafe {
                sys::virConnectDomainEventRegisterAny(
                    self.as_ptr(),
                    std::ptr::null_mut(),
                    callback.id.cast_signed(),
                    callback.function,
                    std::ptr::without_provenance_mut(key),
                    Some(release),
                )
            };
            if id >= 0 {
                self.watch.borrow_mut().push(Registration { key, id, of: None });
                watched.known.push(callback.name);
                continue;
            }
            let error = self.last_error(format!("cannot watch events of kind {}", callback.name));
            forget(key);
            if matches!(error.class, ErrorClass::Disconnected | ErrorClass::PermissionDenied) {
                self.end_watch();
                return Err(error);
            }
            watched.unknown.push(callback.name);
        }
        Ok(watched)
    }

    /// Ends all registrations. No sink is called after this; libvirt has let go of them, so that the last reference to the
    /// connection is not the event loop's, which would then have to say goodbye to the daemon itself.
    pub(super) fn end_watch(&self) {
        let registrations = self.watch.take();
        for registration in &registrations {
            let sink = SINKS.lock().get_mut(&registration.key).and_then(Option::take);
            drop(sink);
        }
        for registration in &registrations {
            // A failure (the connection is dead) leaves nothing to do: libvirt has let go of the registration all the same.
            if let Some(kind) = registration.of {
                objects::deregister(self, kind, registration.id);
                continue;
            }
            // SAFETY: an open connection and the number of a registration on it.
            unsafe { sys::virConnectDomainEventDeregisterAny(self.as_ptr(), registration.id) };
        }
        let is_held = |sinks: &mut BTreeMap<_, _>| registrations.iter().any(|one| sinks.contains_key(&one.key));
        let mut sinks = SINKS.lock();
        RELEASED.wait_while_for(&mut sinks, is_held, RELEASE_PATIENCE);
        for registration in &registrations {
            sinks.remove(&registration.key);
        }
    }
}

/// Hands an event to the sink of a registration. Returns what its C callback must: nothing, or an int that is not used.
pub(super) fn deliver<R: Default>(
    opaque: *mut c_void,
    domain: sys::virDomainPtr,
    kind: impl FnOnce() -> EventKind,
) -> R {
    call(opaque, |sink| {
        if let Sink::Domains(sink) = sink {
            sink(Event { domain: identity_of(domain), at: SystemTime::now(), kind: kind() });
        }
    });
    R::default()
}

/// Calls the sink of a registration, if it still may be called.
pub(super) fn call(opaque: *mut c_void, call: impl FnOnce(&Sink)) {
    // A panic must not unwind into C.
    let _caught = catch_unwind(AssertUnwindSafe(|| {
        let sinks = SINKS.lock();
        if let Some(Some(sink)) = sinks.get(&opaque.addr()) {
            call(sink);
        }
    }));
}

/// libvirt lets go of a registration.
pub(super) unsafe extern "C" fn release(opaque: *mut c_void) {
    let sink = SINKS.lock().remove(&opaque.addr());
    RELEASED.notify_all();
    // What it owns is dropped while nothing is held. A panic must not unwind into C.
    let _caught = catch_unwind(AssertUnwindSafe(|| drop(sink)));
}
