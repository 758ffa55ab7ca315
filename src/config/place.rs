//! Where a key of a document is, for errors that are found after it has been read.

use std::fmt::{self, Formatter};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

/// Line and column, from 1, of the value that is down these `steps` (`otlp`, `enabled`); `None` if the document does not have it.
pub(super) fn of(text: &str, steps: &[&str]) -> Option<(usize, usize)> {
    let error = Walk(steps).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.location().map(|at| (at.line(), at.column()))
}

/// Goes down to the value at the path and fails there: serde_yaml says where of errors only.
struct Walk<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0 {
            [] => Found::deserialize(deserializer).map(|Found| ()),
            _ => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.0.split_first() {
                Some((first, rest)) if **first == key => map.next_value_seed(Walk(rest))?,
                _ => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }
}

/// What no value can be.
struct Found;

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NoVisitor)
    }
}

struct NoVisitor;

impl Visitor<'_> for NoVisitor {
    type Value = Found;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn a_value_has_a_place() {
        let text = "# first\nweb: {config_file: a}\notlp:\n  tls: {}\n  enabled: true\nlist: [a,\n b]\n";
        for (path, place) in [
            ("otlp.enabled", Some((5, 12))),
            ("web.config_file", Some((2, 20))),
            ("otlp.tls", Some((4, 8))),
            ("list", Some((6, 7))),
            ("otlp.endpoint", None),
            ("absent", None),
        ] {
            let steps: Vec<&str> = path.split('.').collect();
            assert_eq!(of(text, &steps), place, "{path}");
        }
    }
}
