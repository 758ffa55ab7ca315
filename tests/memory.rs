//! Memory of the libvirt layer: what it allocates, reads and frees, here and in libvirt, as valgrind sees it.
//!
//! The exercises are ordinary tests that make every call, take every callback and end connections in every way. What the
//! answers say is the business of other tests, and nothing here depends on how long something takes. This program then runs
//! its exercises once more under valgrind, which fails at the first wrong access and at memory to which nothing leads any more.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/exercises.rs"]
mod exercises;
#[path = "support/fake.rs"]
mod fake;
#[path = "../fuzz/targets/frames.rs"]
mod frames;
#[path = "support/scraper.rs"]
mod scraper;

use std::process::{Command, Output, Stdio};

/// Names the mistake to be made; empty for none.
const MISTAKE: &str = "MEMORY_MISTAKE";

/// Runs the tests of one module of this program under valgrind. Where valgrind has found nothing, it has said nothing.
fn valgrind(module: &str, mistake: &str) -> Output {
    assert!(std::env::var_os(MISTAKE).is_none(), "this is valgrind's run of this program already");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--error-exitcode=9", "--num-callers=30"]);
    // Memory that is still referenced at the end is none of the mistakes that are looked for: statics, and threads
    // that run for ever.
    valgrind.args(["--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]);
    valgrind.arg(concat!("--suppressions=", env!("CARGO_MANIFEST_DIR"), "/tests/support/valgrind.supp"));
    // One thread runs at a time, and each gets its turn.
    valgrind.arg("--fair-sched=try");
    valgrind.arg(std::env::current_exe().unwrap()).args([&format!("{module}::"), "--test-threads=1"]);
    // Backtraces of panics are part of no exercise, and take minutes there.
    valgrind.env("RUST_BACKTRACE", "0").env(MISTAKE, mistake);
    valgrind.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // libvirt makes a socket first and marks it as none for other programs afterwards: one that is being opened by an exercise
    // meanwhile would be valgrind's too, and stay open for as long as that runs.
    let alone = exercises::alone();
    let child = valgrind.spawn().expect("valgrind; install the Debian package valgrind");
    drop(alone);
    child.wait_with_output().unwrap()
}

#[test]
fn valgrind_finds_nothing_in_the_exercises() {
    let Output { status, stdout, stderr } = valgrind("exercises", "");
    let (said, found) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{status}\n{said}\n{found}");
    // To run no test is a success, too.
    assert!(said.contains("test exercises::"), "{said}");
}

/// Were it blind, it would find nothing either.
#[test]
fn valgrind_finds_what_is_wrong() {
    for (mistake, finding) in [("leak", "are definitely lost"), ("double free", "Invalid read of size")] {
        let Output { status, stdout, stderr } = valgrind("mistakes", mistake);
        let (said, found) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(!status.success() && found.contains(finding), "{mistake}: {status}\n{said}\n{found}");
    }
}

mod mistakes {
    use domstats_exporter::libvirt::{Access, Connection, DomainList};
    use virt::{connect::Connect, sys};

    /// Does nothing unless it is asked to.
    #[test]
    fn are_made_on_purpose() {
        match std::env::var(super::MISTAKE).unwrap_or_default().as_str() {
            "leak" => {
                let connection = Connection::open("test:///default", Access::ReadOnly, || {}).unwrap();
                // One of them may still lie on the stack by chance.
                for _ in 0..10 {
                    connection.list_domains(DomainList::All).unwrap().into_iter().for_each(std::mem::forget);
                }
            }
            "double free" => {
                let connection = Connect::open(Some("test:///default")).unwrap();
                let domain = connection.lookup_domain_by_name("test").unwrap();
                // SAFETY: the domain outlives the pointer.
                let pointer = unsafe { domain.as_ptr() };
                // SAFETY: none, on purpose: the drop of the domain frees it once more.
                unsafe { sys::virDomainFree(pointer) };
            }
            _ => {}
        }
    }
}
