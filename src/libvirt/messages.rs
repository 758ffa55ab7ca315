//! What libvirt warns of a domain (`virDomainGetMessages`).

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::LazyLock;

use virt::sys;

use super::connection::Connection;
use super::domain::Domain;
use super::error::{ErrorClass, LibvirtError};
use super::text::libc_free;

/// How many warnings there are of a domain, by what they are about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Messages {
    /// Features that it uses and that will be removed (`VIR_DOMAIN_MESSAGE_DEPRECATION`).
    pub deprecation: usize,
    /// What has been done to it that libvirt does not support (`VIR_DOMAIN_MESSAGE_TAINTING`).
    pub tainting: usize,
}

type GetMessages = unsafe extern "C" fn(sys::virDomainPtr, *mut *mut *mut c_char, c_uint) -> c_int;

unsafe extern "C" {
    /// The dynamic linker's; the null handle is the whole program.
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The function is newer (libvirt 7.1) than the library that the program needs, so it is looked up.
static GET_MESSAGES: LazyLock<Option<GetMessages>> = LazyLock::new(|| {
    // SAFETY: a NUL-terminated name, and the handle that stands for all libraries of the program.
    let found = unsafe { dlsym(std::ptr::null_mut(), c"virDomainGetMessages".as_ptr()) };
    // SAFETY: the library's function of this name has this type, by its header.
    (!found.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, GetMessages>(found) })
});

impl Domain {
    /// How many warnings there are. One call, and a second one only where there are any. Waits for nothing.
    ///
    /// # Errors
    /// Of any class; [`ErrorClass::NotSupported`] before libvirt 7.1 on either side, and with other drivers.
    pub fn messages(&self, connection: &Connection) -> Result<Messages, LibvirtError> {
        let all = self.count(connection, sys::VIR_DOMAIN_MESSAGE_DEPRECATION | sys::VIR_DOMAIN_MESSAGE_TAINTING)?;
        if all == 0 {
            return Ok(Messages::default());
        }
        let tainting = self.count(connection, sys::VIR_DOMAIN_MESSAGE_TAINTING)?;
        Ok(Messages { deprecation: all.saturating_sub(tainting), tainting })
    }

    fn count(&self, connection: &Connection, kinds: sys::virDomainMessageType) -> Result<usize, LibvirtError> {
        const OPERATION: &str = "cannot ask for a domain's messages";
        let Some(get_messages) = *GET_MESSAGES else {
            return Err(LibvirtError::own(OPERATION, ErrorClass::NotSupported, "the library has no such function"));
        };
        let mut list: *mut *mut c_char = std::ptr::null_mut();
        // SAFETY: a valid domain and a valid out-parameter, which libvirt sets to a list for the caller.
        let count = unsafe { get_messages(self.as_ptr(), &raw mut list, kinds) };
        let Ok(count) = usize::try_from(count) else { return Err(connection.last_error(OPERATION)) };
        if !list.is_null() {
            // SAFETY: a successful call leaves an array of `count` strings there.
            for &message in unsafe { std::slice::from_raw_parts(list, count) } {
                // SAFETY: each was allocated by libvirt with malloc, is the caller's, and is freed once.
                unsafe { libc_free(message.cast()) };
            }
            // SAFETY: so was the array itself.
            unsafe { libc_free(list.cast()) };
        }
        Ok(count)
    }
}
