//! Which request is worked on next: collecting, building and encoding are the expensive part, and any client can ask for them.
//!
//! A client that asks for many things at once gets one after the other, and peers go round in turn. Who asks for what is being
//! collected already joins in, which costs nothing.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::select;
use tokio::sync::{Notify, OnceCell, oneshot};
use tokio::task::JoinError;
use tokio::time::{Instant, sleep_until};

use super::Form;
use super::limits::{SLOW_WORK, WORK_AT_A_TIME};
use super::peer::Peer;
use super::query::{Query, QueryError};
use crate::collect::Selection;
use crate::encode::Coding;

/// What a client waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Work {
    Scrape { daemon: String, query: Query, form: Form },
    Targets { coding: Coding },
}

impl Work {
    /// What no client can ask for in many different ways goes first.
    fn goes_first(&self) -> bool {
        match self {
            Self::Scrape { query, .. } => query.is_everything(),
            Self::Targets { .. } => true,
        }
    }
}

/// The work that goes on, and that which waits.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    /// Told when work has begun.
    begun: Notify,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    going_on: Vec<GoingOn>,
    waiting: Vec<Waiting>,
    /// When each of the peers that wait or are at work had its last turn.
    turns: HashMap<Peer, u64>,
}

#[derive(Debug)]
struct GoingOn {
    number: u64,
    peer: Peer,
    work: Work,
    since: Instant,
    /// Whether what is collected now is as new as one who comes now may expect.
    open: bool,
    held: Weak<Held>,
}

#[derive(Debug)]
struct Waiting {
    peer: Peer,
    work: Work,
    grant: oneshot::Sender<Turn>,
}

/// A turn at the work, shared by all who asked for the same in time. It ends when the last of them drops it.
#[derive(Debug, Clone)]
pub(super) struct Turn(Arc<Held>);

#[derive(Debug)]
struct Held {
    turns: Arc<Turns>,
    number: u64,
    selection: OnceCell<Result<Selection, QueryError>>,
}

impl Turns {
    /// Waits for a turn of `peer` at `work`.
    pub(super) async fn take(self: &Arc<Self>, peer: Peer, work: Work) -> Turn {
        let mut granted = {
            let mut state = self.state.lock();
            if let Some(turn) = state.join(&work) {
                return turn;
            }
            let (grant, granted) = oneshot::channel();
            state.waiting.push(Waiting { peer, work, grant });
            granted
        };
        loop {
            let begun = self.begun.notified();
            self.advance();
            // Work that ends gives its turn on; that all of a peer's has become slow is noticed here.
            let slow = self.state.lock().slow_from(peer, Instant::now());
            select! {
                turn = &mut granted => match turn {
                    Ok(turn) => return turn,
                    // A grant with a waiting receiver is never dropped.
                    Err(_) => return std::future::pending().await,
                },
                () = begun => {}
                () = sleep_until(slow.unwrap_or_else(Instant::now)), if slow.is_some() => {}
            }
        }
    }

    /// Begins all work that may begin.
    fn advance(self: &Arc<Self>) {
        let mut lost = Vec::new();
        {
            let mut state = self.state.lock();
            state.waiting.retain(|waiting| !waiting.grant.is_closed());
            while let Some(next) = state.next(Instant::now()) {
                let Waiting { peer, work, grant } = state.waiting.remove(next);
                let turn = state.begin(self, peer, &work);
                let (same, others) =
                    std::mem::take(&mut state.waiting).into_iter().partition(|waiting: &Waiting| waiting.work == work);
                state.waiting = others;
                let grants = same.into_iter().map(|waiting| waiting.grant).chain([grant]);
                lost.extend(grants.filter_map(|grant| grant.send(turn.clone()).err()));
                lost.push(turn);
            }
            let State { going_on, waiting, turns, .. } = &mut *state;
            turns.retain(|peer, _| {
                going_on.iter().any(|one| one.peer == *peer) || waiting.iter().any(|one| one.peer == *peer)
            });
        }
        if !lost.is_empty() {
            self.begun.notify_waiters();
        }
        // A turn without a taker ends here, which needs the lock.
        drop(lost);
    }
}

