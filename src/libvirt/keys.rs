//! The different keys of a reply, numbered.
//!
//! Domains of a host send nearly the same keys in nearly the same order, so the key that followed the last time is tried
//! first: a look-up is then one comparison of some twenty bytes.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::Mutex;

use super::param::index;

/// The keys of some records.
#[derive(Debug, Clone)]
pub(super) enum Keys {
    /// Of these records alone: more may follow.
    Own(Box<Table>),
    /// Of all records that have the same.
    Shared(Arc<Table>),
}

impl Default for Keys {
    fn default() -> Self {
        Self::Own(Box::default())
    }
}

impl Keys {
    /// The number of `key`, which is new or has been there before.
    pub(super) fn number(&mut self, key: &[u8]) -> u32 {
        match self {
            Self::Own(table) => table.number(key),
            Self::Shared(table) => {
                let mut table = Box::new(Table::clone(table));
                let number = table.number(key);
                *self = Self::Own(table);
                number
            }
        }
    }

    /// The key with this number.
    pub(super) fn get(&self, number: u32) -> &str {
        self.table().get(number)
    }

    /// All keys, by number.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.table().iter()
    }

    /// Forgets them all; those that are its own leave their memory.
    pub(super) fn clear(&mut self) {
        match self {
            Self::Own(table) => table.clear(),
            Self::Shared(_) => *self = Self::default(),
        }
    }

    /// Shares them with the other records that have the same.
    pub(super) fn settle(&mut self, lists: &KeyLists) {
        if let Self::Own(table) = self {
            *self = Self::Shared(lists.known(std::mem::take(&mut **table)));
        }
    }

    fn table(&self) -> &Table {
        match self {
            Self::Own(table) => table,
            Self::Shared(table) => table,
        }
    }
}

/// The lists of keys that records share. Those of a host's domains are few, and what is kept of each domain is often less than
/// its keys.
#[derive(Debug, Default)]
pub struct KeyLists(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    tables: HashSet<Arc<Table>>,
    /// When there are as many, those that no records have any more are dropped.
    many: usize,
}

impl KeyLists {
    /// The list that is the same as `table`.
    fn known(&self, mut table: Table) -> Arc<Table> {
        const FEW: usize = 16;
        let Lists { tables, many } = &mut *self.0.lock();
        if let Some(known) = tables.get(&table) {
            return Arc::clone(known);
        }
        if tables.len() >= *many {
            tables.retain(|table| Arc::strong_count(table) > 1);
            *many = FEW + 2 * tables.len();
        }
        table.text.shrink_to_fit();
        table.entries.shrink_to_fit();
        let table = Arc::new(table);
        tables.insert(Arc::clone(&table));
        table
    }
}

#[derive(Debug, Default, Clone)]
pub(super) struct Table {
    /// All keys, one after the other.
    text: String,
    entries: Vec<Entry>,
    numbers: HashTable<u32>,
    hasher: RandomState,
    last: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    end: u32,
    /// The number of the key that followed this one the last time.
    next: u32,
}

/// The order in which the keys follow one another is no part of it.
impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
            && self.entries.iter().map(|entry| entry.end).eq(other.entries.iter().map(|entry| entry.end))
    }
}

impl Eq for Table {}

impl Hash for Table {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Table {
    /// The number of `key`, which is new or has been there before.
    fn number(&mut self, key: &[u8]) -> u32 {
        let expected = self.entries.get(index(self.last)).map_or(0, |entry| entry.next);
        let is_expected = self.entries.get(index(expected)).is_some_and(|entry| bytes_of(&self.text, entry) == key);
        let number = if is_expected { expected } else { self.look_up(key) };
        self.last = number;
        number
    }

    #[cold]
    fn look_up(&mut self, key: &[u8]) -> u32 {
        let key = &*String::from_utf8_lossy(key);
        let number = match self.numbers.find(self.hasher.hash_one(key), |&number| self.get(number) == key) {
            Some(&known) => known,
            None => self.add(key),
        };
        if let Some(previous) = self.entries.get_mut(index(self.last)) {
            previous.next = number;
        }
        number
    }

