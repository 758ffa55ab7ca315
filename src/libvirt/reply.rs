//! Parameters laid out as libvirt lays them out, without a libvirt: for benches and tests of the visit alone.

use std::ffi::{CString, c_char};
use std::ops::Range;

use uuid::Uuid;
use virt::sys;

use super::param::{ParamValue, Records};
use super::stats::{FIELD_LENGTH, push_param};

/// The parameters of one domain in C's layout.
pub struct Reply {
    params: Vec<sys::virTypedParameter>,
    /// What the string parameters point to.
    _strings: Vec<CString>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("params", &self.params.len()).finish_non_exhaustive()
    }
}

impl Reply {
    /// The parameters of the domain at `index` of `records`. Strings are cut at a NUL.
    #[must_use]
    pub fn new(records: &Records, index: usize) -> Self {
        let mut strings = Vec::new();
        let mut params = Vec::new();
        for param in records.domain(index).params() {
            let mut field: [c_char; FIELD_LENGTH] = [0; FIELD_LENGTH];
            for (to, from) in field.iter_mut().take(FIELD_LENGTH - 1).zip(param.key.bytes()) {
                *to = c_char::from_ne_bytes([from]);
            }
            let (tag, value) = c_value(param.value, &mut strings);
            params.push(sys::virTypedParameter { field, type_: tag, value });
        }
        Self { params, _strings: strings }
    }

    /// Visits them as after a call about the domains of these ids, which all have these parameters.
    #[must_use]
    pub fn visit(&self, ids: Range<u32>) -> Records {
        let mut records = Records::default();
        records.reserve(ids.clone().map(|_| self.params.len()).sum());
        for id in ids {
            records.push_domain("guest", Uuid::from_u128(id.into()), Some(id));
            for param in &self.params {
                push_param(param, &mut records);
            }
        }
        records
    }
}

fn c_value(value: ParamValue<'_>, strings: &mut Vec<CString>) -> (i32, sys::_virTypedParameterValue) {
    type Union = sys::_virTypedParameterValue;
    let tag = |tag: u32| i32::try_from(tag).unwrap_or(0);
    match value {
        ParamValue::Int(i) => (tag(sys::VIR_TYPED_PARAM_INT), Union { i }),
        ParamValue::UInt(ui) => (tag(sys::VIR_TYPED_PARAM_UINT), Union { ui }),
        ParamValue::LLong(l) => (tag(sys::VIR_TYPED_PARAM_LLONG), Union { l }),
        ParamValue::ULLong(ul) => (tag(sys::VIR_TYPED_PARAM_ULLONG), Union { ul }),
        ParamValue::Double(d) => (tag(sys::VIR_TYPED_PARAM_DOUBLE), Union { d }),
        ParamValue::Boolean(b) => (tag(sys::VIR_TYPED_PARAM_BOOLEAN), Union { b: c_char::from(b) }),
        ParamValue::String(text) => {
            let bytes = text.bytes().take_while(|byte| *byte != 0).collect::<Vec<u8>>();
            let string = CString::new(bytes).unwrap_or_default();
            strings.push(string);
            let s = strings.last().map_or(std::ptr::null(), |string| string.as_ptr()).cast_mut();
            (tag(sys::VIR_TYPED_PARAM_STRING), Union { s })
        }
        ParamValue::Unknown(unknown) => (unknown, Union { ul: u64::MAX }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_the_way_through_c() {
        let mut records = Records::default();
        records.push_domain("a", uuid::Uuid::nil(), Some(1));
        for (key, value) in [
            ("int", ParamValue::Int(-1)),
            ("uint", ParamValue::UInt(u32::MAX)),
            ("llong", ParamValue::LLong(i64::MIN)),
            ("ullong", ParamValue::ULLong(u64::MAX)),
            ("double", ParamValue::Double(0.1)),
            ("boolean", ParamValue::Boolean(true)),
            ("string", ParamValue::String("ä \"x\"")),
            ("unknown", ParamValue::Unknown(99)),
            ("a key of seventy-nine bytes, the longest that libvirt can send and we can read.", ParamValue::Int(1)),
        ] {
            records.push(key, value);
        }
        let copy = Reply::new(&records, 0).visit(0..2);
        assert_eq!(copy.len(), 2);
        assert!(copy.domains().all(|domain| domain.params().eq(records.domain(0).params())));
        assert_eq!(copy.domain(0).params().last().map(|param| param.key.len()), Some(79));
    }

    #[test]
    fn a_null_string_and_bytes_that_are_not_utf8_are_values() {
        let mut field = [0; FIELD_LENGTH];
        field[0] = c_char::from_ne_bytes([b'k']);
        field[1] = c_char::from_ne_bytes([0xff]);
        let bytes = CString::new([b'a', 0xff]).expect("no NUL within");
        let mut copy = Records::default();
        copy.push_domain("a", uuid::Uuid::nil(), None);
        for s in [std::ptr::null_mut(), bytes.as_ptr().cast_mut()] {
            let value = sys::_virTypedParameterValue { s };
            push_param(&sys::virTypedParameter { field, type_: 7, value }, &mut copy);
        }
        let values: Vec<_> = copy.domain(0).params().map(|param| (param.key, param.value)).collect();
        assert_eq!(values, [("k\u{fffd}", ParamValue::String("")), ("k\u{fffd}", ParamValue::String("a\u{fffd}"))]);
    }
}
