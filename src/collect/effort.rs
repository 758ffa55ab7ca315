//! What collections take, for whoever wants them faster: how long those of each selection took, and how much each group brings.
//!
//! libvirt does not say how long it took for a group. That could only be measured by asking for each group alone, which would
//! cost the daemon several calls for one: `check` does that, a scrape does not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Collection, Selection};

/// Selections that are remembered. A site has a few; whoever makes up new ones drives out only the ones that are idle.
const REMEMBERED: usize = 16;

/// How long the collections of one selection took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effort {
    /// What was asked for.
    pub selection: Selection,
    /// When the last one ended.
    pub at: SystemTime,
    /// How long the last one took.
    pub last: Duration,
    /// How long the longest one took, as long as the selection is remembered.
    pub longest: Duration,
}

/// How long the collections of each selection took.
#[derive(Debug, Default)]
pub struct Efforts {
    known: Mutex<Vec<Effort>>,
}

impl Efforts {
    /// Remembers a collection of `selection`. One that failed says nothing.
    pub fn note(&self, selection: &Selection, collection: &Collection) {
        if collection.error.is_some() {
            return;
        }
        let (at, last) = (collection.at, collection.duration);
        let mut known = self.known();
        let same = known.iter().position(|effort| effort.selection == *selection);
        let longest = same.map_or(last, |same| known.remove(same).longest.max(last));
        // The one that was asked for last stands last.
        if known.len() == REMEMBERED {
            known.remove(0);
        }
        known.push(Effort { selection: selection.clone(), at, last, longest });
    }

    /// The selections, the slowest first.
    #[must_use]
    pub fn slowest_first(&self) -> Vec<Effort> {
        let mut efforts = self.known().clone();
        efforts.sort_by_key(|effort| std::cmp::Reverse((effort.last, effort.longest)));
        efforts
    }

    fn known(&self) -> MutexGuard<'_, Vec<Effort>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::libvirt::{ErrorClass, LibvirtError};

    fn collection(millis: u64, error: bool) -> Collection {
        Collection {
            batches: Vec::new(),
            parameters: BTreeMap::new(),
            domains: Vec::new(),
            versions: None,
            at: SystemTime::UNIX_EPOCH,
            ended: std::time::Instant::now(),
            duration: Duration::from_millis(millis),
            calls: 1,
            targets: Arc::default(),
            error: error.then(|| LibvirtError::own("cannot connect", ErrorClass::ConnectFailed, "nobody listens")),
        }
    }

    #[test]
    fn the_slowest_selection_comes_first_and_idle_ones_are_forgotten() {
        let of = |name: &str| Selection { domains: vec![name.parse().expect("a regex")], ..Selection::default() };
        let efforts = Efforts::default();
        for (selection, millis, failed) in
            [(of("a"), 30, false), (of("b"), 20, false), (of("a"), 10, false), (of("a"), 9000, true)]
        {
            efforts.note(&selection, &collection(millis, failed));
        }
        let shown = |efforts: &Efforts| -> Vec<_> {
            let efforts = efforts.slowest_first().into_iter();
            efforts.map(|effort| (effort.selection, effort.last.as_millis(), effort.longest.as_millis())).collect()
        };
        assert_eq!(shown(&efforts), [(of("b"), 20, 20), (of("a"), 10, 30)]);
        for number in 0..REMEMBERED - 1 {
            efforts.note(&of(&number.to_string()), &collection(5, false));
        }
        let known = shown(&efforts);
        assert_eq!((known.len(), &known[0]), (REMEMBERED, &(of("a"), 10, 30)));
    }
}
