//! How pushes went: for the metrics, the landing page, and one log line whenever it changes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::deliver::{Outcome, Verdict};

/// What the pusher counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushStats {
    /// Pushes by result; every result is there from the start.
    pub exports: Vec<(&'static str, u64)>,
    /// Points that receivers have taken out of pushes.
    pub rejected_points: u64,
    /// The last push.
    pub last: Option<LastPush>,
}

/// A push that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastPush {
    /// Where it went.
    pub url: String,
    /// When its values were collected.
    pub at: SystemTime,
    /// How long it took, collection included.
    pub took: Duration,
    /// Points that were taken.
    pub points: usize,
    /// Requests that were taken.
    pub requests: usize,
    /// Why it did not arrive, or what the receiver has to say of it.
    pub fault: Option<String>,
}

/// Remembers how pushes went, over all changes of settings.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// Pushers at work: for a moment there may be one that ends and one that begins.
    pushers: usize,
    exports: [u64; Verdict::ALL.len()],
    rejected_points: u64,
    last: Option<LastPush>,
    /// What was logged last: the verdict, and whether the receiver had something to say.
    told: Option<(Verdict, bool)>,
}

impl Journal {
    /// What has been counted so far; `None` while nothing is pushed.
    #[must_use]
    pub fn stats(&self) -> Option<PushStats> {
        let entries = self.entries();
        (entries.pushers > 0).then(|| PushStats {
            exports: Verdict::ALL.iter().map(|verdict| verdict.as_str()).zip(entries.exports).collect(),
            rejected_points: entries.rejected_points,
            last: entries.last.clone(),
        })
    }

    /// A pusher begins.
    pub(super) fn begin(&self) {
        self.entries().pushers += 1;
    }

    /// A pusher ends.
    pub(super) fn end(&self) {
        let mut entries = self.entries();
        entries.pushers = entries.pushers.saturating_sub(1);
    }

    /// A push that was not sent: the receiver does not want one yet, or there is nothing to send.
    pub(super) fn note_unsent(&self) {
        self.entries().count(Verdict::Dropped);
    }

    pub(super) fn note(&self, url: &str, at: SystemTime, took: Duration, outcome: Outcome) {
        let Outcome { verdict, points, requests, rejected, words, quiet_until: _ } = outcome;
        let mut entries = self.entries();
        entries.count(verdict);
        entries.rejected_points += rejected;
        let state = (verdict, !words.is_empty());
        if entries.told.replace(state) != Some(state) {
            tell(url, verdict, points, rejected, &words);
        }
        let fault = match (verdict, words.is_empty()) {
            (Verdict::Success, true) => None,
            (Verdict::Partial, true) => Some(format!("{rejected} points were rejected")),
            _ => Some(words),
        };
        entries.last = Some(LastPush { url: url.to_owned(), at, took, points, requests, fault });
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn count(&mut self, verdict: Verdict) {
        let kinds = Verdict::ALL.iter().zip(&mut self.exports);
        kinds.filter(|(kind, _)| **kind == verdict).for_each(|(_, count)| *count += 1);
    }
}

/// One line a change of state.
fn tell(url: &str, verdict: Verdict, points: usize, rejected: u64, words: &str) {
    match verdict {
        Verdict::Success if words.is_empty() => tracing::info!(url, points, "the receiver takes what is pushed"),
        Verdict::Success => tracing::warn!(url, points, words, "the receiver takes what is pushed, with a remark"),
        Verdict::Partial => tracing::warn!(url, rejected, words, "the receiver rejects some of the points"),
        Verdict::Refused => tracing::error!(url, reason = words, "the receiver refuses what is pushed"),
        Verdict::Dropped => tracing::warn!(url, reason = words, "nobody takes what is pushed, it is dropped"),
    }
}
