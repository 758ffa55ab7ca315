//! One connection, as its stream, its requests and the list of all see it: whose turn it is, and for how long.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits::{ANSWER_TIME, EVICTABLE_WHEN_SILENT, EVICTABLE_WHEN_STALLED, HEADER_TIMEOUT, IDLE_TIMEOUT};

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
pub(super) enum Evictable {
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

/// One connection.
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

    /// The client has taken some bytes, perhaps of the answer before the one that is being made.
    pub(super) fn written(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Busy | Phase::Writing) {
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
    pub(super) fn evictable(&self, now: Instant) -> Option<(Evictable, Duration)> {
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

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

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
        assert!(connection.is_stalled(Instant::now()));
        connection.begin_request();
        connection.written();
        connection.end_request(true);
        assert!(!connection.is_stalled(Instant::now()), "it reads");
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
