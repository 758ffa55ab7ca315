//! How long the collections of each selection took.
//!
//! libvirt does not say how long it took for a group. That could only be measured by asking for each group alone, which would
//! cost the daemon several calls for one: `check` does that, a scrape does not.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::{Collection, Selection};

/// Selections that are remembered. A site has a few; a client that makes up new ones drives out only those that are idle.
const REMEMBERED: usize = 16;

/// Characters of a selection that are kept: a request may be much longer, and asks for the next one at will.
const SHOWN: usize = 120;

/// How long the collections of one selection took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectionTiming {
    /// The selection, for display.
    pub selection: String,
    /// When the last one ended.
    pub at: SystemTime,
    /// How long the last one took.
    pub last: Duration,
    /// How long the longest one took, as long as the selection is remembered.
    pub longest: Duration,
}

/// How long the collections of each selection took.
#[derive(Debug, Default)]
pub struct SelectionTimings {
    /// By the hash of the selection: it takes no more memory than what is shown of it.
    known: Mutex<Vec<(u64, SelectionTiming)>>,
    hasher: RandomState,
}

impl SelectionTimings {
    /// Remembers a collection of `selection`. One that failed says nothing.
    pub fn note(&self, selection: &Selection, collection: &Collection) {
        if collection.error.is_some() {
            return;
        }
        let (at, last) = (collection.at, collection.duration);
        let number = self.hasher.hash_one(selection);
        let mut known = self.known.lock();
        let same = known.iter().position(|(of, _)| *of == number);
        let longest = same.map_or(last, |same| known.remove(same).1.longest.max(last));
        // The one that was asked for last stands last.
        if known.len() == REMEMBERED {
            known.remove(0);
        }
        known.push((number, SelectionTiming { selection: shown(selection), at, last, longest }));
    }

    /// The selections, the slowest first.
    #[must_use]
    pub fn slowest_first(&self) -> Vec<SelectionTiming> {
        let mut timings: Vec<SelectionTiming> = self.known.lock().iter().map(|(_, timing)| timing.clone()).collect();
        timings.sort_by_key(|timing| std::cmp::Reverse((timing.last, timing.longest)));
        timings
    }
}

/// The beginning of a selection, in an allocation of its size.
fn shown(selection: &Selection) -> String {
    let text = selection.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NamePatterns;
    use crate::libvirt::{ErrorClass, LibvirtError};

    fn collection(millis: u64, error: bool) -> Collection {
        Collection {
            duration: Duration::from_millis(millis),
            error: error.then(|| LibvirtError::own("cannot connect", ErrorClass::ConnectFailed, "no socket")),
            ..Collection::empty(SystemTime::UNIX_EPOCH, std::time::Instant::now())
        }
    }

    #[test]
    fn the_slowest_selection_comes_first_and_idle_ones_are_forgotten() {
        let domains = |name: &str| NamePatterns::new(vec![name.to_owned()]).expect("a regex");
        let of = |name: &str| Selection { domains: domains(name), ..Selection::default() };
        let text = |name: &str| of(name).to_string();
        let timings = SelectionTimings::default();
        for (selection, millis, failed) in
            [(of("a"), 30, false), (of("b"), 20, false), (of("a"), 10, false), (of("a"), 9000, true)]
        {
            timings.note(&selection, &collection(millis, failed));
        }
        let shown = |timings: &SelectionTimings| -> Vec<_> {
            let timings = timings.slowest_first().into_iter();
            timings.map(|timing| (timing.selection, timing.last.as_millis(), timing.longest.as_millis())).collect()
        };
        assert_eq!(shown(&timings), [(text("b"), 20, 20), (text("a"), 10, 30)]);
        for number in 0..REMEMBERED - 1 {
            timings.note(&of(&number.to_string()), &collection(5, false));
        }
        let known = shown(&timings);
        assert_eq!((known.len(), &known[0]), (REMEMBERED, &(text("a"), 10, 30)));
    }

    #[test]
    fn what_is_remembered_of_a_selection_is_what_is_shown() {
        let timings = SelectionTimings::default();
        for number in 0..REMEMBERED + 4 {
            let source = format!("{number}-{}", "é".repeat(900));
            let domains = NamePatterns::new(vec![source]).expect("a regex");
            timings.note(&Selection { domains, ..Selection::default() }, &collection(5, false));
        }
        let known = timings.known.lock();
        let bytes: usize = known.iter().map(|(_, timing)| timing.selection.capacity()).sum();
        assert!(known.len() == REMEMBERED && bytes < REMEMBERED * 4 * SHOWN, "{bytes} bytes");
        assert!(known.iter().all(|(_, timing)| timing.selection.ends_with('…')));
    }
}
