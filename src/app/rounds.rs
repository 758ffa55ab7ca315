//! Work that is done once for all who ask for it in time.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// One kind of work, of which one round is done at a time. All who ask before a round begins share its outcome.
#[derive(Debug)]
pub(crate) struct Rounds<T> {
    begun: AtomicU64,
    /// The number of the last round that ended, and its outcome.
    last: Mutex<(u64, Option<T>)>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), last: Mutex::new((0, None)) }
    }
}

impl<T: Clone> Rounds<T> {
    /// The outcome of a round that begins after this call. It is `work`, or that of another caller.
    pub(crate) async fn next(&self, work: impl Future<Output = T>) -> T {
        let asked = self.begun.load(Ordering::Relaxed);
        let mut last = self.last.lock().await;
        if let (number, Some(outcome)) = &*last
            && *number > asked
        {
            return outcome.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let outcome = work.await;
        *last = (number, Some(outcome.clone()));
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_before_a_round_begins_share_it() {
        let rounds = Rounds::default();
        let begun = AtomicU64::new(0);
        let ask = async || {
            let round = async {
                let number = begun.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_secs(1)).await;
                number
            };
            rounds.next(round).await
        };
        let late = async || {
            sleep(Duration::from_millis(500)).await;
            ask().await
        };
        let hangs_up = async || {
            sleep(Duration::from_millis(1500)).await;
            tokio::time::timeout(Duration::from_millis(100), ask()).await.is_err()
        };
        let (first, second, third, gone) = tokio::join!(ask(), late(), late(), hangs_up());
        assert_eq!((first, second, third, gone), (0, 1, 1, true));
        assert_eq!(ask().await, 2);
    }
}
