//! The state of the connection to the daemon, and when to try again. Pure: clock and chance are arguments.

use std::time::{Duration, Instant};

use crate::backoff;
use crate::libvirt::{ErrorClass, LibvirtError, Versions};

/// The first pause after a failed attempt; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The least time between the end of an attempt and one that a scrape asks for.
const DEMAND_PAUSE: Duration = Duration::from_millis(100);
/// How old an attempt may be for a scrape to wait for it.
const FRESH: Duration = Duration::from_millis(500);

/// What the connection is doing.
#[derive(Debug)]
enum State {
    /// An attempt to connect is under way since then; the error is why the one before failed.
    Connecting { last: Option<LibvirtError>, since: Option<Instant> },
    /// Connected.
    Up,
    /// Connected, but the daemon has not answered since then.
    Silent { since: Instant },
    /// Not connected, since an attempt ended or the connection broke.
    Down { error: LibvirtError, since: Instant, retry_at: Instant },
}

/// How it stands with the daemon, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The first attempt to connect is under way.
    Connecting,
    /// Connected, to these versions.
    Connected(Versions),
    /// Not connected, or connected to a daemon that does not answer.
    Failed(LibvirtError),
    /// There is no daemon to connect to.
    None,
}

/// The state of the connection, with what its history asks for.
#[derive(Debug)]
pub(super) struct ConnectionState {
    state: State,
    /// Attempts that have failed in a row.
    failures: u32,
    /// Connections opened after the first.
    pub(super) reconnects: u64,
    connected_before: bool,
}

impl ConnectionState {
    pub(super) fn new() -> Self {
        Self {
            state: State::Connecting { last: None, since: None },
            failures: 0,
            reconnects: 0,
            connected_before: false,
        }
    }

    /// Whether it stands, and the daemon answers.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    /// Whether it stands, and the daemon does not answer.
    pub(super) fn is_silent(&self) -> bool {
        self.silent_since().is_some()
    }

    /// Since when the daemon has not answered.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        if let State::Silent { since } = self.state { Some(since) } else { None }
    }

    /// The daemon has not answered since then.
    pub(super) fn silent(&mut self, since: Instant) {
        self.state = State::Silent { since };
    }

    /// The daemon answers again.
    pub(super) fn resumed(&mut self) {
        self.state = State::Up;
    }

    /// When to try again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        if let State::Down { retry_at, .. } = self.state { Some(retry_at) } else { None }
    }

    /// A connection stands.
    pub(super) fn opened(&mut self) {
        self.state = State::Up;
        self.failures = 0;
        if std::mem::replace(&mut self.connected_before, true) {
            self.reconnects += 1;
        }
    }

    /// An attempt failed, or the connection broke. `chance` from 0 to 1 spreads many exporters' attempts.
    pub(super) fn failed(&mut self, error: LibvirtError, now: Instant, chance: f64) {
        let broke = matches!(self.state, State::Up | State::Silent { .. });
        // A connection that broke is tried again at once: most often the daemon is being restarted.
        let pause =
            if broke { Duration::ZERO } else { backoff::pause(FIRST_PAUSE, LONGEST_PAUSE, self.failures, chance) };
        // Scrapes do not wait again for a daemon that was silent before.
        let silent = matches!(self.state, State::Silent { .. });
        self.failures = if broke { u32::from(silent) } else { self.failures.saturating_add(1) };
        self.state = State::Down { error, since: now, retry_at: now + pause };
    }

    /// The attempt that is under way has taken too long, and goes on: it is not waited for any more.
    pub(super) fn unanswered(&mut self, error: LibvirtError) {
        self.failures = self.failures.max(1);
        self.state = State::Connecting { last: Some(error), since: None };
    }

    /// Whether it is time for another attempt; the caller makes it.
    pub(super) fn take_retry(&mut self, now: Instant) -> bool {
        let State::Down { error, retry_at, .. } = &self.state else { return false };
        let due = *retry_at <= now;
        if due {
            self.state = State::Connecting { last: Some(error.clone()), since: Some(now) };
        }
        due
    }

    /// A scrape has come: whether it is a reason for an attempt before it is time; the caller makes it. The daemon may be
    /// back, and the scrape is then the first to know.
    pub(super) fn demand(&mut self, now: Instant) -> bool {
        let State::Down { since, retry_at, .. } = &mut self.state else { return false };
        if now < *since + DEMAND_PAUSE {
            return false;
        }
        *retry_at = now;
        self.take_retry(now)
    }

    /// What a scrape is told at once; `None` if it is worth waiting: connected, or connecting for the first time, or again
    /// after a connection that has only just broken.
    pub(super) fn refusal(&self, now: Instant) -> Option<LibvirtError> {
        match &self.state {
            State::Up => None,
            State::Connecting { last, since } => {
                // An attempt that got no answer has taken seconds, and so may the next.
                let is_fresh = since.is_none_or(|since| now < since + FRESH);
                let waits = |last: &LibvirtError| is_fresh && last.class != ErrorClass::TimedOut;
                last.clone().filter(|last| self.failures > 0 && !waits(last))
            }
            State::Silent { since } => Some(silence(*since, now)),
            State::Down { error, .. } => (self.failures > 0).then(|| error.clone()),
        }
    }

    /// How it stands; `versions` are those of the last connection.
    pub(super) fn standing(&self, versions: Option<&Versions>, now: Instant) -> Standing {
        match (&self.state, versions) {
            (State::Up, Some(versions)) => Standing::Connected(versions.clone()),
            (State::Up, None) | (State::Connecting { last: None, .. }, _) => Standing::Connecting,
            (State::Silent { since }, _) => Standing::Failed(silence(*since, now)),
            (State::Connecting { last: Some(error), .. } | State::Down { error, .. }, _) => {
                Standing::Failed(error.clone())
            }
        }
    }
}

