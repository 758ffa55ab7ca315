//! How many requests are answered in a time, and who asks.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

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
        let mut state = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = (now - state.1).as_secs_f64() / self.limit.interval.as_secs_f64();
        let tokens = (state.0 + earned).min(f64::from(self.limit.burst.get()));
        let allowed = tokens >= 1.0;
        *state = (if allowed { tokens - 1.0 } else { tokens }, now);
        allowed
    }
}

/// Who asks: a machine, as far as its address tells one from another. Over socket files all are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Peer(Option<IpAddr>);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self(Some(match address.to_canonical() {
            // A machine may take any address of its network.
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address => address,
        }))
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

    #[test]
    fn a_machine_is_known_by_its_address_or_its_network() {
        let peer = |text: &str| Peer::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }
}