    /// A reply is at most 32 MiB (libvirt's own limit), so numbers and offsets fit in 32 bits; beyond 4 GiB all keys would
    /// be the first.
    fn add(&mut self, key: &str) -> u32 {
        let (start, end) = (u32::try_from(self.text.len()), u32::try_from(self.text.len() + key.len()));
        let (Ok(number), Ok(start), Ok(end)) = (u32::try_from(self.entries.len()), start, end) else { return 0 };
        self.text.push_str(key);
        self.entries.push(Entry { start, end, next: 0 });
        let Self { text, entries, numbers, hasher, .. } = self;
        let hash = |number: &u32| hasher.hash_one(text_of(text, &entries[index(*number)]));
        numbers.insert_unique(hasher.hash_one(key), number, hash);
        number
    }

    /// The key with this number.
    fn get(&self, number: u32) -> &str {
        self.entries.get(index(number)).map_or("", |entry| text_of(&self.text, entry))
    }

    /// All keys, by number.
    fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|entry| text_of(&self.text, entry))
    }

    /// Keeps all memory and forgets what it held.
    fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        self.numbers.clear();
        self.last = 0;
    }
}

fn text_of<'a>(text: &'a str, entry: &Entry) -> &'a str {
    &text[index(entry.start)..index(entry.end)]
}

fn bytes_of<'a>(text: &'a str, entry: &Entry) -> &'a [u8] {
    &text.as_bytes()[index(entry.start)..index(entry.end)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_number_in_whatever_order_it_comes() {
        let mut keys = Keys::default();
        let words =
            ["cpu.time", "block.0.name", "block.1.name", "cpu.time", "", "vm.x", "", "block.1.name", "cpu.time"];
        let numbers: Vec<u32> = words.iter().map(|word| keys.number(word.as_bytes())).collect();
        assert_eq!(numbers, [0, 1, 2, 0, 3, 4, 3, 2, 0]);
        assert_eq!(keys.iter().collect::<Vec<_>>(), ["cpu.time", "block.0.name", "block.1.name", "", "vm.x"]);
        for _ in 0..3 {
            let again: Vec<u32> = words.iter().rev().map(|word| keys.number(word.as_bytes())).collect();
            assert!(again.iter().eq(numbers.iter().rev()));
        }
        keys.clear();
        assert_eq!((keys.number(b"vm.x"), keys.get(0), keys.iter().len()), (0, "vm.x", 1));
    }

    #[test]
    fn records_share_their_keys_until_one_gets_more() {
        let lists = KeyLists::default();
        let of = |words: &[&str]| {
            let mut keys = Keys::default();
            words.iter().for_each(|word| _ = keys.number(word.as_bytes()));
            keys.settle(&lists);
            keys
        };
        let [mut a, b, other, cut] =
            [&["vm.x", "vm.y"], &["vm.x", "vm.y"], &["vm.y", "vm.x"], &["vm.xv", "m.y"]].map(|words| of(words));
        let is_one = |a: &Keys, b: &Keys| std::ptr::eq(a.table(), b.table());
        assert!(is_one(&a, &b) && !is_one(&a, &other) && !is_one(&a, &cut));
        assert_eq!((a.number(b"vm.y"), a.number(b"vm.z")), (1, 2));
        assert_eq!((a.iter().len(), b.iter().len()), (3, 2));
        // Lists without a user are dropped.
        drop((a, b, other, cut));
        (0..1000).for_each(|number| drop(of(&[&number.to_string()])));
        assert!(lists.0.lock().tables.len() < 100);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_once() {
        let mut keys = Keys::default();
        assert_eq!([keys.number(b"a\xff"), keys.number(b"a\xff"), keys.number("a\u{fffd}".as_bytes())], [0, 0, 0]);
        assert_eq!(keys.get(0), "a\u{fffd}");
    }
}
