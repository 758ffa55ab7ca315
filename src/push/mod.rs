//! Pushes the same families as `/metrics` over OTLP, at an interval.
//!
//! A push asks its [`Source`] for a collection (shared with whoever scrapes at that moment), `series` adds what only a sender
//! knows (which series are new to the receiver, which ones have ended, what a delta is), the encoder makes requests one at a time, and
//! `transport` carries each over HTTP or gRPC. A push that does not arrive in its time is dropped and counted: the next has
//! newer values, and nothing piles up. The journal remembers how it went; the rest of the program is known here only as a
//! [`Source`].

mod deliver;
mod delta;
mod grpc;
mod http;
mod journal;
mod reply;
mod resource;
mod series;
mod settings;
mod status;
mod tls;
mod transport;

use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

pub use journal::{Journal, LastPush, PushStats};
pub use series::Series;
pub use settings::{PushError, Settings, dialect};

use crate::metrics::{Families, Taken};
use deliver::Delivery;

/// How long the last push may take, which is on its way while the program ends.
const LAST_PUSH: Duration = Duration::from_secs(5);

/// What is to be pushed.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The families.
    pub families: Arc<Families>,
    /// When they were collected.
    pub taken: Taken,
}

/// Where the metrics come from.
pub trait Source: Send + Sync + 'static {
    /// Collects. That libvirt does not answer is no error, but a batch that says so; the error is one sentence why there is
    /// nothing at all.
    fn batch(&self) -> impl Future<Output = Result<Batch, String>> + Send;
}

enum Order {
    Settings(Box<Settings>),
    Stop { push: bool },
}

/// A task that pushes until it is stopped.
#[derive(Debug)]
pub struct Pusher {
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

impl Pusher {
    /// Begins to push. To be called within a tokio runtime.
    #[must_use]
    pub fn start<S: Source>(settings: Settings, source: Arc<S>, journal: Arc<Journal>) -> Self {
        let (orders, incoming) = mpsc::unbounded_channel();
        settings.announce();
        let work = Work { series: Series::new(&settings.dialect), settings, source, journal, quiet_until: None };
        Self { orders, task: tokio::spawn(work.run(incoming)) }
    }

    /// Goes on with other settings, after the push that is under way.
    pub fn replace(&self, settings: Settings) {
        settings.announce();
        // A task that has ended has nothing to go on with.
        let _ended = self.orders.send(Order::Settings(Box::new(settings)));
    }

    /// Ends it, after one more push if that is wanted; this takes five seconds at most.
    pub async fn stop(self, push: bool) {
        let _ended = self.orders.send(Order::Stop { push });
        let _in_time = timeout(LAST_PUSH, self.task).await;
    }
}

struct Work<S> {
    settings: Settings,
    series: Series,
    source: Arc<S>,
    journal: Arc<Journal>,
    /// The receiver has asked not to be bothered until then.
    quiet_until: Option<Instant>,
}

impl<S: Source> Work<S> {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        self.journal.begin();
        let mut ticks = ticks(self.settings.interval);
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                _ = ticks.tick() => match self.push_until(&mut orders).await {
                    Some(order) => order,
                    None => continue,
                },
            };
            match order {
                Some(Order::Settings(settings)) => {
                    if settings.dialect.names_other_series_than(&self.settings.dialect) {
                        self.series = Series::new(&settings.dialect);
                    }
                    if settings.interval != self.settings.interval {
                        ticks = self::ticks(settings.interval);
                    }
                    self.settings = *settings;
                    self.quiet_until = None;
                }
                Some(Order::Stop { push }) => {
                    if push {
                        self.push(LAST_PUSH.min(self.settings.export_timeout)).await;
                    }
                    break;
                }
                None => break,
            }
        }
        self.journal.end();
    }

    /// One push, and what was ordered meanwhile. New settings wait for its end, so that reloading often loses no push; an end
    /// does not wait, and the push is given up.
    async fn push_until(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Option<Option<Order>> {
        let mut settings = None;
        let mut push = pin!(self.push(self.settings.export_timeout));
        loop {
            tokio::select! {
                () = &mut push => return settings.map(Some),
                order = orders.recv() => match order {
                    Some(order @ Order::Settings(_)) => settings = Some(order),
                    end => return Some(end),
                },
            }
        }
    }

    /// One push, which ends in `limit`.
    async fn push(&mut self, limit: Duration) {
        let began = Instant::now();
        if self.quiet_until.is_some_and(|until| began < until) {
            return self.journal.note_unsent();
        }
        let mut batch = match self.source.batch().await {
            Ok(batch) => batch,
            Err(reason) => {
                tracing::error!(reason, "there is nothing to push");
                return self.journal.note_unsent();
            }
        };
        let delivery = Delivery { settings: &self.settings, deadline: began + limit };
        let outcome = delivery.deliver(&mut self.series, &mut batch).await;
        self.quiet_until = outcome.quiet_until;
        self.journal.note(&self.settings.url, batch.taken.at, began.elapsed(), outcome);
    }
}

/// The first comes some time within the interval, so that a thousand hosts that start at once do not push at once.
fn ticks(interval: Duration) -> Interval {
    let random = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(0);
    let phase = interval.mul_f64(f64::from(random) / f64::from(u32::MAX));
    let mut ticks = interval_at(Instant::now() + phase, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

#[cfg(test)]
mod tests;
