//! Runs: what is asked, who shares it, and when it is answered.

use std::sync::Arc;
use std::time::Duration;

use super::script::Daemon;
use super::world::Life;
use super::{World, everything, only};
use crate::collect::MissingReason;
use crate::collect::message::Message;
use crate::collect::pool::Role;
use crate::config::Group;
use crate::libvirt::{DomainSelection, ErrorClass};
use crate::probes::Task;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_steady_collection_is_a_few_calls_for_statistics_and_nothing_else() {
    let mut world = World::steady(100, "");
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.class()), (100, None));
    // Twelve batches of nine, and one call for the domains that are shut off. Jobs are asked about beside it.
    let calls = world.calls.len() - world.calls_of("job");
    assert_eq!((world.calls_of("stats"), world.calls_of("inactive_stats"), calls), (12, 1, 13));
    assert_eq!((scrape.collection.calls, world.connections_of(Role::Stats)), (13, 4));
}

#[test]
fn twenty_requests_at_once_cost_one_run() {
    let mut world = World::steady(50, "");
    let waiters: Vec<_> = (0..20).map(|_| world.ask(everything(), SECOND)).collect();
    world.advance(SECOND);
    let answers: Vec<_> = waiters.iter().map(|waiter| world.answer(*waiter).expect("an answer")).collect();
    assert!(answers.iter().all(|answer| Arc::ptr_eq(answer, answers[0])));
    assert_eq!(world.calls.len(), answers[0].calls);
}

#[test]
fn a_young_result_is_good_for_others_of_the_same_selection() {
    let mut world = World::steady(10, "collection: {min_interval: 1h}");
    let first = world.scrape().collection;
    assert!(Arc::ptr_eq(&first, &world.scrape().collection));
    let other = world.scrape_of(only(&[Group::State]));
    assert!(!Arc::ptr_eq(&first, &other.collection));
    assert_eq!(other.keys("vm-1"), ["state.state"]);
    world.advance(Duration::from_secs(3601));
    assert!(!Arc::ptr_eq(&first, &world.scrape().collection), "it has grown old");
}

#[test]
fn each_request_is_answered_at_its_own_deadline_with_what_has_arrived() {
    let mut world = World::steady(8, "collection: {workers: 2, batch_size: 2}");
    world.daemon.guest(3).takes = 30 * SECOND;
    let (soon, late) = (world.ask(everything(), SECOND), world.ask(everything(), 3 * SECOND));
    let began = world.now;
    world.advance(10 * SECOND);
    assert_eq!([soon, late].map(|waiter| world.answered_at(waiter)), [Some(began + SECOND), Some(began + 3 * SECOND)]);
    let answer = world.answer(late).expect("an answer");
    let missing: Vec<_> = answer.domains.iter().filter_map(|domain| domain.missing.as_ref()).collect();
    assert!((1..=2).contains(&missing.len()), "the batch of the slow one");
    assert!(missing.iter().all(|missing| missing.reason == MissingReason::Deadline));
    // Its call is left behind, and its domains are not asked for more until it ends.
    assert_eq!(world.stuck_calls(), 1);
    world.advance(30 * SECOND);
    assert_eq!(world.stuck_calls(), 0);
    world.daemon.guest(3).takes = Duration::ZERO;
    assert_eq!(world.scrape().complete(), 8);
}

#[test]
fn what_all_ask_for_goes_before_what_one_has_made_up() {
    let mut world = World::steady(40, "collection: {workers: 1, batch_size: 4}");
    let made_up = world.ask(only(&[Group::Block]), 4 * SECOND);
    world.advance(Duration::from_millis(4));
    let common = world.ask(everything(), 4 * SECOND);
    world.advance(4 * SECOND);
    let [first, second] = [common, made_up].map(|waiter| world.answered_at(waiter).expect("an answer"));
    assert!(first < second);
}

