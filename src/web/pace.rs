//! How long answers took, so that the next one is there in the time that its scraper gives: a collection that uses all of it
//! leaves none for building, encoding and sending.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use parking_lot::Mutex;

use super::peer::Peer;
use super::turns::Work;

/// Answers that are remembered, of which each takes some fifty bytes.
const REMEMBERED: usize = 512;
/// A client that takes longer over an answer gets no quicker by being sent less.
const MOST_SENDING: Duration = Duration::from_secs(5);

/// How long an answer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pace {
    /// Until all was collected.
    pub(super) collecting: Duration,
    /// To build and encode it.
    pub(super) making: Duration,
    /// Until the client had taken it.
    sending: Duration,
}

impl Pace {
    /// How much of `budget` there is for collecting: all that the rest leaves, or where both do not fit, as much of it as it took
    /// of the whole the last time.
    pub(super) fn collecting_within(self, budget: Duration) -> Duration {
        let rest = self.making + self.sending;
        let whole = self.collecting + rest;
        if whole.is_zero() {
            return budget;
        }
        let share = budget.mul_f64(self.collecting.as_secs_f64() / whole.as_secs_f64());
        budget.saturating_sub(rest).max(share)
    }
}

/// How long the last answers took, by who asked for what.
#[derive(Debug, Default)]
pub(super) struct Paces {
    known: Mutex<VecDeque<(u64, Pace)>>,
    hasher: RandomState,
}

impl Paces {
    /// The key of this work for this peer.
    pub(super) fn number(&self, peer: Peer, work: &Work) -> u64 {
        self.hasher.hash_one((peer, work))
    }

    /// The last answer's.
    pub(super) fn of(&self, number: u64) -> Option<Pace> {
        self.known.lock().iter().find(|(of, _)| *of == number).map(|(_, pace)| *pace)
    }

    /// Notes how an answer was made. One that was cut short says nothing of how long a whole one takes, other than that it takes
    /// as long.
    pub(super) fn made(&self, number: u64, collecting: Duration, making: Duration, cut_short: bool) {
        let mut known = self.known.lock();
        let same = known.iter().position(|(of, _)| *of == number);
        let last = same.and_then(|same| known.remove(same)).map(|(_, pace)| pace).unwrap_or_default();
        let at_least = if cut_short { last } else { Pace::default() };
        let (collecting, making) = (collecting.max(at_least.collecting), making.max(at_least.making));
        if known.len() == REMEMBERED {
            known.pop_front();
        }
        known.push_back((number, Pace { collecting, making, sending: last.sending }));
    }

    /// Notes how long it took to send it.
    pub(super) fn sent(&self, number: u64, sending: Duration) {
        let mut known = self.known.lock();
        known.iter_mut().filter(|(of, _)| *of == number).for_each(|(_, pace)| pace.sending = sending.min(MOST_SENDING));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Coding;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_the_rest_takes_is_left_for_it() {
        let pace = Pace { collecting: millis(1000), making: millis(900), sending: millis(100) };
        for (budget, collecting) in [(9500, 8500), (2500, 1500), (2000, 1000), (1000, 500), (500, 250), (0, 0)] {
            assert_eq!(pace.collecting_within(millis(budget)), millis(collecting), "{budget}");
        }
        assert_eq!(Pace::default().collecting_within(millis(500)), millis(500), "nothing is known");
    }

    #[test]
    fn answers_are_remembered_by_who_asked_for_what() {
        let paces = Paces::default();
        let (one, other) = (Work::Targets { coding: Coding::Gzip }, Work::Targets { coding: Coding::Zstd });
        let number = paces.number(Peer::default(), &one);
        assert_ne!(number, paces.number(Peer::default(), &other));
        paces.made(number, millis(1000), millis(900), false);
        paces.sent(number, millis(60_000));
        // A partial answer does not make a whole one look cheap.
        paces.made(number, millis(300), millis(200), true);
        let expected = Pace { collecting: millis(1000), making: millis(900), sending: MOST_SENDING };
        assert_eq!(paces.of(number), Some(expected));
        paces.made(number, millis(300), millis(200), false);
        assert_eq!(paces.of(number).map(|pace| pace.collecting), Some(millis(300)));
        for number in 0..1000 {
            paces.made(number, millis(1), millis(1), false);
        }
        assert_eq!(paces.of(number), None);
        assert_eq!(paces.known.lock().len(), REMEMBERED);
    }
}