fn silence(since: Instant, now: Instant) -> LibvirtError {
    // A scrape's own time may be short, and so may what is waited for an answer.
    let seconds = now.saturating_duration_since(since).as_secs_f64().max(0.1);
    let message = format!("the daemon has not answered for {seconds:.1} s");
    LibvirtError::own("cannot collect statistics", ErrorClass::TimedOut, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> LibvirtError {
        LibvirtError::own("cannot open x read-only", ErrorClass::ConnectFailed, "no such file")
    }

    #[test]
    fn a_broken_connection_is_tried_at_once_and_waited_for_a_failed_attempt_is_not() {
        let now = Instant::now();
        let mut connection = ConnectionState::new();
        assert_eq!(connection.refusal(now), None, "the first attempt is waited for");
        connection.opened();
        connection.failed(error(), now, 1.0);
        assert_eq!(connection.refusal(now), None);
        assert!(connection.take_retry(now));
        assert_eq!(connection.refusal(now), None);
        connection.failed(error(), now, 1.0);
        assert_eq!(connection.refusal(now), Some(error()));
        assert!(!connection.take_retry(now));
        let later = now + FIRST_PAUSE;
        assert!(connection.take_retry(later));
        assert_eq!(connection.refusal(later), None, "the attempt has only just begun");
        assert_eq!(connection.refusal(later + FRESH), Some(error()), "while the second attempt runs");
        connection.opened();
        assert_eq!((connection.refusal(later), connection.reconnects), (None, 1));
    }

    #[test]
    fn a_scrape_is_a_reason_to_connect_and_one_attempt_runs_at_a_time() {
        let now = Instant::now();
        let mut connection = ConnectionState::new();
        connection.failures = 5;
        connection.failed(error(), now, 1.0);
        assert!(!connection.demand(now + DEMAND_PAUSE / 2), "the last attempt has only just failed");
        let later = now + DEMAND_PAUSE;
        assert!(connection.demand(later));
        assert!(!connection.demand(later), "one is under way");
        assert_eq!(connection.refusal(later), None);
        let unanswered = LibvirtError::own("cannot open x read-only", ErrorClass::TimedOut, "no answer");
        connection.failed(unanswered.clone(), later, 1.0);
        assert!(connection.demand(later + DEMAND_PAUSE));
        assert_eq!(connection.refusal(later + DEMAND_PAUSE), Some(unanswered), "the next may take as long");
        connection.opened();
        assert!(!connection.demand(later + DEMAND_PAUSE));
    }

    #[test]
    fn a_first_attempt_that_goes_on_for_too_long_is_not_waited_for() {
        let now = Instant::now();
        let mut connection = ConnectionState::new();
        let unanswered = LibvirtError::own("cannot open x read-only", ErrorClass::TimedOut, "no answer");
        connection.unanswered(unanswered.clone());
        assert_eq!(connection.refusal(now), Some(unanswered.clone()));
        assert_eq!(connection.standing(None, now), Standing::Failed(unanswered));
        assert!(!connection.take_retry(now + LONGEST_PAUSE), "it is still under way");
        connection.opened();
        assert_eq!((connection.refusal(now), connection.reconnects), (None, 0));
    }

    #[test]
    fn a_silent_daemon_is_refused_with_the_time() {
        let now = Instant::now();
        let mut connection = ConnectionState::new();
        connection.opened();
        connection.silent(now);
        assert!(connection.is_silent() && !connection.is_up());
        for (millis, told) in [(7_000, "7.0 s"), (430, "0.4 s"), (3, "0.1 s")] {
            let refusal = connection.refusal(now + Duration::from_millis(millis)).expect("a refusal");
            let message = format!("the daemon has not answered for {told}");
            assert_eq!((refusal.class, refusal.message), (ErrorClass::TimedOut, message));
        }
    }

    #[test]
    fn the_standing_is_known_once_the_first_attempt_has_ended() {
        let now = Instant::now();
        let versions = Versions { libvirt: "9.0.0".into(), ..Versions::default() };
        let mut connection = ConnectionState::new();
        assert_eq!(connection.standing(None, now), Standing::Connecting);
        connection.failed(error(), now, 1.0);
        assert_eq!(connection.standing(None, now), Standing::Failed(error()));
        assert!(connection.take_retry(now + FIRST_PAUSE));
        assert_eq!(connection.standing(None, now), Standing::Failed(error()), "while the second attempt runs");
        connection.opened();
        assert_eq!(connection.standing(Some(&versions), now), Standing::Connected(versions));
    }
}
