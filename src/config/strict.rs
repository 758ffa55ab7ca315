//! Refuses what `serde_yaml` lets pass: a mapping that has a key twice, and `null` where a text is wanted.
//!
//! Of two keys the last one would win in a map, and one in a struct would be reported without a place; `null` would be the text
//! "null". An error raised while a key or a value is being read carries its line and column, so this pass over the whole
//! document raises it there.

use std::collections::HashSet;
use std::fmt::{self, Formatter};

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde_yaml::Value;

/// Where a document may have `null`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Nulls<'a> {
    /// Everywhere.
    Anywhere,
    /// Where the defaults have it too, or a mapping or a list, of which it means none; nowhere if they have nothing.
    Like(Option<&'a Value>),
}

impl<'a> Nulls<'a> {
    fn below(self, key: &str) -> Self {
        match self {
            Self::Anywhere => self,
            Self::Like(defaults) => Self::Like(defaults.and_then(|defaults| defaults.get(key))),
        }
    }

    fn of_entries(self) -> Self {
        match self {
            Self::Anywhere => self,
            Self::Like(_) => Self::Like(None),
        }
    }

    fn allowed(self) -> bool {
        let fits = |value: &'a Value| value.is_null() || value.is_mapping() || value.is_sequence();
        match self {
            Self::Anywhere => true,
            Self::Like(defaults) => defaults.is_some_and(fits),
        }
    }
}

/// Passes over `text` and stops at the first key that its mapping has already, or at a `null` out of place.
pub(super) fn check(text: &str, nulls: Nulls<'_>) -> Result<(), serde_yaml::Error> {
    nulls.deserialize(serde_yaml::Deserializer::from_str(text))
}

impl<'de> DeserializeSeed<'de> for Nulls<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nulls<'_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key_seed(NewKey(&mut seen))? {
            map.next_value_seed(self.below(&key))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self.of_entries())?.is_some() {}
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        let (IgnoredAny, value) = tagged.variant()?;
        value.newtype_variant_seed(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i128<E>(self, _: i128) -> Result<(), E> {
        Ok(())
    }

    fn visit_u128<E>(self, _: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.allowed() { Ok(()) } else { Err(E::custom("null is no value, expected one, or no such key")) }
    }
}

/// Reads a key and remembers it.
struct NewKey<'seen>(&'seen mut HashSet<String>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = String;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        if self.0.insert(key.to_owned()) {
            Ok(key.to_owned())
        } else {
            Err(E::custom(format_args!("duplicate key `{key}`")))
        }
    }
}
