//! The loop that pushes at an interval until it is stopped, whatever the protocol.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use super::delivery::Delivery;
use super::protocol::Protocol;
use super::{Batch, Journal, Settings, Source};
use crate::errors::one_line;

/// How long the last push may take, which is on its way while the program ends.
const LAST_PUSH: Duration = Duration::from_secs(5);

enum Order<P> {
    Settings(Box<Settings<P>>),
    Stop(Last),
}

/// What is pushed before the end.
#[derive(Debug, Clone, Copy)]
enum Last {
    Nothing,
    /// That all series have ended.
    Ends,
    /// One more collection.
    Collection,
}

/// A task that pushes until it is stopped.
#[derive(Debug)]
pub struct Pusher<P> {
    orders: mpsc::UnboundedSender<Order<P>>,
    task: JoinHandle<()>,
}

impl<P: Protocol> Pusher<P> {
    /// Begins to push. To be called within a tokio runtime.
    #[must_use]
    pub fn start<S: Source>(settings: Settings<P>, source: Arc<S>, journal: Arc<Journal>) -> Self {
        let (orders, incoming) = mpsc::unbounded_channel();
        settings.announce();
        let work = Work { series: settings.protocol.series(), settings, source, journal, quiet_until: None };
        Self { orders, task: tokio::spawn(work.run(incoming)) }
    }

    /// Goes on with other settings, after the push that is under way.
    pub fn replace(&self, settings: Settings<P>) {
        settings.announce();
        // A task that has ended has nothing to go on with.
        let _ended = self.orders.send(Order::Settings(Box::new(settings)));
    }

    /// Has it end without another push; that under way is given up.
    pub fn end(&self) {
        let _ended = self.orders.send(Order::Stop(Last::Nothing));
    }

    /// Has it end after it has told that all its series have ended: there is nothing any more that they are about.
    pub fn end_series(&self) {
        let _ended = self.orders.send(Order::Stop(Last::Ends));
    }

    /// Ends it after one more push, which takes five seconds at most.
    pub async fn stop(self) {
        let _ended = self.orders.send(Order::Stop(Last::Collection));
        let _in_time = timeout(LAST_PUSH, self.task).await;
    }
}

struct Work<S, P: Protocol> {
    settings: Settings<P>,
    series: P::Series,
    source: Arc<S>,
    journal: Arc<Journal>,
    /// The receiver has asked for no push before.
    quiet_until: Option<Instant>,
}

impl<S: Source, P: Protocol> Work<S, P> {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order<P>>) {
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
                    if settings.protocol.names_other_series_than(&self.settings.protocol) {
                        self.series = settings.protocol.series();
                    }
                    if settings.interval != self.settings.interval {
                        ticks = self::ticks(settings.interval);
                    }
                    self.settings = *settings;
                    self.quiet_until = None;
                }
                Some(Order::Stop(last)) => {
                    let limit = LAST_PUSH.min(self.settings.export_timeout);
                    match last {
                        Last::Nothing => {}
                        Last::Ends => self.send(Batch::empty(), Instant::now(), limit).await,
                        Last::Collection => self.push(limit).await,
                    }
                    break;
                }
                None => break,
            }
        }
        self.journal.end();
    }

    /// One push, and what was ordered during it. New settings wait for its end, so that reloading often loses no push; an end
    /// does not wait, and the push is given up.
    async fn push_until(&mut self, orders: &mut mpsc::UnboundedReceiver<Order<P>>) -> Option<Option<Order<P>>> {
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
        match self.source.batch().await {
            Ok(batch) => self.send(batch, began, limit).await,
            Err(error) => {
                tracing::error!(error = one_line(&error), "there is nothing to push");
                self.journal.note_unsent();
            }
        }
    }

    /// Sends what was begun then.
    async fn send(&mut self, mut batch: Batch, began: Instant, limit: Duration) {
        let delivery = Delivery { settings: &self.settings, deadline: began + limit };
        let verdict = delivery.deliver(&mut self.series, &mut batch).await;
        self.quiet_until = verdict.retry_after.map(|after| Instant::now() + after);
        self.journal.note(&self.settings.url, batch.taken.at, began.elapsed(), verdict);
    }
}

/// The first comes some time within the interval, so that a thousand hosts that start at once do not push at once.
fn ticks(interval: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + interval.mul_f64(fastrand::f64()), interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}
