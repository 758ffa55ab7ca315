//! Without a scrape or a push for long, nothing is read again that is only shown: calls cost libvirt, and wake threads.

use std::time::Duration;

use super::Scheduler;
use crate::collect::run::{Run, RunId};

/// After how long without a request. Scrapes and pushes are more frequent.
const UNWATCHED: Duration = Duration::from_secs(15 * 60);
/// The share of the time of its first request that a run gives what is read again.
const SHARE: u32 = 4;

impl Scheduler {
    /// Whether there was a request of late.
    pub(super) fn is_watched(&self) -> bool {
        self.now.at.saturating_duration_since(self.asked) < UNWATCHED
    }

    /// There is a request. Has everything read again if nothing was, and gives whether it was so.
    pub(super) fn watch(&mut self) -> bool {
        let slept = !self.is_watched();
        self.asked = self.now.at;
        if slept {
            self.want_all(&[], true);
        }
        slept
    }

    /// Has a run wait for what is read again, for some time.
    pub(super) fn await_readings(&self, run: &mut Run) {
        run.readings_until =
            run.deadline().map(|deadline| self.now.at + deadline.saturating_duration_since(self.now.at) / SHARE);
    }

    /// Whether what a run waits for is being read.
    pub(super) fn awaits_readings(&self, run: &Run) -> bool {
        run.readings_until.is_some() && self.background.is_reading(self.now.at)
    }

    /// Nothing more is waited for.
    pub(super) fn do_without_readings(&mut self, run: RunId) {
        self.runs.get_mut(&run).into_iter().for_each(|run| run.readings_until = None);
    }
}
