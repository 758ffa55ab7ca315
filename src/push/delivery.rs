//! One push on its way: request by request, each sent again while that makes sense and there is time.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::protocol::{Protocol, Series as _};
use super::verdict::{Outcome, Verdict};
use super::{Batch, Settings};
use crate::backoff;

/// The pause before the first repetition.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A receiver that asks for a longer pause is asked again after this.
const LONGEST_WISH: Duration = Duration::from_secs(600);

/// A push.
#[derive(Debug)]
pub(super) struct Delivery<'a, P> {
    pub(super) settings: &'a Settings<P>,
    /// When it has to be through.
    pub(super) deadline: Instant,
}

impl<P: Protocol> Settings<P> {
    /// Sends a request without points, once: whether the receiver would accept a push.
    pub async fn send_empty(&self) -> Verdict {
        match self.protocol.empty_request() {
            Ok(body) => self.attempt(body, Instant::now() + self.timeout).await,
            Err(error) => Verdict::unavailable(error.to_string(), None),
        }
    }

    /// Sends one request once.
    async fn attempt(&self, body: Bytes, deadline: Instant) -> Verdict {
        let limit = deadline.min(Instant::now() + self.timeout);
        match self.transport.send(body, limit).await {
            Ok(reply) => self.protocol.verdict(&reply),
            Err(failure) if failure.sent => Verdict::unanswered(failure.reason),
            Err(failure) => Verdict::unavailable(failure.reason, None),
        }
    }
}

impl<P: Protocol> Delivery<'_, P> {
    /// Sends `batch`. After a request that is not accepted, the rest is not sent either.
    pub(super) async fn deliver(&self, series: &mut P::Series, batch: &mut Batch) -> Verdict {
        let verdict = self.send_all(series, batch).await;
        series.ended(batch, verdict.is_accepted());
        verdict
    }

    async fn send_all(&self, series: &mut P::Series, batch: &mut Batch) -> Verdict {
        let mut verdict = Verdict::default();
        let mut requests = self.settings.protocol.requests(series, batch);
        while verdict.is_accepted() {
            // Encoding and compressing take some tens of milliseconds a request: not on a thread that serves.
            let made = tokio::task::spawn_blocking(move || {
                let next = requests.next();
                (requests, next)
            });
            let next = match made.await {
                Ok((rest, next)) => {
                    requests = rest;
                    next
                }
                Err(_) => {
                    verdict.add(Verdict::unavailable("it could not be encoded".to_owned(), None));
                    break;
                }
            };
            match next {
                Some(Ok(request)) => {
                    let sent = Verdict { points: request.points, ..self.send(request.body).await };
                    if sent.is_accepted() || sent.maybe_accepted {
                        series.accepted(&request.part);
                    }
                    verdict.add(sent);
                }
                Some(Err(error)) => verdict.add(Verdict::unavailable(error.to_string(), None)),
                None => break,
            }
        }
        verdict
    }

    /// Sends one request until there is a verdict that stands, or no time for another attempt.
    async fn send(&self, body: Bytes) -> Verdict {
        let mut maybe_accepted = false;
        let mut failures = 0;
        loop {
            let mut verdict = self.settings.attempt(body.clone(), self.deadline).await;
            maybe_accepted |= verdict.maybe_accepted;
            verdict.maybe_accepted = maybe_accepted;
            verdict.retry_after = verdict.retry_after.map(|after| after.min(LONGEST_WISH));
            if verdict.outcome != Outcome::Dropped {
                return verdict;
            }
            let pause = || backoff::pause(FIRST_PAUSE, LONGEST_PAUSE, failures, fastrand::f64());
            let wait = verdict.retry_after.unwrap_or_else(pause);
            if Instant::now() + wait >= self.deadline {
                return verdict;
            }
            sleep(wait).await;
            failures += 1;
        }
    }
}
