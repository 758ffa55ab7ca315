//! Serde for a number of things: at least one.

use std::fmt::{self, Display, Formatter};

use serde::Deserializer;
use serde::de::{Error, Visitor};

use super::error::ValueError;

/// A number from 1 to `MAX`. It is checked inside the visitor, which is what gives an error its line and column.
pub(super) fn up_to<'de, D: Deserializer<'de>, const MAX: usize>(deserializer: D) -> Result<usize, D::Error> {
    struct CountVisitor<const MAX: usize>;

    impl<const MAX: usize> CountVisitor<MAX> {
        fn check<E: Error>(number: impl TryInto<usize> + Display + Copy) -> Result<usize, E> {
            let count = number.try_into().ok().filter(|count| (1..=MAX).contains(count));
            count.ok_or_else(|| E::custom(ValueError::CountRange { number: number.to_string(), most: MAX }))
        }
    }

    impl<const MAX: usize> Visitor<'_> for CountVisitor<MAX> {
        type Value = usize;

        fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number")
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<usize, E> {
            Self::check(number)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<usize, E> {
            Self::check(number)
        }
    }

    deserializer.deserialize_i64(CountVisitor::<MAX>)
}
