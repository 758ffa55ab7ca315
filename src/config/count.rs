//! Serde for a number of things.

use std::fmt::{self, Display, Formatter};

use serde::Deserializer;
use serde::de::{Error, Visitor};

use super::error::ValueError;

/// A number from 1 to `MAX`.
pub(super) fn up_to<'de, D: Deserializer<'de>, const MAX: usize>(deserializer: D) -> Result<usize, D::Error> {
    deserializer.deserialize_i64(CountVisitor::<1, MAX>)
}

/// A number from 0, which turns something off, to `MAX`.
pub(super) fn zero_up_to<'de, D: Deserializer<'de>, const MAX: usize>(deserializer: D) -> Result<usize, D::Error> {
    deserializer.deserialize_i64(CountVisitor::<0, MAX>)
}

/// The visitor checks it, so that an error has line and column.
struct CountVisitor<const MIN: usize, const MAX: usize>;

impl<const MIN: usize, const MAX: usize> CountVisitor<MIN, MAX> {
    fn check<E: Error>(number: impl TryInto<usize> + Display + Copy) -> Result<usize, E> {
        let count = number.try_into().ok().filter(|count| (MIN..=MAX).contains(count));
        count.ok_or_else(|| E::custom(ValueError::CountRange { number: number.to_string(), least: MIN, most: MAX }))
    }
}

impl<const MIN: usize, const MAX: usize> Visitor<'_> for CountVisitor<MIN, MAX> {
    type Value = usize;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<usize, E> {
        Self::check(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<usize, E> {
        Self::check(number)
    }
}
