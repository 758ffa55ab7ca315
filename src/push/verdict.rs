//! How a request ended, and how the push that it is part of did: one type from the response to the statistics.

use std::time::Duration;

/// How it ended, as the label `result` of `libvirt_exporter_otlp_exports_total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was accepted.
    #[default]
    Success,
    /// The receiver rejected some of the points.
    Partial,
    /// The receiver will not accept it.
    Refused,
    /// It was not accepted in time.
    Dropped,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Success, Self::Partial, Self::Refused, Self::Dropped];

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
        }
    }
}

/// How a request or a push ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// As one word.
    pub outcome: Outcome,
    /// Why it was not accepted, or what the receiver says of it.
    pub message: String,
    /// Points that the receiver rejected out of what it accepted.
    pub rejected: u64,
    /// Points in accepted requests, rejected ones among them.
    pub points: usize,
    /// Accepted requests.
    pub requests: usize,
    /// When the receiver wants the next attempt.
    pub retry_after: Option<Duration>,
    /// It was sent, and no response says what became of it.
    pub maybe_accepted: bool,
}

impl Verdict {
    /// Accepted but for `rejected` points; `message` is what the receiver says of it, if it does.
    pub(super) fn accepted(rejected: u64, message: String) -> Self {
        let outcome = if rejected > 0 { Outcome::Partial } else { Outcome::Success };
        Self { outcome, message, rejected, ..Self::default() }
    }

    /// To be sent again would not help.
    pub(super) fn refused(reason: String) -> Self {
        Self { outcome: Outcome::Refused, message: reason, ..Self::default() }
    }

    /// Not accepted, and may be later: the receiver may say when.
    pub(super) fn unavailable(reason: String, retry_after: Option<Duration>) -> Self {
        Self { outcome: Outcome::Dropped, message: reason, retry_after, ..Self::default() }
    }

    /// Sent, without a response that says whether it was accepted.
    pub(super) fn unanswered(reason: String) -> Self {
        Self { outcome: Outcome::Dropped, message: reason, maybe_accepted: true, ..Self::default() }
    }

    /// Whether the receiver has accepted it, all or in part.
    pub(super) fn is_accepted(&self) -> bool {
        matches!(self.outcome, Outcome::Success | Outcome::Partial)
    }

    /// Adds the verdict of one more request of the same push.
    pub(super) fn add(&mut self, request: Self) {
        if request.is_accepted() {
            self.points += request.points;
            self.requests += 1;
            self.rejected += request.rejected;
            if request.rejected > 0 || !request.message.is_empty() {
                self.message = request.message;
            }
            if self.rejected > 0 {
                self.outcome = Outcome::Partial;
            }
        } else {
            let Self { points, requests, rejected, .. } = *self;
            *self = Self { points, requests, rejected, ..request };
        }
    }
}
