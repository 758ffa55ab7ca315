//! A list that holds at least one entry, and none twice.

use std::fmt::{self, Display, Formatter};
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::error::ValueError;

/// A list that holds at least one entry, and none twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct List<T>(Vec<T>);

impl<T> List<T> {
    /// For defaults, which the author of this program has checked.
    pub(super) fn of(entries: impl IntoIterator<Item = T>) -> Self {
        Self(entries.into_iter().collect())
    }
}

/// Serde for a list that may be empty, where another setting can make up for it.
pub(super) fn or_empty<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<List<T>, D::Error>
where
    T: Deserialize<'de> + PartialEq + Display,
{
    deserializer.deserialize_seq(ListVisitor { or_empty: true, of: PhantomData })
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: PartialEq + Display> TryFrom<Vec<T>> for List<T> {
    type Error = ValueError;

    fn try_from(entries: Vec<T>) -> Result<Self, ValueError> {
        if entries.is_empty() {
            return Err(ValueError::EmptyList);
        }
        match (1..entries.len()).find(|&index| entries[..index].contains(&entries[index])) {
            Some(index) => Err(ValueError::ListedTwice { entry: entries[index].to_string() }),
            None => Ok(Self(entries)),
        }
    }
}

impl<'de, T: Deserialize<'de> + PartialEq + Display> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor { or_empty: false, of: PhantomData })
    }
}

struct ListVisitor<T> {
    or_empty: bool,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de> + PartialEq + Display> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = seq.next_element()? {
            entries.push(entry);
        }
        if self.or_empty && entries.is_empty() {
            return Ok(List(entries));
        }
        List::try_from(entries).map_err(A::Error::custom)
    }
}
