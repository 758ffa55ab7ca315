//! A connection to a libvirt daemon.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CString, c_ulong, c_void};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use virt::sys;

use super::error::{ErrorClass, LibvirtError, Phase};
use super::node::Host;
use super::peer::without_user;
use super::sockets::OpenGuard;
use super::text::{OwnedText, text};
use super::watch::Registration;
use super::{event_loop, keepalive};

/// The longest definition that is copied, in bytes. libvirt's protocol ends at 4 MiB, drivers without one do not.
const XML_MAX: usize = 8 << 20;

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Look.
    ReadOnly,
    /// Change things, too, and speak to guest agents.
    ReadWrite,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::ReadWrite => "read-write",
        })
    }
}

/// An open connection.
///
/// It belongs to one thread at a time: up to libvirt 10.2 the client library has races when threads share one.
#[derive(Debug)]
pub struct Connection {
    pointer: NonNull<sys::_virConnect>,
    access: Access,
    /// The key of its callback in [`ON_CLOSE`].
    on_close: usize,
    /// The registrations for events.
    pub(super) watch: RefCell<Vec<Registration>>,
}

// SAFETY: a virConnectPtr is reference-counted and bound to no thread; without Sync only one thread uses it at a time.
unsafe impl Send for Connection {}

/// The versions behind a connection, as `9.0.0`; empty where the driver does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// The client library in this process (`virGetVersion`).
    pub library: String,
    /// The daemon's libvirt (`virConnectGetLibVersion`).
    pub libvirt: String,
    /// The hypervisor (`virConnectGetVersion`).
    pub hypervisor: String,
    /// The driver, such as `QEMU` (`virConnectGetType`).
    pub driver: String,
    /// The machine below all of them; `None` where the driver does not say.
    pub host: Option<Host>,
}

impl Connection {
    /// Opens `uri` and turns on keepalive where the transport has it.
    ///
    /// May block without limit (a frozen daemon, or one at its client limit): call it on a thread that may, or use
    /// [`Connection::open_guarded`]. `on_close` is called once when the connection breaks, from any thread, and must not
    /// call libvirt; it is not called for a drop. What it owns is freed after that call or with the connection.
    ///
    /// A drop says goodbye to the daemon and waits for the answer, or until keepalive ends the connection.
    ///
    /// # Errors
    /// [`ErrorClass::ConnectFailed`], [`ErrorClass::BadUri`] or [`ErrorClass::PermissionDenied`].
    pub fn open(uri: &str, access: Access, on_close: impl Fn() + Send + 'static) -> Result<Self, LibvirtError> {
        Self::open_guarded(uri, access, &OpenGuard::default(), on_close)
    }

