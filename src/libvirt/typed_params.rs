//! Typed parameters that a call gives to its caller, who frees them; and copies of those that libvirt lends.

use std::ffi::c_int;

use uuid::Uuid;
use virt::sys;

use super::param::Records;
use super::stats::push_param;

/// The parameters that a call has allocated: out-parameters for the call, freed with this.
#[derive(Debug)]
pub(super) struct TypedParams {
    pub(super) list: sys::virTypedParameterPtr,
    pub(super) count: c_int,
}

impl TypedParams {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { list: std::ptr::null_mut(), count: 0 }
    }

    /// A copy, in one record without a name.
    pub(super) fn to_records(&self) -> Records {
        copy_params(self.list, self.count)
    }
}

impl Drop for TypedParams {
    fn drop(&mut self) {
        // SAFETY: null, or `count` parameters that libvirt allocated for the caller, freed once.
        unsafe { sys::virTypedParamsFree(self.list, self.count) };
    }
}

/// A copy of `count` parameters that are alive during the call, in one record without a name.
pub(super) fn copy_params(params: sys::virTypedParameterPtr, count: c_int) -> Records {
    let mut records = Records::default();
    records.push_domain("", Uuid::nil(), None);
    if let (Ok(count), false) = (usize::try_from(count), params.is_null()) {
        // SAFETY: libvirt says that there are `count` initialised parameters, which outlive this call.
        for param in unsafe { std::slice::from_raw_parts(params, count) } {
            push_param(param, &mut records);
        }
    }
    records
}
