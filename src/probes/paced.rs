//! Groups that change seldom are not asked for in every collection: what they said last is repeated for a while. Which domains are
//! due is spread, so that no collection asks for all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::config::{Group, Intervals};
use crate::libvirt::{DomainRecord, KeyLists, ParamValue, Records, StatsGroups};

/// For how many intervals a value is repeated that could not be asked for again.
const LASTS: u32 = 3;
/// How much less often a dirty rate is asked for that was never measured.
const UNSTARTED: u32 = 5;
/// `VIR_DOMAIN_DIRTYRATE_UNSTARTED`
const STATUS_UNSTARTED: ParamValue<'static> = ParamValue::Int(0);

/// What domains said last of groups that have an interval. Shared by all workers.
#[derive(Debug, Default)]
pub(super) struct Paced {
    said: Mutex<Said>,
    keys: KeyLists,
}

#[derive(Debug, Default)]
struct Said {
    answers: HashMap<(Uuid, Group), Answer>,
    /// When there are more than this, those of domains that are gone are looked for.
    many: usize,
}

/// What a domain said of a group.
#[derive(Debug)]
struct Answer {
    /// The incarnation of the domain.
    id: Option<u32>,
    at: Instant,
    /// The same moment as a time of day.
    wall: SystemTime,
    due: Instant,
    lasts_until: Instant,
    /// A record of its parameters alone.
    params: Arc<Records>,
}

/// The groups that can have an interval. A counter that is repeated without the time when it was read looks as if it stood still,
/// so by default none has an interval that has counters.
fn interval_of(group: Group, intervals: Intervals) -> Duration {
    match group {
        Group::Iothread => intervals.iothread,
        Group::Dirtyrate => intervals.dirtyrate,
        Group::Vm => intervals.vm,
        _ => Duration::ZERO,
    }
}

fn paced(asked: StatsGroups, intervals: Intervals) -> impl Iterator<Item = (Group, Duration)> {
    let all = Group::ALL.iter().map(move |group| (*group, interval_of(*group, intervals)));
    all.filter(move |(group, interval)| !interval.is_zero() && asked.contains(group.stats()))
}

impl Paced {
    /// What of the groups `asked` is not due for a domain.
    pub(super) fn rest(&self, uuid: Uuid, asked: StatsGroups, intervals: Intervals, now: Instant) -> StatsGroups {
        let said = self.said.lock();
        let rests = |group: &Group| said.answers.get(&(uuid, *group)).is_some_and(|answer| now < answer.due);
        paced(asked, intervals).map(|(group, _)| group).filter(rests).map(Group::stats).collect()
    }

    /// Completes the record that is the last of `records`, for which `asked` was wanted and all of it but `rest` was asked for:
    /// remembers what has an interval, and repeats what was said earlier.
    pub(super) fn complete(
        &self,
        asked: StatsGroups,
        rest: StatsGroups,
        intervals: Intervals,
        records: &mut Records,
        now: Instant,
    ) {
        let Some(last) = records.len().checked_sub(1) else { return };
        let record = records.domain(last);
        let (uuid, id) = (record.uuid, record.id);
        if paced(asked, intervals).next().is_none() {
            return;
        }
        let had_job = shows_job(&record);
        let mut said = self.said.lock();
        let mut repeated = Vec::new();
        for (group, interval) in paced(asked, intervals) {
            let key = (uuid, group);
            if !rest.contains(group.stats()) {
                let params = self.params_of(&records.domain(last), group);
                if had_job || params.param_count() > 0 {
                    let answer = Answer::new(id, now, interval, params);
                    records.note_read(group.stats(), answer.wall);
                    said.learn(key, answer);
                    continue;
                }
            }
            // It is not due, or its domain is busy.
            match said.answers.get(&key).filter(|answer| answer.id == id && now < answer.lasts_until) {
                Some(answer) => repeated.push((group.stats(), Some((Arc::clone(&answer.params), answer.wall)))),
                None => drop(said.answers.remove(&key)),
            }
            if rest.contains(group.stats()) && !said.answers.contains_key(&key) {
                // Another incarnation of the domain: asked for again at once.
                repeated.push((group.stats(), None));
            }
        }
        drop(said);
        for (group, answer) in repeated {
            for param in answer.iter().flat_map(|(params, _)| params.domain(0).params()) {
                records.push(param.key, param.value);
            }
            answer.iter().for_each(|(_, wall)| records.note_read(group, *wall));
            records.note_elsewhere(group, answer.is_some());
        }
    }

    fn params_of(&self, record: &DomainRecord<'_>, group: Group) -> Records {
        let mut own = Records::default();
        own.push_domain("", record.uuid, record.id);
        for param in record.params().filter(|param| Group::of_key(param.key) == Some(group)) {
            own.push(param.key, param.value);
        }
        own.settle(&self.keys);
        own
    }
}

impl Said {
    fn learn(&mut self, key: (Uuid, Group), answer: Answer) {
        if self.answers.len() > self.many {
            let now = answer.at;
            self.answers.retain(|_, answer| now < answer.lasts_until);
            self.many = 64 + 2 * self.answers.len();
        }
        self.answers.insert(key, answer);
    }
}

impl Answer {
    /// Due at some time about an interval later.
    fn new(id: Option<u32>, at: Instant, interval: Duration, params: Records) -> Self {
        let is_unstarted = params
            .domain(0)
            .params()
            .any(|param| param.key == "dirtyrate.calc_status" && param.value == STATUS_UNSTARTED);
        let interval = if is_unstarted { interval * UNSTARTED } else { interval };
        let due = at + interval.mul_f64(0.75 + 0.5 * fastrand::f64());
        Self { id, at, wall: SystemTime::now(), due, lasts_until: at + interval * LASTS, params: Arc::new(params) }
    }
}

