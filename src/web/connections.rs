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

use super::limits::{ANSWER_TIME, EVICTABLE_WHEN_SILENT, EVICTABLE_WHEN_STALLED, HEADER_TIMEOUT, IDLE_TIMEOUT, LOOK};

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client's turn, but its stream has not been read yet.
    Unseen,
    /// The client's turn: nothing, or not all, of the next request is there.
    Waiting,
    /// The next request is there and has to wait, because many have come fast.
    Slowed,
    /// Our turn: the answer is being made.
    Busy,
    /// The answer is on its way.
    Writing,
}

/// Why a connection may go to make room: the last of these goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Evictable {
    /// It is silent between two requests, as a scraper is.
    Idle,
    /// It does not take its answer.
    Stalled,
    /// It never sent a good request.
    NeverServed,
    /// Its requests come too fast.
    TooFast,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Since when, or since the last progress of a write.
    since: Instant,
    /// When the client will have taken too long over the answer.
    answer_by: Instant,
    /// When the head of the next request began to arrive.
    head_since: Option<Instant>,
    /// Whether hyper has not taken all of the answer yet.
    has_more: bool,
    /// Whether the client has not taken all of the answer to the request before, which hyper may still hold.
    owes: bool,
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
        let now = Instant::now();
        let state = State {
            phase: Phase::Unseen,
            since: now,
            answer_by: now,
            head_since: None,
            has_more: false,
            owes: false,
            answered: false,
            served: false,
        };
        Self { state: Mutex::new(state), evicted: Notify::new() }
    }

    /// Completes when the connection has to make room.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Makes the connection go.
    pub(super) fn evict(&self) {
        self.evicted.notify_one();
    }

    /// Whether there is an answer that the client does not take.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        let state = self.state.lock();
        state.phase == Phase::Writing && now.saturating_duration_since(state.since) > EVICTABLE_WHEN_STALLED
    }

    /// When the client will have taken too long over the answer that is on its way.
    pub(super) fn answer_deadline(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.phase == Phase::Writing || state.owes).then_some(state.answer_by)
    }

    /// There is nothing to read from the client, or it is time for a handshake.
    pub(super) fn looked(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Unseen {
            state.phase = Phase::Waiting;
        }
    }

    /// The client has sent something.
    pub(super) fn received(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Unseen | Phase::Waiting) {
            state.head_since.get_or_insert_with(Instant::now);
        }
    }

    /// The head of a request is complete, but it is not taken on yet.
    pub(super) fn slowed_down(&self) {
        let mut state = self.state.lock();
        if state.phase != Phase::Slowed {
            state.owes |= state.phase == Phase::Writing;
            (state.phase, state.since) = (Phase::Slowed, Instant::now());
        }
    }

    /// A request is taken on.
    pub(super) fn begin_request(&self) {
        let mut state = self.state.lock();
        state.owes |= state.phase == Phase::Writing;
        state.phase = Phase::Busy;
        state.head_since = None;
    }

    /// The answer is there. `good` is one to a request that the client was allowed to make.
    pub(super) fn end_request(&self, good: bool) {
        let mut state = self.state.lock();
        state.phase = Phase::Writing;
        // Requests that come meanwhile give no more time for the answer before them.
        if !state.owes {
            state.since = Instant::now();
            state.answer_by = state.since + ANSWER_TIME;
        }
        state.answered = true;
        state.served |= good;
    }

    /// Hyper has an answer of which it takes a part at a time, and flushes it before the next.
    pub(super) fn begin_body(&self) {
        self.state.lock().has_more = true;
    }

    /// Hyper has taken the last part.
    pub(super) fn end_body(&self) {
        self.state.lock().has_more = false;
    }

    /// The client has taken some bytes.
    pub(super) fn written(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Writing {
            state.since = Instant::now();
        }
    }

    /// The client has taken all there was; whether it is its turn now that was not before.
    pub(super) fn flushed(&self) -> bool {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.owes) && state.phase == Phase::Writing {
            // Only the next answer is left now, and has its own time.
            (state.since, state.answer_by) = (Instant::now(), Instant::now() + ANSWER_TIME);
        }
        let turns = state.phase == Phase::Writing && !state.has_more;
        if turns {
            (state.phase, state.since) = (Phase::Unseen, Instant::now());
        }
        turns
    }

    /// Whether a request is to be expected: the first, or one that has begun to arrive.
    pub(super) fn expects_request(&self) -> bool {
        let state = self.state.lock();
        matches!(state.phase, Phase::Unseen | Phase::Waiting) && (!state.answered || state.head_since.is_some())
    }

    /// When the client will have been silent, or slow, for too long; `None` while it is not its turn.
    pub(super) fn read_deadline(&self) -> Option<Instant> {
        let state = self.state.lock();
        match (state.phase, state.head_since, state.answered) {
            (Phase::Unseen | Phase::Waiting, _, false) => Some(state.since + HEADER_TIMEOUT),
            (Phase::Unseen | Phase::Waiting, Some(since), true) => Some(since + HEADER_TIMEOUT),
            (Phase::Unseen | Phase::Waiting, None, true) => Some(state.since + IDLE_TIMEOUT),
            _ => None,
        }
    }

    /// Why the connection may go, and for how long that has been so; `None` if it may not.
    fn evictable(&self, now: Instant) -> Option<(Evictable, Duration)> {
        let state = self.state.lock();
        let age = now.saturating_duration_since(state.since);
        match (state.phase, state.served) {
            (Phase::Slowed, _) => Some((Evictable::TooFast, age)),
            (Phase::Waiting, false) if age > EVICTABLE_WHEN_SILENT => Some((Evictable::NeverServed, age)),
            (Phase::Waiting, true) if age > EVICTABLE_WHEN_SILENT => Some((Evictable::Idle, age)),
            (Phase::Writing, _) if age > EVICTABLE_WHEN_STALLED => Some((Evictable::Stalled, age)),
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
        evicted.map(|connection| connection.evicted.notify_one()).is_some()
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

    #[tokio::test(start_paused = true)]
    async fn a_request_gives_no_more_time_for_the_answer_before_it() {
        let connection = Connection::new();
        connection.begin_request();
        connection.end_request(true);
        let end = connection.answer_deadline();
        advance(Duration::from_secs(1)).await;
        connection.begin_request();
        connection.end_request(true);
        assert_eq!(connection.answer_deadline(), end);
        connection.slowed_down();
        connection.begin_request();
        connection.end_request(true);
        assert_eq!(connection.answer_deadline(), end);
        connection.begin_request();
        assert_eq!(connection.answer_deadline(), end);
        connection.flushed();
        assert_eq!(connection.answer_deadline(), None);
        connection.end_request(true);
        let end = end.map(|end| end + Duration::from_secs(1));
        assert_eq!(connection.answer_deadline(), end);
        advance(Duration::from_secs(1)).await;
        connection.begin_request();
        connection.end_request(true);
        connection.begin_body();
        assert_eq!(connection.answer_deadline(), end);
        connection.flushed();
        assert_eq!(connection.answer_deadline(), end.map(|end| end + Duration::from_secs(1)));
        assert!(!connection.is_stalled(Instant::now()));
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
