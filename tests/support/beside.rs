//! Something that goes on while a test runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Does something again and again until a function has ended.
pub fn beside<T>(what: impl Fn() + Sync, run: impl FnOnce() -> T) -> T {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                what();
            }
        });
        // A failed assertion ends the other thread too.
        let _stop = Stop(&over);
        run()
    })
}
