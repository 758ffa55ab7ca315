//! From libvirt's value and unit to the exported ones.

use std::borrow::Cow;

use super::family::Value;
use crate::libvirt::ParamValue;
use crate::tables::{Kind, Scale};

/// The value in the exported unit; `None` for strings and for types that this program does not know.
/// Integers stay exact unless the unit needs a division or the product goes beyond 64 bits.
pub(super) fn scaled(value: ParamValue<'_>, scale: Scale) -> Option<Value> {
    let exact = match value {
        ParamValue::Int(v) => signed(i64::from(v)),
        ParamValue::UInt(v) => Value::Unsigned(u64::from(v)),
        ParamValue::LLong(v) => signed(v),
        ParamValue::ULLong(v) => Value::Unsigned(v),
        ParamValue::Boolean(v) => Value::Unsigned(u64::from(v)),
        ParamValue::Double(v) => Value::Float(v),
        ParamValue::String(_) | ParamValue::Unknown(_) => return None,
    };
    Some(match scale {
        Scale::One => exact,
        Scale::Kilo => multiplied(exact, 1000),
        Scale::Kibi => multiplied(exact, 1 << 10),
        Scale::Mebi => multiplied(exact, 1 << 20),
        // A division of two exact numbers is rounded once, so it prints as the decimal that a reader expects.
        Scale::Nano => Value::Float(float(exact) / 1e9),
        Scale::Micro => Value::Float(float(exact) / 1e6),
        Scale::Milli => Value::Float(float(exact) / 1e3),
        Scale::Percent => Value::Float(float(exact) / 1e2),
    })
}

/// Whether a metric of this kind may have this value: a counter is never negative and never "not a number".
pub(super) fn is_valid(kind: Kind, value: Value) -> bool {
    match (kind, value) {
        (Kind::Counter, Value::Signed(_)) => false,
        (Kind::Counter, Value::Float(v)) => v >= 0.0,
        _ => true,
    }
}

/// The value as a non-negative integer, for counts, codes and bins.
pub(super) fn whole(value: ParamValue<'_>) -> Option<u64> {
    match scaled(value, Scale::One) {
        Some(Value::Unsigned(v)) => Some(v),
        _ => None,
    }
}

/// Nanoseconds in seconds.
pub(super) fn seconds(nanos: u64) -> f64 {
    float(Value::Unsigned(nanos)) / 1e9
}

fn signed(value: i64) -> Value {
    u64::try_from(value).map_or(Value::Signed(value), Value::Unsigned)
}

fn multiplied(value: Value, factor: u32) -> Value {
    let exact = match value {
        Value::Unsigned(v) => v.checked_mul(u64::from(factor)).map(Value::Unsigned),
        Value::Signed(v) => v.checked_mul(i64::from(factor)).map(Value::Signed),
        _ => None,
    };
    exact.unwrap_or_else(|| Value::Float(float(value) * f64::from(factor)))
}

/// The nearest floating-point number.
#[expect(clippy::as_conversions, reason = "there is no other conversion of 64 bits to the nearest float")]
pub(crate) fn float(value: Value) -> f64 {
    match value {
        Value::Unsigned(v) => v as f64,
        Value::Signed(v) => v as f64,
        Value::Float(v) => v,
        Value::Histogram(_) => f64::NAN,
    }
}

/// The value as a label: names are strings, ids and intervals are numbers.
pub(super) fn text(value: ParamValue<'_>) -> Option<Cow<'_, str>> {
    match value {
        ParamValue::String(text) => Some(text.into()),
        ParamValue::Double(number) => Some(number.to_string().into()),
        other => match scaled(other, Scale::One)? {
            Value::Unsigned(number) => Some(number.to_string().into()),
            Value::Signed(number) => Some(number.to_string().into()),
            Value::Float(_) | Value::Histogram(_) => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_scaled_without_losing_digits() {
        let cases = [
            (ParamValue::ULLong(u64::MAX), Scale::One, Value::Unsigned(u64::MAX)),
            (ParamValue::ULLong(1_048_576), Scale::Kibi, Value::Unsigned(1 << 30)),
            (ParamValue::ULLong(u64::MAX), Scale::Kibi, Value::Float(18_446_744_073_709_551_615.0 * 1024.0)),
            (ParamValue::LLong(-2), Scale::Mebi, Value::Signed(-2 << 20)),
            (ParamValue::ULLong(12_345_678_901), Scale::Nano, Value::Float(12.345_678_901)),
            (ParamValue::UInt(100_000), Scale::Micro, Value::Float(0.1)),
            (ParamValue::ULLong(1000), Scale::Kilo, Value::Unsigned(1_000_000)),
            (ParamValue::Double(0.5), Scale::Kibi, Value::Float(512.0)),
            (ParamValue::Boolean(true), Scale::One, Value::Unsigned(1)),
        ];
        for (value, scale, expected) in cases {
            assert_eq!(scaled(value, scale), Some(expected), "{value:?} {scale:?}");
        }
        assert_eq!(scaled(ParamValue::String("1"), Scale::One), None);
        assert_eq!(scaled(ParamValue::Unknown(9), Scale::One), None);
    }

    #[test]
    fn a_counter_is_a_non_negative_number() {
        for bad in [Value::Signed(-1), Value::Float(-0.5), Value::Float(f64::NAN)] {
            assert!(!is_valid(Kind::Counter, bad), "{bad:?}");
            assert!(is_valid(Kind::Gauge, bad), "{bad:?}");
        }
    }
}