impl State {
    /// A turn at the same work, if it is still open.
    fn join(&self, work: &Work) -> Option<Turn> {
        let same = self.going_on.iter().find(|one| one.open && one.work == *work)?;
        same.held.upgrade().map(Turn)
    }

    /// Who goes next of those who may.
    fn next(&self, now: Instant) -> Option<usize> {
        let candidates = self.waiting.iter().enumerate().filter(|(_, waiting)| self.may_begin(waiting.peer, now));
        let order = |waiting: &Waiting| {
            (!waiting.work.goes_first(), self.turns.get(&waiting.peer).copied().unwrap_or_default())
        };
        // Of equals the first has waited longest.
        candidates.min_by_key(|(_, waiting)| order(waiting)).map(|(position, _)| position)
    }

    /// The last place is for those who have none.
    fn may_begin(&self, peer: Peer, now: Instant) -> bool {
        let idle = self.going_on.iter().all(|one| one.peer != peer);
        let free = WORK_AT_A_TIME.saturating_sub(self.going_on.len());
        (idle && free > 0) || (self.slow_from(peer, now).is_none() && free > 1)
    }

    /// When all work of a peer will be slow, if it is not yet.
    fn slow_from(&self, peer: Peer, now: Instant) -> Option<Instant> {
        let own = self.going_on.iter().filter(|one| one.peer == peer);
        own.map(|one| one.since + SLOW_WORK).filter(|slow| *slow > now).max()
    }

    fn begin(&mut self, turns: &Arc<Turns>, peer: Peer, work: &Work) -> Turn {
        self.last += 1;
        let number = self.last;
        self.turns.insert(peer, number);
        let held = Arc::new(Held { turns: Arc::clone(turns), number, selection: OnceCell::new() });
        let (work, since, weak) = (work.clone(), Instant::now(), Arc::downgrade(&held));
        self.going_on.push(GoingOn { number, peer, work, since, open: true, held: weak });
        Turn(held)
    }
}

