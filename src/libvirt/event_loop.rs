//! libvirt's start-up and its event loop: one thread for the process, running for ever.
//!
//! The loop answers the daemon's keepalive and delivers events, for all connections. It must be registered before the
//! first connection is opened, and it must run: a daemon drops a connection that has a loop which does not (30 s).
//!
//! The process ends while this thread, and threads that close connections, still use libvirt and its libraries: nothing of theirs
//! may be cleaned up then.

#[cfg(target_env = "gnu")]
use std::ffi::{c_int, c_void};
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
    #[cfg(target_env = "gnu")]
    end_without_cleaning_up();
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

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    fn _exit(status: c_int) -> !;
}

/// Has `exit` end the process before OpenSSL, which libvirt's initialisation has started, frees what its threads use: a thread that
/// ends at the same time would free it again, and the process would be aborted. To be called after that initialisation: what was
/// registered last is called first. The standard library has flushed standard output by then.
#[cfg(target_env = "gnu")]
fn end_without_cleaning_up() {
    extern "C" fn end(status: c_int, _argument: *mut c_void) {
        // SAFETY: takes a number, and runs nothing more of this process.
        unsafe { _exit(status) }
    }
    // SAFETY: the function has the type that `exit` calls, lives for ever, and ignores its argument.
    let _registered = unsafe { on_exit(end, std::ptr::null_mut()) };
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

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use std::env;
    use std::process::{Command, exit};

    use super::*;

    #[test]
    fn the_process_ends_before_libraries_clean_up() {
        const CHILD: &str = "DOMSTATS_EXPORTER_TEST_CHILD";
        extern "C" fn clean_up(_status: c_int, _argument: *mut c_void) {
            // SAFETY: as in `end_without_cleaning_up`.
            unsafe { _exit(7) }
        }
        if env::var_os(CHILD).is_some() {
            // SAFETY: as in `end_without_cleaning_up`.
            unsafe { on_exit(clean_up, std::ptr::null_mut()) };
            ensure_started().expect("libvirt");
            exit(3);
        }
        let name = "libvirt::event_loop::tests::the_process_ends_before_libraries_clean_up";
        let mut child = Command::new(env::current_exe().expect("a path"));
        let output = child.args(["--exact", name]).env(CHILD, "1").output().expect("this program");
        assert_eq!(output.status.code(), Some(3), "{output:?}");
    }
}
