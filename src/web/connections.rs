//! The open connections, and which of them has to go when there are too many.
//!
//! A server that merely stopped accepting at its limit could be kept busy by anyone who opens connections and says nothing.
//! Here a newcomer takes the place of the connection that is the least use: one that sends requests too fast, then one
//! that never sent a good request, then one that does not take its answer, then one that is silent between two
//! requests; of several the longest silent.
//! One that has not been read from yet, or whose response is being made, stays.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Evictable};
use super::limits::LOOK;

/// All connections.
#[derive(Debug)]
pub(super) struct Connections {
    limit: usize,
    open: Mutex<Open>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    connections: HashMap<u64, Arc<Connection>>,
    /// Those that the last look through all has chosen to go next, and why; the first to go stands last. One of which that is
    /// not true any more when its turn comes stays.
    chosen: Vec<(u64, Evictable)>,
}

impl Open {
    /// To look at every connection for each newcomer would take longer than to answer it: several are chosen at a time.
    fn remove_least_useful(&mut self, now: Instant) -> Option<Arc<Connection>> {
        const CHOSEN: usize = 32;
        while let Some((number, reason)) = self.chosen.pop() {
            let is = self.connections.get(&number).and_then(|one| one.evictable(now));
            if is.is_some_and(|(is, _)| is == reason) {
                return self.connections.remove(&number);
            }
        }
        let evictable = |(number, one): (&u64, &Arc<Connection>)| Some((one.evictable(now)?, *number));
        let mut candidates: Vec<((Evictable, Duration), u64)> = self.connections.iter().filter_map(evictable).collect();
        candidates.sort_unstable();
        let ((reason, _), _) = *candidates.last()?;
        // A scraper between two scrapes goes only if there is no other candidate.
        let most = if reason == Evictable::Idle { 1 } else { CHOSEN };
        let chosen = candidates.iter().skip(candidates.len().saturating_sub(most)).filter(|one| one.0.0 == reason);
        self.chosen = chosen.map(|(_, number)| (*number, reason)).collect();
        let (number, _) = self.chosen.pop()?;
        self.connections.remove(&number)
    }
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: Mutex::default(), left: Notify::new() }
    }

    /// How many there may be.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Adds a connection as soon as there is a place; one is made if another can go. Also says whether one had to go.
    pub(super) async fn admit(self: &Arc<Self>, connection: &Arc<Connection>) -> (Admitted, bool) {
        loop {
            if let Some(admitted) = self.try_admit(connection) {
                return admitted;
            }
            // Time alone can make a place, too.
            let _ = timeout(LOOK, self.left.notified()).await;
        }
    }

    /// Closes the least useful connection, so that its descriptor becomes free; `false` if none can go.
    pub(super) fn evict_one(&self) -> bool {
        let evicted = self.open.lock().remove_least_useful(Instant::now());
        evicted.map(|connection| connection.evict()).is_some()
    }

    fn try_admit(self: &Arc<Self>, connection: &Arc<Connection>) -> Option<(Admitted, bool)> {
        let mut open = self.open.lock();
        let full = open.connections.len() >= self.limit;
        if full {
            open.remove_least_useful(Instant::now())?.evict();
        }
        open.last += 1;
        let number = open.last;
        open.connections.insert(number, Arc::clone(connection));
        Some((Admitted { connections: Arc::clone(self), number }, full))
    }
}

/// The place of one connection, until this is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    connections: Arc<Connections>,
    number: u64,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        if open.connections.remove(&self.number).is_some() {
            self.connections.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_least_useful_connection_makes_room() {
        let scraper = Arc::new(Connection::new());
        scraper.begin_request();
        scraper.end_request(true);
        scraper.flushed();
        scraper.looked();
        let busy = Arc::new(Connection::new());
        busy.begin_request();
        let refused = Arc::new(Connection::new());
        refused.begin_request();
        refused.end_request(false);
        refused.flushed();
        refused.looked();
        let deaf = Arc::new(Connection::new());
        deaf.begin_request();
        deaf.end_request(true);
        advance(Duration::from_secs(1)).await;
        let all = Arc::new(Connections::new(5));
        let mut places = Vec::new();
        let silent = Arc::new(Connection::new());
        for connection in [&scraper, &busy, &refused, &deaf, &silent] {
            places.push(all.try_admit(connection).expect("a place"));
        }
        let newcomer = Arc::new(Connection::new());
        newcomer.begin_request();
        advance(Duration::from_secs(1)).await;
        assert_eq!(silent.evictable(Instant::now()), None, "this one has not been read from");
        silent.looked();
        for expected in [&refused, &silent, &deaf, &scraper] {
            places.push(all.try_admit(&newcomer).expect("a place"));
            timeout(Duration::ZERO, expected.evicted()).await.expect("this one had to go");
        }
        assert!(all.try_admit(&newcomer).is_none(), "who is being answered may stay");
        busy.end_request(true);
        advance(Duration::from_millis(200)).await;
        busy.written();
        advance(Duration::from_millis(200)).await;
        assert!(all.try_admit(&newcomer).is_none(), "who takes his answer may stay");
        advance(Duration::from_millis(200)).await;
        places.push(all.try_admit(&newcomer).expect("who does not may not"));
        assert!(all.try_admit(&newcomer).is_none());
        newcomer.slowed_down();
        let fast = all.try_admit(&newcomer);
        assert!(fast.is_some(), "nor who asks too fast");
        newcomer.slowed_down();
        assert!(all.evict_one(), "nor where there are no descriptors");
        timeout(Duration::ZERO, newcomer.evicted()).await.expect("this one had to go");
    }
}
