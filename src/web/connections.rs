//! The open connections, and which of them has to go when there are too many.
//!
//! A server that merely stopped accepting at its limit could be kept busy by anyone who opens connections and says nothing.
//! Here a newcomer takes the place of the connection that is the least use: one that never got as far as a good request
//! before one that did, the longest silent first. A scraper's connection between two scrapes goes only when all others
//! have been served too, and one that is being answered goes only when it does not take its answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// How long a client may take to send the head of a request, from the first byte; for the first request from the connection
/// on, and the TLS handshake comes out of the same time.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be silent between two requests: longer than any usual scrape interval.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Nobody has to go who had less time than this to say what he wants.
const LEAST_TIME: Duration = Duration::from_millis(100);
/// Likewise for taking the next bytes of an answer.
const LEAST_WRITE_TIME: Duration = Duration::from_secs(1);
/// Between two looks for a place when none has to go.
const PAUSE: Duration = Duration::from_millis(20);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client's turn: nothing, or not all, of the next request is there.
    Waiting,
    /// Our turn: the answer is being made.
    Busy,
    /// The answer is on its way.
    Writing,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Since when, or since the last progress of a write.
    since: Instant,
    /// When the head of the next request began to arrive.
    head_since: Option<Instant>,
    /// Whether a request has been answered.
    answered: bool,
    /// Whether one was answered that the client was allowed to make.
    served: bool,
}

/// One connection, as its stream, its requests and the list of all see it.
#[derive(Debug)]
pub(super) struct Connection {
    state: Mutex<State>,
    evicted: Notify,
}

impl Connection {
    pub(super) fn new() -> Self {
        let state =
            State { phase: Phase::Waiting, since: Instant::now(), head_since: None, answered: false, served: false };
        Self { state: Mutex::new(state), evicted: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when the connection has to make room.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// The client has sent something.
    pub(super) fn received(&self) {
        let mut state = self.state();
        if state.phase == Phase::Waiting {
            state.head_since.get_or_insert_with(Instant::now);
        }
    }

    /// The head of a request is complete.
    pub(super) fn begin_request(&self) {
        let mut state = self.state();
        state.phase = Phase::Busy;
        state.head_since = None;
    }

    /// The answer is there. `good` is one to a request that the client was allowed to make.
    pub(super) fn end_request(&self, good: bool) {
        let mut state = self.state();
        (state.phase, state.since) = (Phase::Writing, Instant::now());
        state.answered = true;
        state.served |= good;
    }

    /// The client has taken some bytes.
    pub(super) fn written(&self) {
        let mut state = self.state();
        if state.phase == Phase::Writing {
            state.since = Instant::now();
        }
    }

    /// The client has taken all there was.
    pub(super) fn flushed(&self) {
        let mut state = self.state();
        if state.phase == Phase::Writing {
            (state.phase, state.since) = (Phase::Waiting, Instant::now());
        }
    }

    /// When the client will have been silent, or slow, for too long; `None` while it is not its turn.
    pub(super) fn read_deadline(&self) -> Option<Instant> {
        let state = self.state();
        match (state.phase, state.head_since, state.answered) {
            (Phase::Waiting, _, false) => Some(state.since + HEADER_TIMEOUT),
            (Phase::Waiting, Some(since), true) => Some(since + HEADER_TIMEOUT),
            (Phase::Waiting, None, true) => Some(state.since + IDLE_TIMEOUT),
            _ => None,
        }
    }

    /// How little the connection would be missed, more first; `None` if it may not go.
    fn uselessness(&self, now: Instant) -> Option<(u8, Duration)> {
        let state = self.state();
        let age = now.saturating_duration_since(state.since);
        match (state.phase, state.served) {
            (Phase::Waiting, false) if age > LEAST_TIME => Some((2, age)),
            (Phase::Waiting, true) if age > LEAST_TIME => Some((1, age)),
            (Phase::Writing, _) if age > LEAST_WRITE_TIME => Some((0, age)),
            _ => None,
        }
    }
}

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
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: Mutex::default(), left: Notify::new() }
    }

    /// Adds a connection as soon as there is a place; one is made if another can go. Also says whether one had to go.
    pub(super) async fn admit(self: &Arc<Self>, connection: &Arc<Connection>) -> (Admitted, bool) {
        loop {
            if let Some(admitted) = self.try_admit(connection) {
                return admitted;
            }
            // Time alone can make a place, too.
            let _ = timeout(PAUSE, self.left.notified()).await;
        }
    }

    fn try_admit(self: &Arc<Self>, connection: &Arc<Connection>) -> Option<(Admitted, bool)> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let full = open.connections.len() >= self.limit;
        if full {
            let now = Instant::now();
            let candidates = open.connections.iter().filter_map(|(number, one)| Some((one.uselessness(now)?, *number)));
            let (_, least) = candidates.max()?;
            if let Some(least) = open.connections.remove(&least) {
                least.evicted.notify_one();
            }
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
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
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
        let all = Arc::new(Connections::new(4));
        let mut kept = Vec::new();
        let mut open = |name: &'static str| {
            let connection = Arc::new(Connection::new());
            kept.push(all.try_admit(&connection).map(|admitted| (name, admitted)));
            connection
        };
        let scraper = open("scraper");
        scraper.begin_request();
        scraper.end_request(true);
        scraper.flushed();
        let busy = open("busy");
        busy.begin_request();
        let refused = open("refused");
        refused.begin_request();
        refused.end_request(false);
        refused.flushed();
        advance(Duration::from_millis(10)).await;
        let silent = open("silent");
        let newcomer = Arc::new(Connection::new());
        assert!(all.try_admit(&newcomer).is_none(), "nobody has had his time yet");
        advance(Duration::from_secs(1)).await;
        for expected in [&refused, &silent, &scraper] {
            let (place, full) = all.admit(&newcomer).await;
            assert!(full);
            timeout(Duration::ZERO, expected.evicted()).await.expect("this one had to go");
            // The newcomers of this test are never silent for long.
            newcomer.begin_request();
            std::mem::forget(place);
        }
        assert!(all.try_admit(&newcomer).is_none(), "who is being answered may stay");
        busy.end_request(true);
        advance(Duration::from_millis(1500)).await;
        busy.written();
        assert!(all.try_admit(&newcomer).is_none(), "who takes his answer may stay");
        advance(Duration::from_millis(1500)).await;
        assert!(all.try_admit(&newcomer).is_some(), "who does not may not");
    }

    #[tokio::test(start_paused = true)]
    async fn each_turn_has_its_time() {
        let connection = Connection::new();
        let start = Instant::now();
        assert_eq!(connection.read_deadline(), Some(start + HEADER_TIMEOUT));
        advance(Duration::from_secs(3)).await;
        connection.received();
        assert_eq!(connection.read_deadline(), Some(start + HEADER_TIMEOUT));
        connection.begin_request();
        assert_eq!(connection.read_deadline(), None);
        connection.end_request(true);
        assert_eq!(connection.read_deadline(), None);
        connection.flushed();
        assert_eq!(connection.read_deadline(), Some(Instant::now() + IDLE_TIMEOUT));
        advance(Duration::from_secs(60)).await;
        connection.received();
        let began = Instant::now();
        advance(Duration::from_secs(1)).await;
        connection.received();
        assert_eq!(connection.read_deadline(), Some(began + HEADER_TIMEOUT));
    }
}
