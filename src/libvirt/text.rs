//! C strings, copied.

use std::ffi::{CStr, c_char, c_void};

unsafe extern "C" {
    /// C's `free`, which libvirt's documentation asks for; nothing else of libc is needed here.
    #[link_name = "free"]
    pub(super) fn libc_free(pointer: *mut c_void);
}

/// A copy of a string that libvirt keeps: null or NUL-terminated, alive during the call. Null is empty; bytes that are not
/// UTF-8 become U+FFFD.
pub(super) fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: not null, so NUL-terminated and alive, as every string that libvirt lends.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// A string that libvirt has allocated for the caller, who frees it.
pub(super) struct OwnedText(*mut c_char);

impl OwnedText {
    /// Takes over what a call returned; `None` for null, which means that the call failed.
    pub(super) fn new(string: *mut c_char) -> Option<Self> {
        (!string.is_null()).then_some(Self(string))
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        // SAFETY: a non-null string of libvirt is NUL-terminated, and alive as long as this value.
        unsafe { CStr::from_ptr(self.0) }.count_bytes()
    }

    /// A copy.
    pub(super) fn to_text(&self) -> String {
        text(self.0)
    }
}

impl Drop for OwnedText {
    fn drop(&mut self) {
        // SAFETY: allocated by libvirt with malloc, owned by this value, freed once.
        unsafe { libc_free(self.0.cast()) };
    }
}
