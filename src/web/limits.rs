//! How much is answered: requests in a time, and scrapes at a time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// How many scrapes are being answered, to whom.
#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<HashMap<Peer, usize>>);

impl InFlight {
    /// A place for one more, if there are fewer than `limit`; 0 is no limit. The last quarter of the places is for those who
    /// have none, so that nobody can take them all.
    pub(super) fn enter(&self, limit: usize, peer: Peer) -> Option<Place<'_>> {
        let mut places = self.places();
        let (all, own) = (places.values().sum::<usize>(), places.get(&peer).copied().unwrap_or(0));
        let free = if own == 0 { limit } else { limit - limit / 4 };
        if limit != 0 && all >= free {
            return None;
        }
        places.insert(peer, own + 1);
        Some(Place { all: self, peer })
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Peer, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One scrape; it ends when this is dropped, which is also when the scraper hangs up.
#[derive(Debug)]
pub(super) struct Place<'a> {
    all: &'a InFlight,
    peer: Peer,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.all.places();
        match places.get_mut(&self.peer) {
            Some(own) if *own > 1 => *own -= 1,
            _ => _ = places.remove(&self.peer),
        }
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
    fn places_are_given_back() {
        let scrapes = InFlight::default();
        let (one, other) = (Peer::default(), Peer::from(IpAddr::from([192, 0, 2, 1])));
        let first = scrapes.enter(1, one).expect("a place");
        assert!(scrapes.enter(1, one).is_none() && scrapes.enter(1, other).is_none());
        assert!(scrapes.enter(0, one).is_some());
        drop(first);
        assert!(scrapes.enter(1, one).is_some() && scrapes.places().is_empty());
    }

    #[test]
    fn nobody_can_take_all_places() {
        let scrapes = InFlight::default();
        let peer = |text: &str| Peer::from(text.parse::<IpAddr>().expect("an address"));
        let take = |text: &str| scrapes.enter(8, peer(text));
        let taken: Vec<_> = (0..8).filter_map(|number| take(&format!("2001:db8::{number}"))).collect();
        assert_eq!(taken.len(), 6);
        let others = [take("2001:db8:0:1::1"), take("192.0.2.1"), take("192.0.2.2")];
        assert_eq!(others.map(|place| place.is_some()), [true, true, false]);
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
    }
}