    /// As [`Connection::open`], but an open that hangs can be ended by `guard` from another thread.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn open_guarded(
        uri: &str,
        access: Access,
        guard: &OpenGuard,
        on_close: impl Fn() + Send + 'static,
    ) -> Result<Self, LibvirtError> {
        event_loop::ensure_started()?;
        let operation = || format!("cannot open {} {access}", without_user(uri));
        let failure = |message| LibvirtError::own(operation(), ErrorClass::ConnectFailed, message).with_access(access);
        let c_uri = CString::new(uri)
            .map_err(|_| LibvirtError::own(operation(), ErrorClass::BadUri, "the URI has a NUL byte"))?;
        // All calls to the daemon are within reach of the guard.
        let opened = guard.watch(uri, || {
            let pointer = match access {
                // SAFETY: `c_uri` is a NUL-terminated string that outlives the call; the library is initialised.
                Access::ReadOnly => unsafe { sys::virConnectOpenReadOnly(c_uri.as_ptr()) },
                // SAFETY: as above.
                Access::ReadWrite => unsafe { sys::virConnectOpen(c_uri.as_ptr()) },
            };
            let pointer = NonNull::new(pointer).ok_or_else(|| {
                LibvirtError::last(operation(), Phase::Connecting).with_access(access).without_user_of(uri)
            })?;
            let key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
            ON_CLOSE.lock().insert(key, Box::new(on_close));
            let connection = Self { pointer, access, on_close: key, watch: RefCell::default() };
            keepalive::turn_on(connection.as_ptr());
            connection.watch_close();
            // libvirt opens a connection even if its last questions are not answered. Of one that broke before the callback
            // was registered, there would be no notice.
            if !connection.is_alive() {
                return Err(failure("the connection to the daemon broke at once"));
            }
            Ok(connection)
        });
        opened.unwrap_or_else(|| Err(failure("the connection is not needed any more")))
    }

    /// A refusal only means that this daemon does not tell.
    fn watch_close(&self) {
        // SAFETY: an open connection; the callback has the type that libvirt calls; the opaque pointer is a number that nothing
        // follows.
        unsafe {
            sys::virConnectRegisterCloseCallback(
                self.as_ptr(),
                Some(closed),
                std::ptr::without_provenance_mut(self.on_close),
                None,
            )
        };
    }

    /// Whether the connection is alive, by what the driver knows. Asks the client library only, never the daemon.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        // SAFETY: the pointer is an open connection that this value owns.
        unsafe { sys::virConnectIsAlive(self.as_ptr()) != 0 }
    }

    /// The versions of library, daemon and hypervisor, and the host. Three calls to the daemon; what it does not tell stays empty.
    ///
    /// # Errors
    /// [`ErrorClass::Disconnected`] if the connection broke during the call.
    pub fn versions(&self) -> Result<Versions, LibvirtError> {
        let mut library: c_ulong = 0;
        // SAFETY: the first argument is a valid out-parameter; type and its version may be null.
        unsafe { sys::virGetVersion(&raw mut library, std::ptr::null(), std::ptr::null_mut()) };
        let mut libvirt: c_ulong = 0;
        // SAFETY: an open connection and a valid out-parameter.
        unsafe { sys::virConnectGetLibVersion(self.as_ptr(), &raw mut libvirt) };
        let mut hypervisor: c_ulong = 0;
        // SAFETY: an open connection and a valid out-parameter.
        unsafe { sys::virConnectGetVersion(self.as_ptr(), &raw mut hypervisor) };
        // SAFETY: an open connection; the result is null or a string that lives as long as the driver.
        let driver = text(unsafe { sys::virConnectGetType(self.as_ptr()) });
        if !self.is_alive() {
            return Err(LibvirtError::last("cannot ask the daemon for its version", Phase::Dead));
        }
        Ok(Versions {
            library: version_text(library),
            libvirt: version_text(libvirt),
            hypervisor: version_text(hypervisor),
            driver,
            host: self.host(),
        })
    }

    /// Sees whether the daemon answers. One call, served at high priority, which waits for no domain.
    ///
    /// # Errors
    /// Of any class.
    pub fn ping(&self) -> Result<(), LibvirtError> {
        let mut libvirt: c_ulong = 0;
        // SAFETY: an open connection and a valid out-parameter.
        if unsafe { sys::virConnectGetLibVersion(self.as_ptr(), &raw mut libvirt) } < 0 {
            return Err(self.last_error("cannot ask the daemon for its version"));
        }
        Ok(())
    }

    /// The host's name, as the daemon has it. One call, served at high priority.
    ///
    /// # Errors
    /// Of any class.
    pub fn hostname(&self) -> Result<String, LibvirtError> {
        // SAFETY: an open connection; the result is null or a string for the caller.
        let name = OwnedText::new(unsafe { sys::virConnectGetHostname(self.as_ptr()) });
        name.map(|name| name.to_text()).ok_or_else(|| self.last_error("cannot ask for the host's name"))
    }

    /// A definition as a call has given it, which is null if the call failed.
    pub(super) fn definition(&self, xml: Option<OwnedText>, operation: &str) -> Result<String, LibvirtError> {
        let xml = xml.ok_or_else(|| self.last_error(operation))?;
        if xml.len() > XML_MAX {
            let message = format!("it has {} bytes, more than {XML_MAX}", xml.len());
            return Err(LibvirtError::own(operation, ErrorClass::TooLarge, message));
        }
        Ok(xml.to_text())
    }

    pub(super) fn as_ptr(&self) -> sys::virConnectPtr {
        self.pointer.as_ptr()
    }

    /// The error of the call that just failed on this connection.
    pub(super) fn last_error(&self, operation: impl Into<String>) -> LibvirtError {
        // The error is read first: asking whether the connection is alive would overwrite it.
        let error = LibvirtError::last(operation, Phase::Alive).with_access(self.access);
        if self.is_alive() { error } else { error.disconnected() }
    }
}

/// What is called when a connection breaks.
type OnClose = Box<dyn Fn() + Send>;

/// What is to be called for each connection that has not broken yet, by a number: libvirt is given that, never memory of ours.
/// For a driver without a daemon it says that it has registered the callback, and forgets it without freeing what belongs to it.
static ON_CLOSE: Mutex<BTreeMap<usize, OnClose>> = Mutex::new(BTreeMap::new());
/// The next key; none is used twice.
static NEXT_KEY: AtomicUsize = AtomicUsize::new(1);

unsafe extern "C" fn closed(_connection: sys::virConnectPtr, _reason: i32, opaque: *mut c_void) {
    let on_close = ON_CLOSE.lock().remove(&opaque.addr());
    // Called, and then freed, while nothing is held. A panic must not unwind into C; a callback that only sends a message has none.
    let _caught = catch_unwind(AssertUnwindSafe(move || on_close.map(|on_close| on_close())));
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end_watch();
        // The registration holds a reference; after a break libvirt has let go of it itself, and says so by an error.
        // SAFETY: an open connection and the callback that was registered on it.
        unsafe { sys::virConnectUnregisterCloseCallback(self.as_ptr(), Some(closed)) };
        // A failure (the connection is dead already) leaves nothing to do: libvirt has let go of the socket.
        // SAFETY: the pointer is a connection that this value owns and that nothing uses after it.
        unsafe { sys::virConnectClose(self.as_ptr()) };
        let on_close = ON_CLOSE.lock().remove(&self.on_close);
        drop(on_close);
    }
}

/// libvirt packs versions as major * 1,000,000 + minor * 1,000 + release; 0 means unknown.
fn version_text(version: c_ulong) -> String {
    if version == 0 {
        return String::new();
    }
    format!("{}.{}.{}", version / 1_000_000, version / 1_000 % 1_000, version % 1_000)
}
