//! Whether the daemon can be reached, and when to try again. Pure: clock and chance are arguments.

use std::time::{Duration, Instant};

use crate::libvirt::{ErrorClass, LibvirtError, Versions};

/// The first pause after a failed attempt; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The least time between the end of an attempt and one that a scrape asks for.
const DEMAND_PAUSE: Duration = Duration::from_millis(100);
/// How old an attempt may be for a scrape to wait for it.
const FRESH: Duration = Duration::from_millis(500);

/// The state of the connection to the daemon.
#[derive(Debug)]
pub(super) enum Link {
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
}

/// The link with what its history asks for.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) link: Link,
    /// Attempts that have failed in a row.
    failures: u32,
    /// Connections opened after the first.
    pub(super) reconnects: u64,
    connected_before: bool,
}

impl Keeper {
    pub(super) fn new() -> Self {
        Self { link: Link::Connecting { last: None, since: None }, failures: 0, reconnects: 0, connected_before: false }
    }

    /// A connection stands.
    pub(super) fn opened(&mut self) {
        self.link = Link::Up;
        self.failures = 0;
        if std::mem::replace(&mut self.connected_before, true) {
            self.reconnects += 1;
        }
    }

    /// An attempt failed, or the connection broke. `chance` from 0 to 1 spreads many exporters' attempts.
    pub(super) fn failed(&mut self, error: LibvirtError, now: Instant, chance: f64) {
        let broke = matches!(self.link, Link::Up | Link::Silent { .. });
        // A connection that broke is tried again at once: most often the daemon is being restarted.
        let pause = if broke { Duration::ZERO } else { pause(self.failures, chance) };
        // Scrapes do not wait again for a daemon that was silent before.
        let silent = matches!(self.link, Link::Silent { .. });
        self.failures = if broke { u32::from(silent) } else { self.failures.saturating_add(1) };
        self.link = Link::Down { error, since: now, retry_at: now + pause };
    }

    /// The attempt that is under way has taken too long, and goes on: it is not waited for any more.
    pub(super) fn unanswered(&mut self, error: LibvirtError) {
        self.failures = self.failures.max(1);
        self.link = Link::Connecting { last: Some(error), since: None };
    }

    /// Whether it is time for another attempt; the caller makes it.
    pub(super) fn take_retry(&mut self, now: Instant) -> bool {
        let Link::Down { error, retry_at, .. } = &self.link else { return false };
        let due = *retry_at <= now;
        if due {
            self.link = Link::Connecting { last: Some(error.clone()), since: Some(now) };
        }
        due
    }

    /// A scrape has come: whether it is a reason for an attempt before it is time; the caller makes it. The daemon may be
    /// back, and the scrape is then the first to know.
    pub(super) fn demand(&mut self, now: Instant) -> bool {
        let Link::Down { since, retry_at, .. } = &mut self.link else { return false };
        if now < *since + DEMAND_PAUSE {
            return false;
        }
        *retry_at = now;
        self.take_retry(now)
    }

    /// What a scrape is told at once; `None` if it is worth waiting: connected, or connecting for the first time, or again
    /// after a connection that has only just broken.
    pub(super) fn refusal(&self, now: Instant) -> Option<LibvirtError> {
        match &self.link {
            Link::Up => None,
            Link::Connecting { last, since } => {
                // An attempt that got no answer has taken seconds, and so may the next.
                let is_fresh = since.is_none_or(|since| now < since + FRESH);
                let waits = |last: &LibvirtError| is_fresh && last.class != ErrorClass::TimedOut;
                last.clone().filter(|last| self.failures > 0 && !waits(last))
            }
            Link::Silent { since } => Some(silence(*since, now)),
            Link::Down { error, .. } => (self.failures > 0).then(|| error.clone()),
        }
    }

    /// How it stands; `versions` are those of the last connection.
    pub(super) fn standing(&self, versions: Option<&Versions>, now: Instant) -> Standing {
        match (&self.link, versions) {
            (Link::Up, Some(versions)) => Standing::Connected(versions.clone()),
            (Link::Up, None) | (Link::Connecting { last: None, .. }, _) => Standing::Connecting,
            (Link::Silent { since }, _) => Standing::Failed(silence(*since, now)),
            (Link::Connecting { last: Some(error), .. } | Link::Down { error, .. }, _) => {
                Standing::Failed(error.clone())
            }
        }
    }
}

fn silence(since: Instant, now: Instant) -> LibvirtError {
    let seconds = now.saturating_duration_since(since).as_secs();
    let message = format!("the daemon has not answered for {seconds} s");
    LibvirtError::own("cannot collect statistics", ErrorClass::TimedOut, message)
}

