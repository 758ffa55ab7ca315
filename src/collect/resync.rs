//! When the domains are listed again, and what happened while a listing was being fetched. Pure: the clock is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::libvirt::Event;

/// Events come in crowds: one listing for all of a crowd.
const SETTLE: Duration = Duration::from_millis(200);
/// The least time between two listings that events ask for.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// How many times longer than a listing usually is the pause after it is, so that a host of ten thousand domains, where it is long,
/// does not spend its time on listings while domains come and go.
const PAUSE_FACTOR: u32 = 20;
/// The longest such pause: a daemon that was slow once is asked again after that.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many times longer than a listing usually is the interval between two is at the least.
const INTERVAL_FACTOR: u32 = 100;
/// The longest interval that comes of that.
const LONGEST_INTERVAL: Duration = Duration::from_secs(600);
/// The least time between two listings because records did not agree with the registry: they may never agree.
const RECORDS_PAUSE: Duration = Duration::from_secs(30);

/// Most events remembered while a listing is under way; after more than that it is repeated.
const MOST_EVENTS: usize = 16_384;

/// Why the domains are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ResyncCause {
    /// There is a new connection.
    Connect,
    /// It is time.
    Interval,
    /// Events told of something that they do not tell all of.
    Events,
    /// Events were lost.
    Overflow,
    /// Statistics did not agree with what was known.
    Records,
    /// To see whether the daemon answers.
    Check,
}

impl ResyncCause {
    /// Every cause.
    pub(super) const ALL: [Self; 6] =
        [Self::Connect, Self::Interval, Self::Events, Self::Overflow, Self::Records, Self::Check];

    /// Its label value in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Interval => "interval",
            Self::Events => "events",
            Self::Overflow => "overflow",
            Self::Records => "records",
            Self::Check => "check",
        }
    }
}

/// A listing under way.
#[derive(Debug)]
struct Running {
    since: Instant,
    /// What has happened since it was asked for.
    events: Vec<Event>,
    /// There were more.
    missed: bool,
}

/// The listings of one connection.
#[derive(Debug)]
pub(super) struct Resync {
    due: Option<(Instant, ResyncCause)>,
    running: Option<Running>,
    /// When the last one that succeeded was asked for.
    listed: Option<Instant>,
    not_before: Option<Instant>,
    /// How long the last one took.
    took: Option<Duration>,
    /// The shorter of the last two.
    usual: Duration,
    last_for_records: Option<Instant>,
    counts: BTreeMap<&'static str, u64>,
}

impl Default for Resync {
    fn default() -> Self {
        let counts = ResyncCause::ALL.into_iter().map(|cause| (cause.as_str(), 0)).collect();
        Self {
            due: None,
            running: None,
            listed: None,
            not_before: None,
            took: None,
            usual: Duration::ZERO,
            last_for_records: None,
            counts,
        }
    }
}

impl Resync {
    /// Has the domains listed, as soon as the cause deserves.
    pub(super) fn want(&mut self, cause: ResyncCause, now: Instant) {
        let at = match cause {
            ResyncCause::Connect | ResyncCause::Check => now,
            ResyncCause::Interval | ResyncCause::Overflow => self.not_before.map_or(now, |pause| pause.max(now)),
            ResyncCause::Events => self.not_before.map_or(now + SETTLE, |pause| pause.max(now + SETTLE)),
            ResyncCause::Records => {
                if self.last_for_records.is_some_and(|last| now < last + RECORDS_PAUSE) {
                    return;
                }
                self.last_for_records = Some(now);
                self.not_before.map_or(now, |pause| pause.max(now))
            }
        };
        self.want_at(cause, at);
    }

    fn want_at(&mut self, cause: ResyncCause, at: Instant) {
        if self.due.is_none_or(|(due, _)| at < due) {
            self.due = Some((at, cause));
        }
    }

