//! A daemon that is dropped leaves nothing behind. One test, because it counts the threads of the process.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::Duration;

use fake_libvirtd::stats::flag;
use fake_libvirtd::{Event, Procedure, ReplyFault, Times};
use support::raw::RawClient;
use support::start_small;

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn nothing_is_left_of_a_dropped_daemon() {
    let (threads, descriptors) = (count("/proc/self/task"), count("/proc/self/fd"));
    for _ in 0..20 {
        let daemon = start_small();
        let socket = daemon.socket().to_owned();
        let mut clients: Vec<_> = (0..4).map(|_| RawClient::open(&daemon, false)).collect();
        let registered = clients[0].call(Procedure::ConnectDomainEventCallbackRegisterAny, |out| {
            out.i32(0).u32(0);
        });
        registered.unwrap();
        // Calls that hang, wait, sleep and trickle, and events that are not read.
        daemon.faults().hang_domain("vm-0");
        clients[1].send_stats(&daemon, &["vm-0"], 0, flag::NOWAIT);
        assert!(daemon.wait_until_hung("vm-0", Duration::from_secs(60)));
        clients[2].send_stats(&daemon, &["vm-0"], 0, 0);
        let hour = Duration::from_secs(3600);
        daemon.faults().reply(Procedure::ConnectGetHostname, ReplyFault::Delay(hour), Times::Always);
        clients[3].send(Procedure::ConnectGetHostname, |_| {});
        daemon.faults().reply(Procedure::ConnectGetUri, ReplyFault::Trickle(hour), Times::Always);
        clients[3].send(Procedure::ConnectGetUri, |_| {});
        daemon.events().storm(20_000, Duration::ZERO, &[Event::lifecycle(3, 0)]);
        drop(daemon);
        assert!(!socket.exists() && !socket.parent().unwrap().exists());
    }
    assert_eq!(count("/proc/self/task"), threads);
    assert_eq!(count("/proc/self/fd"), descriptors);
}
