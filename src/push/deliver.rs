//! One push on its way: chunk by chunk, each sent again while that makes sense and there is time.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::transport::Answer;
use super::{Batch, Series, Settings};
use crate::encode::Coding;
use crate::encode::otlp::Chunks;

/// The pause before the first repetition; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A receiver that asks for more is asked again after this.
const LONGEST_WISH: Duration = Duration::from_secs(600);

/// How a push went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    /// Points that were taken.
    pub(super) points: usize,
    /// Requests that were taken.
    pub(super) requests: usize,
    /// Points that the receiver has taken out of requests.
    pub(super) rejected: u64,
    /// What the receiver says of it, or why it went wrong.
    pub(super) words: String,
    /// The receiver does not want to be asked before.
    pub(super) quiet_until: Option<Instant>,
}

/// How a push went, in a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it was taken.
    #[default]
    Success,
    /// The receiver has not taken some of the points.
    Partial,
    /// The receiver will not take it.
    Refused,
    /// Nobody took it in time.
    Dropped,
}

impl Verdict {
    pub(super) const ALL: [Self; 4] = [Self::Success, Self::Partial, Self::Refused, Self::Dropped];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
        }
    }
}

/// A push.
#[derive(Debug)]
pub(super) struct Delivery<'a> {
    pub(super) settings: &'a Settings,
    /// When it has to be through.
    pub(super) deadline: Instant,
}

impl Delivery<'_> {
    /// Sends `batch`. What one request carried counts as told as soon as it is taken; after a request that is not, the rest
    /// is not sent either. A request that may have been taken counts as told, too: its growth is lost if it was not, but
    /// never counted twice.
    pub(super) async fn deliver(&self, series: &mut Series, batch: &mut Batch) -> Outcome {
        let outcome = self.requests(series, batch).await;
        match outcome.verdict {
            Verdict::Success | Verdict::Partial => series.all_taken(batch),
            Verdict::Refused | Verdict::Dropped => series.given_up(batch),
        }
        outcome
    }

    async fn requests(&self, series: &mut Series, batch: &mut Batch) -> Outcome {
        let mut outcome = Outcome::default();
        let mut chunks = Chunks::new(self.settings.dialect.clone(), series.parts(batch));
        let coding = self.settings.coding;
        loop {
            // Encoding and compressing take some tens of milliseconds a request: not on a thread that serves.
            let made = tokio::task::spawn_blocking(move || {
                let made = chunks.next_chunk().map(|mut chunk| {
                    let body = coding.apply(std::mem::take(&mut chunk.body));
                    (chunk, body)
                });
                (chunks, made)
            });
            let Ok((back, made)) = made.await else {
                return Outcome { verdict: Verdict::Dropped, words: "it could not be encoded".into(), ..outcome };
            };
            chunks = back;
            let Some((chunk, body)) = made else { break };
            let body = match body {
                Ok(body) => self.settings.transport.frame(body, coding != Coding::Identity),
                Err(error) => return Outcome { verdict: Verdict::Dropped, words: error.to_string(), ..outcome },
            };
            match self.send(body).await {
                Sent::Taken { rejected, words } => {
                    series.taken(&chunk);
                    outcome.points += chunk.points;
                    outcome.requests += 1;
                    outcome.rejected += rejected;
                    if rejected > 0 || !words.is_empty() {
                        outcome.words = words;
                    }
                }
                Sent::Failed { verdict, words, quiet_until, maybe_taken } => {
                    if maybe_taken {
                        series.taken(&chunk);
                    }
                    return Outcome { verdict, words, quiet_until, ..outcome };
                }
            }
        }
        if outcome.rejected > 0 {
            outcome.verdict = Verdict::Partial;
        }
        outcome
    }

    async fn send(&self, body: Bytes) -> Sent {
        let (mut pause, mut maybe_taken) = (FIRST_PAUSE, false);
        loop {
            let limit = self.deadline.min(Instant::now() + self.settings.timeout);
            let answer = self.settings.transport.send(body.clone(), limit).await;
            maybe_taken |= matches!(answer, Answer::Lost { .. });
            let (after, words) = match answer {
                Answer::Taken { rejected, words } => return Sent::Taken { rejected, words },
                Answer::Refused { reason } => {
                    let verdict = Verdict::Refused;
                    return Sent::Failed { verdict, words: reason, quiet_until: None, maybe_taken };
                }
                Answer::Later { after, reason } => (after, reason),
                Answer::Lost { reason } => (None, reason),
            };
            let wait = after.map_or_else(|| jittered(pause), |after| after.min(LONGEST_WISH));
            let until = Instant::now() + wait;
            if until >= self.deadline {
                let quiet_until = after.map(|_| until);
                return Sent::Failed { verdict: Verdict::Dropped, words, quiet_until, maybe_taken };
            }
            sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

enum Sent {
    Taken {
        rejected: u64,
        words: String,
    },
    Failed {
        verdict: Verdict,
        words: String,
        quiet_until: Option<Instant>,
        /// Whether it may have been taken even so.
        maybe_taken: bool,
    },
}

/// Between half of `pause` and all of it, so that a thousand hosts do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(0);
    pause.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}