    /// Whether a listing is to be asked for now; it is then taken to be under way.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        if self.running.is_some() {
            return false;
        }
        let Some((_, cause)) = self.due.take_if(|(at, _)| *at <= now) else { return false };
        *self.counts.entry(cause.as_str()).or_default() += 1;
        self.running = Some(Running { since: now, events: Vec::new(), missed: false });
        true
    }

    /// Remembers an event that a listing under way may not have seen.
    pub(super) fn note(&mut self, event: &Event) {
        if let Some(running) = &mut self.running {
            if running.events.len() < MOST_EVENTS {
                running.events.push(event.clone());
            } else {
                running.missed = true;
            }
        }
    }

    /// The listing has arrived: the events since it was asked for. The next one comes after `interval` at the latest, or
    /// later where listings take long.
    pub(super) fn succeeded(&mut self, now: Instant, interval: Duration) -> Vec<Event> {
        let Some(running) = self.running.take() else { return Vec::new() };
        self.listed = Some(running.since);
        let took = now.saturating_duration_since(running.since);
        // One that waits for the lock of a domain which is being started takes a second, and costs nothing: of the last two, the
        // shorter tells what they cost.
        let usual = self.took.replace(took).map_or(took, |last| last.min(took));
        self.usual = usual;
        self.not_before = Some(now + (usual * PAUSE_FACTOR).clamp(LEAST_PAUSE, LONGEST_PAUSE));
        self.want_at(ResyncCause::Interval, now + interval.max((usual * INTERVAL_FACTOR).min(LONGEST_INTERVAL)));
        if running.missed {
            self.want(ResyncCause::Overflow, now);
        }
        running.events
    }

    /// The listing failed, and is tried again.
    pub(super) fn failed(&mut self, now: Instant) {
        self.running = None;
        self.want_at(ResyncCause::Interval, now + LEAST_PAUSE);
    }

    /// The connection is gone.
    pub(super) fn disconnected(&mut self) {
        let counts = std::mem::take(&mut self.counts);
        *self = Self { counts, ..Self::default() };
    }

    /// How long one usually takes.
    pub(super) fn usual(&self) -> Duration {
        self.usual
    }

    /// Whether the domains are known.
    pub(super) fn is_listed(&self) -> bool {
        self.listed.is_some()
    }

    /// Whether they have been listed since `then`.
    pub(super) fn is_listed_since(&self, then: Instant) -> bool {
        self.listed.is_some_and(|listed| listed >= then)
    }

    /// When the next one is due.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.due.filter(|_| self.running.is_none()).map(|(at, _)| at)
    }

    /// How many there were, by cause.
    pub(super) fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use uuid::Uuid;

    use super::*;
    use crate::libvirt::{EventKind, Identity};

    const INTERVAL: Duration = Duration::from_secs(600);

    fn event() -> Event {
        let domain = Identity { name: "a".to_owned(), uuid: Uuid::nil(), id: None };
        Event { domain, at: SystemTime::UNIX_EPOCH, kind: EventKind::Reboot }
    }

    #[test]
    fn a_crowd_of_events_costs_one_listing_and_a_long_listing_a_long_pause() {
        let now = Instant::now();
        let mut resync = Resync::default();
        resync.want(ResyncCause::Connect, now);
        assert!(resync.begin(now) && !resync.begin(now) && !resync.is_listed());
        resync.note(&event());
        let then = now + Duration::from_secs(1);
        assert_eq!(resync.succeeded(then, INTERVAL), [event()]);
        assert!(resync.is_listed_since(now) && !resync.is_listed_since(then));
        assert_eq!(resync.next_wake(), Some(then + INTERVAL));
        for _ in 0..1000 {
            resync.want(ResyncCause::Events, then);
        }
        assert_eq!(resync.next_wake(), Some(then + Duration::from_secs(20)));
        assert!(!resync.begin(then) && resync.begin(then + Duration::from_secs(20)));
        assert_eq!((resync.counts()["events"], resync.counts()["connect"]), (1, 1));
    }

    #[test]
    fn a_listing_that_had_to_wait_once_does_not_delay_the_next() {
        let start = Instant::now();
        let mut resync = Resync::default();
        let mut next_after = |begun: Duration, took: Duration| {
            let (begun, ended) = (start + begun, start + begun + took);
            resync.want(ResyncCause::Check, begun);
            assert!(resync.begin(begun));
            resync.succeeded(ended, INTERVAL);
            resync.want(ResyncCause::Events, ended);
            resync.next_wake().map(|at| at - ended)
        };
        let (short, long) = (Duration::from_millis(10), Duration::from_secs(2));
        assert_eq!(next_after(Duration::ZERO, short), Some(LEAST_PAUSE));
        assert_eq!(next_after(Duration::from_secs(60), long), Some(LEAST_PAUSE), "it waited");
        assert_eq!(next_after(Duration::from_secs(120), long), Some(LONGEST_PAUSE), "it is long");
    }

    #[test]
    fn records_that_never_agree_do_not_make_it_list_all_the_time() {
        let now = Instant::now();
        let mut resync = Resync::default();
        resync.want(ResyncCause::Records, now);
        assert!(resync.begin(now));
        assert!(resync.succeeded(now, INTERVAL).is_empty());
        resync.want(ResyncCause::Records, now + Duration::from_secs(10));
        assert_eq!(resync.next_wake(), Some(now + INTERVAL));
        resync.want(ResyncCause::Records, now + RECORDS_PAUSE);
        assert_eq!(resync.next_wake(), Some(now + RECORDS_PAUSE));
    }

    #[test]
    fn listings_take_a_small_part_of_the_time() {
        let now = Instant::now();
        let next = |took: Duration| {
            let mut resync = Resync::default();
            resync.want(ResyncCause::Connect, now);
            assert!(resync.begin(now));
            resync.succeeded(now + took, Duration::from_secs(60));
            resync.next_wake().map(|at| at - (now + took))
        };
        assert_eq!(next(Duration::from_millis(100)), Some(Duration::from_secs(60)));
        assert_eq!(next(Duration::from_millis(800)), Some(Duration::from_secs(80)));
        assert_eq!(next(Duration::from_secs(9)), Some(LONGEST_INTERVAL));
    }

    #[test]
    fn a_listing_that_fails_is_tried_again() {
        let now = Instant::now();
        let mut resync = Resync::default();
        resync.want(ResyncCause::Connect, now);
        assert!(resync.begin(now));
        resync.failed(now);
        assert!(!resync.begin(now) && resync.begin(now + LEAST_PAUSE));
    }
}