/// Whether libvirt had the domain's job: then what is not there does not exist.
fn shows_job(record: &DomainRecord<'_>) -> bool {
    record.params().any(|param| {
        let monitor = Group::of_key(param.key).and_then(|group| group.info().monitor.as_ref());
        monitor.is_some_and(|monitor| monitor.shows_job && monitor.answers.matches(param.key))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: StatsGroups = StatsGroups::IOTHREAD.union(StatsGroups::BALLOON);
    const INTERVALS: Intervals =
        Intervals { iothread: Duration::from_secs(60), dirtyrate: Duration::from_secs(60), vm: Duration::ZERO };

    /// One collection of a domain with an I/O thread: what it was asked for, and what its record has.
    fn collect(paced: &Paced, id: u32, busy: bool, now: Instant) -> (StatsGroups, Vec<String>, StatsGroups) {
        let uuid = Uuid::from_u128(1);
        let rest = paced.rest(uuid, ASKED, INTERVALS, now);
        let mut records = Records::default();
        records.push_domain("x", uuid, Some(id));
        records.push("balloon.current", ParamValue::ULLong(1));
        if !busy {
            records.push("balloon.rss", ParamValue::ULLong(1));
            if !rest.contains(StatsGroups::IOTHREAD) {
                records.push("iothread.count", ParamValue::UInt(1));
            }
        }
        paced.complete(ASKED, rest, INTERVALS, &mut records, now);
        let record = records.domain(0);
        let keys = record.params().map(|param| param.key.to_owned()).collect();
        (ASKED.without(rest), keys, record.unread)
    }

    #[test]
    fn a_value_keeps_the_time_when_it_was_read() {
        let (paced, start) = (Paced::default(), Instant::now());
        let mut read = Vec::new();
        for seconds in [0, 15, 100] {
            let now = start + Duration::from_secs(seconds);
            let rest = paced.rest(Uuid::nil(), ASKED, INTERVALS, now);
            let mut records = Records::default();
            for (uuid, name) in [(Uuid::max(), "other"), (Uuid::nil(), "x")] {
                records.push_domain(name, uuid, Some(1));
                records.push("balloon.rss", ParamValue::ULLong(1));
            }
            paced.complete(ASKED, rest, INTERVALS, &mut records, now);
            assert_eq!(records.domain(0).read().count(), 0);
            let [(group, at)] = records.domain(1).read().collect::<Vec<_>>()[..] else { panic!("one group") };
            assert_eq!(group, StatsGroups::IOTHREAD);
            read.push(at);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(read[0] == read[1] && read[1] < read[2], "{read:?}");
    }

    fn has_iothread(keys: &[String]) -> bool {
        keys.iter().filter(|key| *key == "iothread.count").count() == 1
    }

    #[test]
    fn a_value_is_repeated_until_its_group_is_due() {
        let (paced, start) = (Paced::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(collect(&paced, 1, false, at(0)).0, ASKED);
        for seconds in [0, 15, 44] {
            let (asked, keys, unread) = collect(&paced, 1, false, at(seconds));
            assert_eq!((asked, has_iothread(&keys)), (StatsGroups::BALLOON, true), "after {seconds} s");
            assert!(unread.is_empty());
        }
        let (asked, keys, _) = collect(&paced, 1, false, at(76));
        assert_eq!((asked, has_iothread(&keys)), (ASKED, true));
    }

    #[test]
    fn a_busy_domain_repeats_until_the_value_is_too_old() {
        let (paced, start) = (Paced::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        collect(&paced, 1, false, at(0));
        let (asked, keys, _) = collect(&paced, 1, true, at(100));
        assert_eq!((asked, has_iothread(&keys)), (ASKED, true), "asked for, and repeated");
        let (asked, keys, _) = collect(&paced, 1, true, at(181));
        assert_eq!((asked, has_iothread(&keys)), (ASKED, false), "too old");
    }

    #[test]
    fn another_run_of_the_domain_does_not_repeat_what_the_last_one_said() {
        let (paced, start) = (Paced::default(), Instant::now());
        collect(&paced, 1, false, start);
        let (_, keys, unread) = collect(&paced, 2, false, start);
        assert!(!has_iothread(&keys));
        assert_eq!(unread, StatsGroups::IOTHREAD, "is asked for again");
        assert_eq!(collect(&paced, 2, false, start).0, ASKED);
    }

    #[test]
    fn domains_are_due_at_different_times_and_a_rate_that_was_never_measured_seldom() {
        let (paced, start) = (Paced::default(), Instant::now());
        let asked = StatsGroups::DIRTYRATE;
        for (number, status) in (0..200).map(|number| (number, i32::from(number >= 100) * 2)) {
            let mut records = Records::default();
            records.push_domain("x", Uuid::from_u128(number), Some(1));
            records.push("dirtyrate.calc_status", ParamValue::Int(status));
            paced.complete(asked, StatsGroups::NONE, INTERVALS, &mut records, start);
        }
        let due = |range: std::ops::Range<u128>, seconds| {
            let now = start + Duration::from_secs(seconds);
            range.filter(|number| paced.rest(Uuid::from_u128(*number), asked, INTERVALS, now).is_empty()).count()
        };
        assert_eq!((due(100..200, 44), due(100..200, 76)), (0, 100));
        assert!((20..80).contains(&due(100..200, 60)), "spread: {}", due(100..200, 60));
        assert_eq!((due(0..100, 224), due(0..100, 376)), (0, 100), "never measured");
    }
}
