//! Whether something waited, told on a machine that does other things too.
//!
//! There, what waits for nothing takes as long as the other things let it: seconds, while another laboratory boots its guests.
//! A test that shows that something does not wait makes the wait a long one, and takes for it what lasted half as long.

use std::time::Duration;

/// When libvirt's client gives a silent daemon up.
#[allow(dead_code, reason = "for those tests that do this")]
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(20);

/// What took this long did not wait for something that takes `wait`.
#[track_caller]
pub(crate) fn assert_no_wait(took: Duration, wait: Duration) {
    assert!(took < wait / 2, "it took {took:?}: a wait of {wait:?}, or most of it");
}

/// Of several, most did not; one or two may have met the machine at a bad moment.
#[allow(dead_code, reason = "for those tests that do this")]
#[track_caller]
pub(crate) fn assert_no_waits(mut took: Vec<Duration>, wait: Duration) {
    took.sort();
    assert!(took[took.len() / 2] < wait / 2, "they took {took:?}: a wait of {wait:?}, or most of it");
}