#[test]
fn two_runs_do_not_ask_for_one_domain_at_the_same_time() {
    let mut world = World::steady(4, "collection: {workers: 8}");
    (0..4).for_each(|number| world.daemon.guest(number).takes = Duration::from_millis(50));
    let waiters = [world.ask(only(&[Group::Block]), 4 * SECOND), world.ask(everything(), 4 * SECOND)];
    world.advance(4 * SECOND);
    assert!(waiters.iter().all(|waiter| world.answer(*waiter).is_some()));
    let mut asked: Vec<(Vec<uuid::Uuid>, _, _)> = Vec::new();
    for call in &world.calls {
        if let Task::Stats { domains, .. } = &call.task {
            let takes = Duration::from_millis(50) * u32::try_from(domains.len()).expect("few");
            asked.push((domains.clone(), call.at, call.at + takes));
        }
    }
    for (number, (domains, from, _)) in asked.iter().enumerate() {
        let before = asked[..number].iter().filter(|(_, _, until)| until > from);
        assert!(before.flat_map(|(of, ..)| of).all(|uuid| !domains.contains(uuid)));
    }
}

#[test]
fn a_reply_that_is_too_large_is_asked_for_in_halves_and_that_is_remembered() {
    let mut world = World::steady(40, "");
    world.daemon.reply_limit = 2;
    assert_eq!(world.scrape().complete(), 40);
    world.calls.clear();
    assert_eq!(world.scrape().complete(), 40);
    let sizes: Vec<usize> = world.calls.iter().filter_map(|call| size(&call.task)).collect();
    assert!(sizes.iter().all(|size| *size <= 2), "{sizes:?}");
    assert_eq!(world.scheduler.stats().failures, []);
}

fn size(task: &Task) -> Option<usize> {
    if let Task::Stats { domains, .. } = task { Some(domains.len()) } else { None }
}

#[test]
fn flags_that_the_daemon_does_not_know_are_left_out_from_then_on() {
    let mut daemon = Daemon::new(5);
    (daemon.knows_backing, daemon.knows_nowait) = (false, false);
    let mut world = World::of(daemon, "collection: {backing_chain: true}");
    assert_eq!(world.scrape().complete(), 5);
    let shortcomings = &world.scheduler.stats().shortcomings;
    assert!(shortcomings.no_backing && shortcomings.no_nowait);
    world.calls.clear();
    assert_eq!(world.scrape().complete(), 5);
    let requests = world.calls.iter().filter_map(|call| match &call.task {
        Task::Stats { request, .. } | Task::Inactive { request, .. } => Some(request),
        _ => None,
    });
    assert!(requests.clone().count() > 1 && requests.clone().all(|request| !request.nowait && !request.backing_chain));
}

#[test]
fn a_driver_without_bulk_statistics_is_asked_for_basic_facts() {
    let mut daemon = Daemon::new(5);
    daemon.knows_bulk = false;
    daemon.driver = "LXC";
    daemon.stop(4);
    let mut world = World::of(daemon, "");
    let scrape = world.scrape();
    assert_eq!(
        (scrape.complete(), scrape.keys("vm-1"), scrape.keys("vm-4").len()),
        (4, vec!["state.state".to_owned()], 1)
    );
    assert!(world.scheduler.stats().shortcomings.no_bulk);
    world.calls.clear();
    world.scrape();
    assert_eq!((world.calls_of("info"), world.calls_of("stats")), (2, 0));
}

#[test]
fn a_call_that_an_older_daemon_fails_when_a_guest_dies_is_repeated_without_the_fragile_groups() {
    let mut world = World::steady(10, "");
    world.daemon.dies_in_call = true;
    let scrape = world.scrape();
    assert_eq!((scrape.class(), scrape.complete()), (None, 10));
}

#[test]
fn a_call_that_fails_costs_its_domains_alone() {
    let mut world = World::steady(4, "collection: {batch_size: 4, workers: 1}");
    world.daemon.reply_limit = 0;
    let scrape = world.scrape();
    assert_eq!((scrape.class(), scrape.complete()), (None, 0));
    let reasons: Vec<_> = (0..4).filter_map(|number| Some(scrape.missing(&format!("vm-{number}"))?.reason)).collect();
    assert_eq!(reasons, [MissingReason::Refused; 4]);
    assert_eq!(world.scheduler.stats().failures, [(ErrorClass::TooLarge, 4)]);
    assert!(!world.scheduler.stats().probes["stats"].success);
}

