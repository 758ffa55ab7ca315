//! The fuzz target of hostile daemons, in a separate process: what it opens may hang, and opens run one at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

#[path = "../fuzz/targets/frames.rs"]
mod frames;
#[path = "support/fuzzing.rs"]
mod fuzzing;

#[test]
fn a_hostile_daemon_does_not_take_the_exporter_down() {
    fuzzing::fuzz("frames", frames::frames, &[], &[]);
}
