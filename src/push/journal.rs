//! How pushes went: for the metrics, the landing page, and one log line whenever it changes.

use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::verdict::{Outcome, Verdict};

/// What the pusher counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushStats {
    /// Pushes by outcome; every outcome is there from the start.
    pub exports: Vec<(Outcome, u64)>,
    /// Points that receivers have rejected out of pushes.
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
    /// Points in accepted requests.
    pub points: usize,
    /// Accepted requests.
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
    exports: [u64; Outcome::ALL.len()],
    rejected_points: u64,
    last: Option<LastPush>,
    /// What was logged last: the outcome, and whether there was a message.
    logged: Option<(Outcome, bool)>,
}

impl Journal {
    /// What has been counted so far; `None` while nothing is pushed.
    #[must_use]
    pub fn stats(&self) -> Option<PushStats> {
        let entries = self.0.lock();
        (entries.pushers > 0).then(|| PushStats {
            exports: Outcome::ALL.into_iter().zip(entries.exports).collect(),
            rejected_points: entries.rejected_points,
            last: entries.last.clone(),
        })
    }

    /// A pusher begins.
    pub(super) fn begin(&self) {
        self.0.lock().pushers += 1;
    }

    /// A pusher ends.
    pub(super) fn end(&self) {
        let mut entries = self.0.lock();
        entries.pushers = entries.pushers.saturating_sub(1);
    }

    /// A push that was not sent: the receiver does not want one yet, or there is nothing to send.
    pub(super) fn note_unsent(&self) {
        self.0.lock().count(Outcome::Dropped);
    }

    pub(super) fn note(&self, url: &str, at: SystemTime, took: Duration, verdict: Verdict) {
        let mut entries = self.0.lock();
        entries.count(verdict.outcome);
        entries.rejected_points += verdict.rejected;
        let state = (verdict.outcome, !verdict.message.is_empty());
        if entries.logged.replace(state) != Some(state) {
            log_change(url, &verdict);
        }
        let Verdict { outcome, points, requests, rejected, message, .. } = verdict;
        let fault = match (outcome, message.is_empty()) {
            (Outcome::Success, true) => None,
            (Outcome::Partial, true) => Some(format!("{rejected} points were rejected")),
            _ => Some(message),
        };
        entries.last = Some(LastPush { url: url.to_owned(), at, took, points, requests, fault });
    }
}

impl Entries {
    fn count(&mut self, outcome: Outcome) {
        let counts = Outcome::ALL.iter().zip(&mut self.exports);
        counts.filter(|(counted, _)| **counted == outcome).for_each(|(_, count)| *count += 1);
    }
}

/// One line a change of state.
fn log_change(url: &str, verdict: &Verdict) {
    let Verdict { points, rejected, message, .. } = verdict;
    match verdict.outcome {
        Outcome::Success if message.is_empty() => tracing::info!(url, points, "the receiver accepts pushes"),
        Outcome::Success => tracing::warn!(url, points, remark = message, "the receiver accepts pushes, with a remark"),
        Outcome::Partial => tracing::warn!(url, rejected, remark = message, "the receiver rejects some of the points"),
        Outcome::Refused => tracing::error!(url, reason = message, "push refused by the receiver"),
        Outcome::Dropped => tracing::warn!(url, reason = message, "push dropped, the receiver is unavailable"),
    }
}
