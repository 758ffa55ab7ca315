//! Keepalive is turned on by the thread of the event loop.
//!
//! libvirt looks whether a connection has keepalive and then follows a pointer to it, and lets go of its lock in between
//! (`remoteConnectSetKeepAlive` of 9.0; found by fuzzing). If the daemon leaves at that moment, the event loop ends the
//! connection, the pointer is null, and the process is gone. On its own thread the loop does nothing else at that time.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::mpsc::{Sender, channel};

use virt::sys;

/// Seconds without traffic after which libvirt sends a keepalive ping.
const INTERVAL: c_int = 5;
/// How many of these questions may stay unanswered; the connection breaks after a total of 20 s.
const COUNT: c_uint = 3;

/// What the event loop is to do, and whom to tell.
struct Command {
    connection: sys::virConnectPtr,
    done: Sender<()>,
}

/// Turns on keepalive, where driver and daemon have it. Waits for the event loop, which must have been started. `connection` is
/// open, and nothing else uses it until then.
pub(super) fn turn_on(connection: sys::virConnectPtr) {
    let (done, ended) = channel();
    let command = Box::into_raw(Box::new(Command { connection, done }));
    // SAFETY: the callback has the type that libvirt calls, once, and owns the box from then on.
    let timer = unsafe { sys::virEventAddTimeout(0, Some(run), command.cast(), None) };
    if timer < 0 {
        // SAFETY: libvirt has not taken the box.
        drop(unsafe { Box::from_raw(command) });
    }
    // An error only says that the command is gone: keepalive is off then.
    let _off = ended.recv();
}

unsafe extern "C" fn run(timer: c_int, command: *mut c_void) {
    // SAFETY: the timer is the one that is being served; without it, this is not called again.
    unsafe { sys::virEventRemoveTimeout(timer) };
    // SAFETY: the box of `turn_on`, which only this call takes back.
    let Command { connection, done } = *unsafe { Box::from_raw(command.cast::<Command>()) };
    // A refusal only means that this driver or this daemon has no keepalive, as test:///default.
    // SAFETY: the caller that waits for this call owns the open connection, and does nothing with it until the call returns.
    unsafe { sys::virConnectSetKeepAlive(connection, INTERVAL, COUNT) };
    // The caller that waits cannot have gone.
    let _told = done.send(());
}
