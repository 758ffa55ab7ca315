//! Jobs of domains: asked about now and then, at once after an event, and every second while there is one.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::World;
use super::replies::{error, of_records, one_record};
use super::script::{Daemon, JOB_WAIT, uuid};
use crate::collect::message::Answer;
use crate::collect::pool::JobId;
use crate::libvirt::{ErrorClass, EventKind, JobOutcome, Records};
use crate::probes::{JOB, Task};

const SECOND: Duration = Duration::from_secs(1);

impl Daemon {
    /// libvirt takes the domain's job for a moment, and asks the monitor only if there is a background job.
    pub(super) fn answer_job(
        &mut self,
        job: JobId,
        uuid: Uuid,
        began: Instant,
        now: Instant,
    ) -> Result<(Duration, Answer), Option<Instant>> {
        let soon = Duration::from_millis(1);
        let Some(guest) = self.guests.get_mut(&uuid) else {
            return Ok((soon, Err(error(ErrorClass::VanishedDomain))));
        };
        let busy = guest.busy_until.filter(|until| *until > now);
        let is_held = guest.held.is_some_and(|(holder, _)| holder != job) || guest.occupied_since.is_some();
        if busy.is_some() || is_held {
            let last = began + JOB_WAIT;
            return if now < last {
                Err(Some(busy.unwrap_or(last).min(last)))
            } else {
                Ok((soon, Err(error(ErrorClass::Other(68)))))
            };
        }
        if guest.has_job && guest.hung {
            guest.held.get_or_insert((job, now));
            return Err(None);
        }
        guest.held.take_if(|(holder, _)| *holder == job);
        let records = if guest.has_job { one_record(&guest.name, uuid) } else { Records::default() };
        Ok((soon, Ok(of_records(records))))
    }
}

/// How often a guest was asked about its job.
fn asked(world: &World, number: usize) -> usize {
    let is_it = |task: &Task| matches!(task, Task::Ask(probe, of) if probe.name == JOB.name && of.domain() == Some(uuid(number)));
    world.calls.iter().filter(|call| is_it(&call.task)).count()
}

/// The guests of which a scrape shows a job.
fn shown(world: &mut World) -> Vec<String> {
    let collection = world.scrape().collection;
    let readings = collection.readings.iter().filter(|reading| reading.probe == JOB.name);
    readings.flat_map(|reading| reading.records.domains().map(|record| record.name.to_owned())).collect()
}

fn tell(world: &mut World, number: usize, kind: EventKind) {
    let identity = world.daemon.identity(number);
    world.event(&identity, kind);
}

#[test]
fn a_job_is_found_now_and_then_and_followed_every_second() {
    let mut world = World::steady(3, "");
    world.advance(200 * SECOND);
    assert!((0..3).all(|number| (5..=9).contains(&asked(&world, number))), "every thirty seconds");
    assert!(shown(&mut world).is_empty());
    world.daemon.guest(1).has_job = true;
    world.advance(38 * SECOND);
    assert_eq!(shown(&mut world), ["vm-1"]);
    world.calls.clear();
    world.advance(20 * SECOND);
    assert!((18..=20).contains(&asked(&world, 1)), "{}", asked(&world, 1));
    assert!(asked(&world, 0) <= 3);
    world.daemon.guest(1).has_job = false;
    world.advance(2 * SECOND);
    assert!(shown(&mut world).is_empty());
}

#[test]
fn events_show_jobs_at_once() {
    let mut world = World::steady(3, "");
    world.advance(20 * SECOND);
    world.daemon.guest(1).has_job = true;
    tell(&mut world, 1, EventKind::MigrationIteration { iteration: 1 });
    world.advance(SECOND / 10);
    assert_eq!(shown(&mut world), ["vm-1"]);
    world.daemon.guest(1).has_job = false;
    tell(&mut world, 1, EventKind::JobCompleted(JobOutcome::default()));
    world.advance(SECOND / 10);
    assert!(shown(&mut world).is_empty());
}

#[test]
fn many_guests_are_asked_at_a_pace_and_one_that_has_a_job_goes_before_them() {
    let mut world = World::steady(2000, "collection: {groups: [state, job]}");
    world.advance(100 * SECOND);
    let all: usize = (0..2000).map(|number| asked(&world, number)).sum();
    assert!((1500..=5100).contains(&all), "fifty a second, at most: {all}");
    world.daemon.guest(7).has_job = true;
    tell(&mut world, 7, EventKind::MigrationIteration { iteration: 1 });
    world.advance(2 * SECOND);
    assert_eq!(shown(&mut world), ["vm-7"]);
    world.calls.clear();
    world.advance(20 * SECOND);
    assert!(asked(&world, 7) >= 15, "{}", asked(&world, 7));
}

#[test]
fn a_guest_that_hangs_in_its_job_costs_only_itself() {
    let mut world = World::steady(4, "");
    (0..3).for_each(|number| world.daemon.guest(number).has_job = true);
    world.advance(40 * SECOND);
    assert_eq!(shown(&mut world).len(), 3);
    world.daemon.guest(0).hung = true;
    world.advance(10 * SECOND);
    let scrape = world.scrape();
    assert_eq!(scrape.complete(), 3);
    assert!(shown(&mut world).contains(&"vm-1".to_owned()));
    world.calls.clear();
    world.advance(100 * SECOND);
    assert_eq!(asked(&world, 0), 0, "its call has not returned");
    assert!(asked(&world, 1) > 50 && asked(&world, 2) > 50);
    // What is known of its job is too old by now.
    assert!(!shown(&mut world).contains(&"vm-0".to_owned()));
    world.daemon.guest(0).hung = false;
    world.look_again();
    world.advance(40 * SECOND);
    assert_eq!((world.scrape().complete(), shown(&mut world).len()), (4, 3));
}
