//! Serde for a number of things: at least one.

use std::fmt::{self, Formatter};

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::ValueError;

/// A number from 1 to `MAX`.
pub(super) fn up_to<'de, D: Deserializer<'de>, const MAX: usize>(deserializer: D) -> Result<usize, D::Error> {
    /// Written as any number, so that one that is too small or too large is named as such.
    struct Number(i128);

    impl<'de> Deserialize<'de> for Number {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct NumberVisitor;

            impl Visitor<'_> for NumberVisitor {
                type Value = Number;

                fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                    f.write_str("a whole number")
                }

                fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                    Ok(Number(i128::from(number)))
                }

                fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                    Ok(Number(i128::from(number)))
                }
            }

            deserializer.deserialize_i64(NumberVisitor)
        }
    }

    let Number(number) = Number::deserialize(deserializer)?;
    let count = usize::try_from(number).ok().filter(|count| (1..=MAX).contains(count));
    count.ok_or_else(|| D::Error::custom(ValueError::CountRange { number: number.to_string(), most: MAX }))
}