#[test]
fn a_domain_that_starts_while_a_run_lasts_is_in_it() {
    let mut world = World::steady(4, "");
    (0..4).for_each(|number| world.daemon.guest(number).takes = Duration::from_millis(100));
    let waiter = world.ask(everything(), 4 * SECOND);
    world.advance(Duration::from_millis(50));
    world.live(4, Life::Started);
    world.advance(SECOND);
    let answer = world.answer(waiter).expect("an answer");
    assert_eq!(answer.domains.iter().filter(|domain| domain.is_complete()).count(), 5);
}

#[test]
fn domains_that_come_and_go_during_runs_are_no_errors() {
    let mut world = World::steady(20, "");
    for round in 0..20 {
        world.live(round, Life::Stopped);
        let waiter = world.ask(everything(), 4 * SECOND);
        world.live(round, Life::Started);
        world.live((round + 1) % 20, Life::Stopped);
        world.advance(SECOND);
        let answer = world.answer(waiter).expect("an answer");
        assert_eq!((answer.error.clone(), answer.domains.iter().all(|domain| domain.is_complete())), (None, true));
        assert!((19..=20).contains(&answer.domains.len()), "{}", answer.domains.len());
        world.live((round + 1) % 20, Life::Started);
        assert_eq!(world.scrape().complete(), 20);
    }
}

#[test]
fn domains_that_the_configuration_excludes_are_not_asked_about() {
    let mut world = World::new(10, "domains: {include: ['vm-[0-4]']}");
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.collection.domains.len()), (5, 5));
    let asked: usize = world.calls.iter().filter_map(|call| size(&call.task)).sum();
    assert_eq!(asked, 5);
    // A run goes on as it began, the next one as it is configured then.
    let config = crate::config::parse("domains: {include: ['vm-[0-6]']}", "test").expect("valid");
    world.tell(Message::Reconfigure(Box::new(config)));
    assert_eq!(world.scrape().complete(), 7);
}

#[test]
fn idle_connections_are_given_back() {
    // Background calls keep their own connection.
    let groups = "groups: [state, cpu_total, balloon, vcpu, interface, block]";
    let settings = format!("collection: {{idle_timeout: 5s, {groups}}}\nmetadata: {{refresh_interval: 1h}}");
    let mut world = World::steady(50, &settings);
    assert_eq!(world.connections(), 6);
    world.advance(Duration::from_millis(4900));
    assert_eq!(world.connections_of(Role::Stats), 4);
    world.advance(SECOND);
    assert_eq!((world.connections(), world.connections_of(Role::Control)), (1, 1));
    assert_eq!(world.scrape().complete(), 50);
    assert!(world.connections() > 1);
}

#[test]
fn without_workers_the_control_worker_asks_and_others_are_tried_again() {
    let mut daemon = Daemon::new(10);
    (daemon.places, daemon.refuses) = (1, true);
    let mut world = World::of(daemon, "");
    assert_eq!(world.scrape().complete(), 10);
    assert_eq!(world.connections(), 1);
    world.daemon.places = 100;
    world.advance(SECOND);
    assert_eq!(world.scrape().complete(), 10);
    assert!(world.connections_of(Role::Stats) > 0);
}

#[test]
fn fewer_workers_are_kept_where_fewer_are_configured() {
    let mut world = World::steady(100, "");
    let config = crate::config::parse("collection: {workers: 1}", "test").expect("valid");
    world.tell(Message::Reconfigure(Box::new(config)));
    assert_eq!(world.scrape().complete(), 100);
    assert_eq!(world.connections_of(Role::Stats), 1);
}

#[test]
fn how_each_probe_went_is_counted() {
    let mut world = World::steady(10, "");
    world.scrape();
    let probes = &world.scheduler.stats().probes;
    let names: Vec<&str> = probes.keys().copied().collect();
    assert_eq!(names, ["definitions", "host", "inactive_stats", "job", "listing", "network", "pool", "stats"]);
    assert!(probes.values().all(|status| status.success && !status.duration.is_zero()));
    let bulk = Some(DomainSelection::Inactive);
    assert!(
        world.calls.iter().any(|call| matches!(&call.task, Task::Inactive { request, .. } if request.domains == bulk))
    );
    world.daemon.guest(1).takes = 20 * SECOND;
    world.scrape();
    assert!(!world.scheduler.stats().probes["stats"].success);
}
