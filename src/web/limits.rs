//! Every limit of the server, in one place. None can be had more of by asking more, from more addresses or more slowly.
//!
//! | limit | default | what counts against it | at the limit |
//! |---|---|---|---|
//! | [`MAX_CONNECTIONS`] | 2560, fewer where `ulimit -n` is low | a connection, from accept to close | the least useful one goes; a newcomer waits while none can (`connections`) |
//! | [`BACKLOG`] | 1024 | a connection that waits to be accepted | the kernel refuses it |
//! | [`MAX_HEADERS`], [`MAX_HEAD_BYTES`] | 100, 16 KiB | the head of a request | 431 |
//! | [`HEADER_TIMEOUT`] | 10 s | the TLS handshake; the head of a request, from its first byte | the connection closes |
//! | [`IDLE_TIMEOUT`] | 300 s | silence between two requests | the connection closes |
//! | [`REQUEST_PACE`] | 50 a second, bursts of 10 | a request of one connection | it waits; the connection is the first to go |
//! | [`WRITE_STALL`], [`ANSWER_TIME`] | 10 s, 60 s | no byte taken; the whole of a response | the connection closes |
//! | [`LINGER`], [`LINGER_BYTES`] | 1 s, 4 MiB | what a client sends after the server has closed | it is reset |
//! | `rate_limit` of the web configuration | off | any request, of all clients together | 429 |
//! | [`PASSWORD_CHECKS`], [`WAITING_CHECKS`] | 2, 16 | a password that is not known yet | it waits; 429 |
//! | [`PASSWORD_PACE`] | 1 a second, bursts of 20 | such a password of one peer | 429 |
//! | `web.max_requests` | 40 | a scrape, until the last byte of its response is sent; three quarters for one peer | a response that is not read makes room, else 503 |
//! | [`WORK_AT_A_TIME`] | 4 | different work that is collected, built or encoded; one of a peer, more once the others take longer than [`SLOW_WORK`] | it waits its turn |
//! | [`TURN_TIME`] | 10 s, or the scraper's timeout | waiting for that turn | 503 |
//! | `probe.max_connections` | 1024 | the connections of a target of `/probe`, while it is open | a target that was not probed for a minute is closed, else 503 |
//! | `web.max_response_bytes` | 256 MiB | the bodies that are being sent; equal ones count once | a response that is not read makes room, else 503 after [`ROOM_TIME`] |
//! | [`MAX_DOMAINS`], [`MAX_DOMAIN_BYTES`] | 32, 2 KiB | `domain[]` of a query | 400 |
//!
//! A peer is an address, or the network of an IPv6 address; all clients of socket files are one.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::RateLimit;

/// Connections at a time, over all listeners. A silent one costs some ten kilobytes.
pub(super) const MAX_CONNECTIONS: u64 = 2560;
/// Fewer connections than this are no service.
pub(super) const MIN_CONNECTIONS: u64 = 16;
/// Connections that the kernel holds until they are accepted.
pub(super) const BACKLOG: i32 = 1024;
/// Minimum time before eviction to send a request.
pub(super) const EVICTABLE_WHEN_SILENT: Duration = Duration::from_millis(100);
/// Minimum time before eviction to take the next bytes of a response.
pub(super) const EVICTABLE_WHEN_STALLED: Duration = Duration::from_millis(300);
/// How often a newcomer looks again for a place, or a body for room, that time alone makes: each look goes through all that
/// there are, so it does not follow every change of one of them.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// Of one request.
pub(super) const MAX_HEADERS: usize = 100;
/// The head of a request has to fit in here, which is also what a connection may take of memory.
pub(super) const MAX_HEAD_BYTES: usize = 16 << 10;
/// How long a client may take to send the head of a request, from the first byte; for the first request from the connection
/// on, and the TLS handshake comes out of the same time.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be silent between two requests: longer than any usual scrape interval.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// How fast the requests of one connection are taken on, more than any scraper needs. Of those that come faster, many at once or
/// without a look at the answers, each waits.
pub(super) const REQUEST_PACE: RateLimit = per(Duration::from_millis(20), 10);
/// How long the client may take over an answer, however steadily: with the largest one this is some 50 Mbit/s.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(60);
/// How long a client may take no byte of its answer before the connection is given up.
pub(super) const WRITE_STALL: Duration = Duration::from_secs(10);
/// How long, and for how many bytes, a client may go on sending after the server has closed its side.
pub(super) const LINGER: Duration = Duration::from_secs(1);
pub(super) const LINGER_BYTES: usize = 4 << 20;

/// Passwords checked at a time, each of which keeps a CPU busy.
pub(super) const PASSWORD_CHECKS: usize = 2;
/// Checks that go on or wait: more would wait for seconds.
pub(super) const WAITING_CHECKS: usize = 16;
/// How fast the passwords of one peer are checked, of which the right ones are checked once.
pub(super) const PASSWORD_PACE: RateLimit = per(Duration::from_secs(1), 20);

/// Different work that goes on at a time.
pub(super) const WORK_AT_A_TIME: usize = 4;
/// Work that takes longer than this may wait for a hypervisor, and more of the same peer may begin beside it.
pub(super) const SLOW_WORK: Duration = Duration::from_secs(2);
/// How long a request waits for its turn if the client does not say how long it will.
pub(super) const TURN_TIME: Duration = Duration::from_secs(10);
/// How long a body that is made waits for room.
pub(super) const ROOM_TIME: Duration = Duration::from_secs(2);
/// An answer has this time before it may have to make room.
pub(super) const EVICTABLE_BODY: Duration = Duration::from_millis(300);

/// More expressions than a scrape configuration needs.
pub(super) const MAX_DOMAINS: usize = 32;
/// All expressions together, uncompiled: parsing them takes some ten milliseconds at the most.
pub(super) const MAX_DOMAIN_BYTES: usize = 2 << 10;

/// One each interval, and so many at once.
const fn per(interval: Duration, burst: u32) -> RateLimit {
    let burst = match NonZeroU32::new(burst) {
        Some(burst) => burst,
        None => NonZeroU32::MIN,
    };
    RateLimit { interval, burst }
}