impl Turn {
    /// What comes of `work`, which keeps the turn until it has ended: a client that hangs up before that gets no other turn for it.
    pub(super) async fn keep<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let turn = self.clone();
        let done = tokio::spawn(async move {
            let done = work.await;
            drop(turn);
            done
        });
        match done.await.map_err(JoinError::try_into_panic) {
            Ok(done) => done,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime ends, and everything that waits with it.
            Err(Err(_)) => std::future::pending().await,
        }
    }

    /// What `query` selects, compiled once for all who share the turn, on a thread that may block.
    pub(super) async fn selection(&self, query: &Query) -> Result<Selection, QueryError> {
        let compile = || async {
            if query.is_cheap() {
                return query.compile();
            }
            let query = query.clone();
            let compiled = tokio::task::spawn_blocking(move || query.compile()).await;
            compiled.unwrap_or(Err(QueryError::NotCompiled))
        };
        self.0.selection.get_or_init(compile).await.clone()
    }

    /// It has been collected: later requests may expect newer data.
    pub(super) fn collected(&self) {
        let mut state = self.0.turns.state.lock();
        state.going_on.iter_mut().filter(|one| one.number == self.0.number).for_each(|one| one.open = false);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.turns.state.lock().going_on.retain(|one| one.number != self.number);
        self.turns.advance();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use tokio::task::JoinHandle;
    use tokio::time::{advance, sleep, timeout};

    use super::super::query::parse_query;
    use super::*;
    use crate::config::{Config, MetricNaming};
    use crate::encode::Format;

    fn peer(text: &str) -> Peer {
        Peer::from(text.parse::<IpAddr>().expect("an address"))
    }

    fn work(query: &str) -> Work {
        let query = parse_query(query, &Config::default().collection.groups).expect("a query");
        let form = Form { format: Format::Text, coding: Coding::Identity, naming: MetricNaming::Native };
        Work::Scrape { daemon: String::new(), query, form }
    }

    async fn ask(turns: &Arc<Turns>, from: &str, query: &str) -> JoinHandle<Turn> {
        let (turns, peer, work) = (Arc::clone(turns), peer(from), work(query));
        let asking = tokio::spawn(async move { turns.take(peer, work).await });
        tokio::task::yield_now().await;
        asking
    }

    async fn ended(task: JoinHandle<Turn>) -> Turn {
        timeout(Duration::from_millis(1), task).await.expect("a turn").expect("no panic")
    }

    #[tokio::test(start_paused = true)]
    async fn peers_go_round_and_everything_goes_first() {
        let turns = Arc::new(Turns::default());
        let first = ended(ask(&turns, "192.0.2.1", "domain[]=a").await).await;
        let mut greedy = Vec::new();
        for number in 0..20 {
            greedy.push(ask(&turns, "192.0.2.1", &format!("domain[]={number}")).await);
        }
        let everything = ask(&turns, "192.0.2.1", "").await;
        // Another peer does not wait for any of them.
        let other = ended(ask(&turns, "192.0.2.2", "domain[]=b").await).await;
        let waiting = ask(&turns, "192.0.2.2", "domain[]=c").await;
        assert!(!greedy.iter().any(JoinHandle::is_finished) && !everything.is_finished() && !waiting.is_finished());
        drop(other);
        drop(ended(waiting).await);
        drop(first);
        let everything = ended(everything).await;
        assert!(!greedy.iter().any(JoinHandle::is_finished));
        drop(everything);
        for asked in greedy {
            drop(ended(asked).await);
        }
        let state = turns.state.lock();
        assert!(state.turns.is_empty() && state.going_on.is_empty() && state.waiting.is_empty(), "{state:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn equal_requests_share_a_turn_until_it_is_collected() {
        let turns = Arc::new(Turns::default());
        let first = ended(ask(&turns, "192.0.2.1", "").await).await;
        let second = ended(ask(&turns, "192.0.2.2", "").await).await;
        assert!(Arc::ptr_eq(&first.0, &second.0));
        first.collected();
        let third = ended(ask(&turns, "192.0.2.2", "").await).await;
        assert!(!Arc::ptr_eq(&first.0, &third.0), "the second has only joined in");
        // Those who wait for the same get it together.
        let waiting = [ask(&turns, "192.0.2.1", "domain[]=a").await, ask(&turns, "192.0.2.2", "domain[]=a").await];
        drop((first, second, third));
        let [one, two] = waiting;
        assert!(Arc::ptr_eq(&ended(one).await.0, &ended(two).await.0));
        // A client that hangs up while waiting, or before its turn, leaves nothing behind.
        let held = ended(ask(&turns, "192.0.2.1", "domain[]=b").await).await;
        ask(&turns, "192.0.2.1", "domain[]=c").await.abort();
        tokio::task::yield_now().await;
        drop(held);
        assert!(turns.state.lock().going_on.is_empty() && turns.state.lock().waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn work_keeps_its_turn_where_its_client_is_gone() {
        let turns = Arc::new(Turns::default());
        let turn = ended(ask(&turns, "192.0.2.1", "domain[]=a").await).await;
        let (end, ends) = oneshot::channel::<()>();
        let client = tokio::spawn(async move { turn.keep(ends).await });
        tokio::task::yield_now().await;
        client.abort();
        assert!(client.await.is_err_and(|error| error.is_cancelled()));
        let next = ask(&turns, "192.0.2.1", "domain[]=b").await;
        sleep(SLOW_WORK / 2).await;
        assert!(!next.is_finished());
        end.send(()).expect("the work goes on");
        ended(next).await;
    }

    #[tokio::test(start_paused = true)]
    async fn slow_work_does_not_hold_up_its_peer_for_ever_nor_take_every_place() {
        let turns = Arc::new(Turns::default());
        let mut slow = vec![ended(ask(&turns, "192.0.2.1", "domain[]=0").await).await];
        for number in 1..WORK_AT_A_TIME {
            let next = ask(&turns, "192.0.2.1", &format!("domain[]={number}")).await;
            advance(SLOW_WORK / 2).await;
            assert!(!next.is_finished());
            sleep(SLOW_WORK / 2 + Duration::from_millis(1)).await;
            if number < WORK_AT_A_TIME - 1 {
                slow.push(ended(next).await);
            } else {
                assert!(!next.is_finished(), "the last place is for others");
                next.abort();
            }
        }
        ended(ask(&turns, "192.0.2.2", "domain[]=0x").await).await;
    }
}