/// Doubles with each failure up to a limit; half of it is left to chance.
fn pause(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
    doubled / 2 + (doubled / 2).mul_f64(chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> LibvirtError {
        LibvirtError::own("cannot open x read-only", ErrorClass::ConnectFailed, "no such file")
    }

    #[test]
    fn pauses_grow_to_a_limit_and_are_spread() {
        assert_eq!(pause(0, 1.0), FIRST_PAUSE);
        assert_eq!(pause(0, 0.0), FIRST_PAUSE / 2);
        assert_eq!(pause(3, 1.0), FIRST_PAUSE * 8);
        assert_eq!(pause(40, 1.0), LONGEST_PAUSE);
        assert_eq!(pause(40, 0.0), LONGEST_PAUSE / 2);
    }

    #[test]
    fn a_broken_connection_is_tried_at_once_and_waited_for_a_failed_attempt_is_not() {
        let now = Instant::now();
        let mut keeper = Keeper::new();
        assert_eq!(keeper.refusal(now), None, "the first attempt is waited for");
        keeper.opened();
        keeper.failed(error(), now, 1.0);
        assert_eq!(keeper.refusal(now), None);
        assert!(keeper.take_retry(now));
        assert_eq!(keeper.refusal(now), None);
        keeper.failed(error(), now, 1.0);
        assert_eq!(keeper.refusal(now), Some(error()));
        assert!(!keeper.take_retry(now));
        let later = now + FIRST_PAUSE;
        assert!(keeper.take_retry(later));
        assert_eq!(keeper.refusal(later), None, "the attempt has only just begun");
        assert_eq!(keeper.refusal(later + FRESH), Some(error()), "while the second attempt runs");
        keeper.opened();
        assert_eq!((keeper.refusal(later), keeper.reconnects), (None, 1));
    }

    #[test]
    fn a_scrape_is_a_reason_to_connect_and_one_attempt_runs_at_a_time() {
        let now = Instant::now();
        let mut keeper = Keeper::new();
        keeper.failures = 5;
        keeper.failed(error(), now, 1.0);
        assert!(!keeper.demand(now + DEMAND_PAUSE / 2), "the last attempt has only just failed");
        let later = now + DEMAND_PAUSE;
        assert!(keeper.demand(later));
        assert!(!keeper.demand(later), "one is under way");
        assert_eq!(keeper.refusal(later), None);
        let unanswered = LibvirtError::own("cannot open x read-only", ErrorClass::TimedOut, "no answer");
        keeper.failed(unanswered.clone(), later, 1.0);
        assert!(keeper.demand(later + DEMAND_PAUSE));
        assert_eq!(keeper.refusal(later + DEMAND_PAUSE), Some(unanswered), "the next may take as long");
        keeper.opened();
        assert!(!keeper.demand(later + DEMAND_PAUSE));
    }

    #[test]
    fn a_first_attempt_that_goes_on_for_too_long_is_not_waited_for() {
        let now = Instant::now();
        let mut keeper = Keeper::new();
        let unanswered = LibvirtError::own("cannot open x read-only", ErrorClass::TimedOut, "no answer");
        keeper.unanswered(unanswered.clone());
        assert_eq!(keeper.refusal(now), Some(unanswered.clone()));
        assert_eq!(keeper.standing(None, now), Standing::Failed(unanswered));
        assert!(!keeper.take_retry(now + LONGEST_PAUSE), "it is still under way");
        keeper.opened();
        assert_eq!((keeper.refusal(now), keeper.reconnects), (None, 0));
    }

    #[test]
    fn a_silent_daemon_is_refused_with_the_time() {
        let now = Instant::now();
        let mut keeper = Keeper::new();
        keeper.opened();
        keeper.link = Link::Silent { since: now };
        let refusal = keeper.refusal(now + Duration::from_secs(7)).expect("a refusal");
        assert_eq!(
            (refusal.class, refusal.message.as_str()),
            (ErrorClass::TimedOut, "the daemon has not answered for 7 s")
        );
    }

    #[test]
    fn the_standing_is_known_once_the_first_attempt_has_ended() {
        let now = Instant::now();
        let versions = Versions { libvirt: "9.0.0".into(), ..Versions::default() };
        let mut keeper = Keeper::new();
        assert_eq!(keeper.standing(None, now), Standing::Connecting);
        keeper.failed(error(), now, 1.0);
        assert_eq!(keeper.standing(None, now), Standing::Failed(error()));
        assert!(keeper.take_retry(now + FIRST_PAUSE));
        assert_eq!(keeper.standing(None, now), Standing::Failed(error()), "while the second attempt runs");
        keeper.opened();
        assert_eq!(keeper.standing(Some(&versions), now), Standing::Connected(versions));
    }
}
