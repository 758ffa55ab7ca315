//! libvirt's start-up and its event loop: one thread for the process, running for ever.
//!
//! The loop answers the daemon's keepalive and delivers events, for all connections. It must be registered before the
//! first connection is opened, and it must run: a daemon drops a connection that has a loop which does not (30 s).

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use virt::sys;

use super::error::{LibvirtError, Phase};

/// Initialises the library and starts the event loop, once for the process.
pub(super) fn ensure_started() -> Result<(), LibvirtError> {
    static STARTED: OnceLock<Result<(), LibvirtError>> = OnceLock::new();
    STARTED.get_or_init(start).clone()
}

fn start() -> Result<(), LibvirtError> {
    // SAFETY: takes no argument; may be called any number of times from any thread.
    if unsafe { sys::virInitialize() } < 0 {
        return Err(LibvirtError::last("cannot initialise libvirt", Phase::Connecting));
    }
    // SAFETY: the handler has the type that libvirt calls, lives for ever, and ignores its arguments.
    unsafe { sys::virSetErrorFunc(std::ptr::null_mut(), Some(ignore_error)) };
    // SAFETY: takes no argument; no connection exists yet, because every open passes through this function first.
    if unsafe { sys::virEventRegisterDefaultImpl() } < 0 {
        return Err(LibvirtError::last("cannot register libvirt's event loop", Phase::Connecting));
    }
    let run = thread::Builder::new().name("libvirt-events".into()).spawn(run);
    run.map(drop).map_err(|source| {
        LibvirtError::own("cannot start libvirt's event loop", super::ErrorClass::ConnectFailed, source.to_string())
    })
}

/// Without an error handler the library prints every error to standard error.
extern "C" fn ignore_error(_user_data: *mut std::ffi::c_void, _error: sys::virErrorPtr) {}

fn run() {
    loop {
        // SAFETY: takes no argument; the default implementation was registered before this thread was started.
        if unsafe { sys::virEventRunDefaultImpl() } < 0 {
            // Whatever is wrong, a busy loop would make it worse.
            thread::sleep(Duration::from_secs(1));
        }
    }
}
