//! How many requests are answered in a time.

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::RateLimit;

/// A bucket of tokens: one comes in each interval, as long as there is room for it, and each request takes one.
#[derive(Debug)]
pub(super) struct RateLimiter {
    limit: RateLimit,
    /// How many intervals' worth there was, and when.
    tokens: Mutex<(f64, Instant)>,
}

impl RateLimiter {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self { limit, tokens: Mutex::new((f64::from(limit.burst.get()), Instant::now())) }
    }

    /// Whether one more request may be answered now.
    pub(super) fn allow(&self) -> bool {
        let now = Instant::now();
        let mut state = self.tokens.lock();
        let earned = (now - state.1).as_secs_f64() / self.limit.interval.as_secs_f64();
        let tokens = (state.0 + earned).min(f64::from(self.limit.burst.get()));
        let allowed = tokens >= 1.0;
        *state = (if allowed { tokens - 1.0 } else { tokens }, now);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_allowed_and_then_one_in_each_interval() {
        let burst = NonZeroU32::new(3).expect("not zero");
        let limiter = RateLimiter::new(RateLimit { interval: Duration::from_secs(1), burst });
        assert_eq!([(); 5].map(|()| limiter.allow()), [true, true, true, false, false]);
        tokio::time::advance(Duration::from_millis(1100)).await;
        assert_eq!([limiter.allow(), limiter.allow()], [true, false]);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!([(); 4].map(|()| limiter.allow()), [true, true, true, false]);
    }
}
