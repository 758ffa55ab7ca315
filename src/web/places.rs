//! The places of those who are being answered, from the request until the last byte of the answer is sent or given up.
//!
//! There is a number of places and a number of bytes for the bodies in them, and no peer can have all of either. When they
//! run out, an answer that its client does not read makes room first, then the oldest of the peer that has more than the newcomer.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::body::{Body, Content};
use super::connection::Connection;
use super::limits::{EVICTABLE_BODY, LOOK, ROOM_TIME};
use super::peer::Peer;
use crate::encode::Position;

/// The places that are taken.
#[derive(Debug, Default)]
pub(super) struct Places {
    state: Mutex<State>,
    left: Notify,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    taken: Vec<Taken>,
}

#[derive(Debug)]
struct Taken {
    number: u64,
    peer: Peer,
    connection: Arc<Connection>,
    body: Option<Held>,
    /// Whether a body is there that has found no room.
    waits: bool,
}

/// What a body on its way has of memory. Several may be the same, which then count once.
#[derive(Debug, Clone, Copy)]
struct Held {
    address: usize,
    bytes: usize,
    since: Instant,
}

/// One place; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
}

/// A body has its place as long as any part of it is kept.
pub(super) struct Placed {
    since: Instant,
    gone: Option<Box<dyn FnOnce(Duration) + Send + Sync>>,
    _place: Place,
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placed").field("since", &self.since).finish_non_exhaustive()
    }
}

impl Placed {
    /// A part of the body.
    pub(super) fn keep(self: &Arc<Self>, part: Bytes) -> Bytes {
        Bytes::from_owner(Part { bytes: part, _placed: Arc::clone(self) })
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if let Some(gone) = self.gone.take() {
            gone(self.since.elapsed());
        }
    }
}

struct Part {
    bytes: Bytes,
    _placed: Arc<Placed>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Places {
    /// A place for one more, if there are fewer than `limit` (0 is no limit) or another can go. The last quarter of the places
    /// is for those who have none.
    pub(super) fn enter(self: &Arc<Self>, limit: usize, peer: Peer, connection: &Arc<Connection>) -> Option<Place> {
        let mut state = self.state.lock();
        let own = state.taken.iter().filter(|taken| taken.peer == peer).count();
        let free = if own == 0 { limit } else { limit - limit / 4 };
        if limit != 0 && state.taken.len() >= free {
            let counts = state.by_peer(|_| 1);
            state.evict(peer, (own, 1), &counts)?;
        }
        state.last += 1;
        let number = state.last;
        state.taken.push(Taken { number, peer, connection: Arc::clone(connection), body: None, waits: false });
        Some(Place { places: Arc::clone(self), number })
    }
}

impl State {
    /// Changes the place of this number, unless it had to go.
    fn own(&mut self, number: u64, change: impl FnMut(&mut Taken)) {
        self.taken.iter_mut().filter(|taken| taken.number == number).for_each(change);
    }

    /// What each peer has, as `size` counts it.
    fn by_peer(&self, size: impl Fn(&Taken) -> usize) -> HashMap<Peer, usize> {
        let mut counts = HashMap::new();
        self.taken.iter().for_each(|taken| *counts.entry(taken.peer).or_default() += size(taken));
        counts
    }

    /// The bytes of all bodies, and of one more.
    fn bytes_with(&self, more: &Held) -> usize {
        let mut seen = HashSet::from([more.address]);
        let others = self.taken.iter().filter_map(|taken| taken.body).filter(|body| seen.insert(body.address));
        more.bytes + others.map(|body| body.bytes).sum::<usize>()
    }

    /// Ends an answer to make room for `peer`, who has `own` and wants `more`. `have` says what each peer has.
    fn evict(&mut self, peer: Peer, (own, more): (usize, usize), have: &HashMap<Peer, usize>) -> Option<()> {
        let now = Instant::now();
        let candidates = self.taken.iter().enumerate().filter_map(|(position, taken)| {
            let since = taken.body?.since;
            if now.saturating_duration_since(since) < EVICTABLE_BODY {
                return None;
            }
            let has = have.get(&taken.peer).copied().unwrap_or_default();
            let stalled = taken.connection.is_stalled(now) && (taken.peer == peer || has >= own);
            (stalled || has > own.saturating_add(more)).then_some((!stalled, since, position))
        });
        let (_, _, position) = candidates.min()?;
        self.taken.remove(position).connection.evict();
        Some(())
    }
}

impl Place {
    /// The body of `content`, which keeps the place until the last of its bytes is dropped, when `gone` is told how long that
    /// took; `None` if the bodies on their way would have more than `limit` bytes of memory (0 is no limit) for some time. One
    /// alone may have more.
    pub(super) async fn hold(
        self,
        content: Content,
        limit: usize,
        gone: impl FnOnce(Duration) + Send + Sync + 'static,
    ) -> Option<Body> {
        let (places, late) = (Arc::clone(&self.places), Instant::now() + ROOM_TIME);
        loop {
            let left = places.left.notified();
            if self.reserve(&content, limit) {
                return Some(self.keep(content, gone));
            }
            if Instant::now() >= late {
                return None;
            }
            // Time alone can make room, too: an answer stalls.
            let _ = timeout(LOOK, left).await;
        }
    }

    fn keep(self, content: Content, gone: impl FnOnce(Duration) + Send + Sync + 'static) -> Body {
        let placed = Arc::new(Placed { since: Instant::now(), gone: Some(Box::new(gone)), _place: self });
        match content {
            Content::Whole(bytes) => Body::Whole(placed.keep(bytes)),
            Content::Pieces(exposition) => Body::Pieces { exposition, at: Position::default(), placed },
        }
    }

    /// Whether there is room for `content`, which it has from then on.
    fn reserve(&self, content: &Content, limit: usize) -> bool {
        let (address, bytes) = content.memory();
        let held = Held { address, bytes, since: Instant::now() };
        let mut state = self.places.state.lock();
        let Some(peer) = state.taken.iter().find(|taken| taken.number == self.number).map(|taken| taken.peer) else {
            return false;
        };
        while limit != 0 && state.bytes_with(&held) > limit.max(held.bytes) {
            let bytes = state.by_peer(|taken| taken.body.map_or(0, |body| body.bytes));
            let of = |peer: &Peer| bytes.get(peer).copied().unwrap_or_default();
            let own = of(&peer);
            // Room that can be made is for the peer that has least of it.
            let yields = state.taken.iter().any(|other| other.waits && of(&other.peer) < own);
            if yields || state.evict(peer, (own, held.bytes), &bytes).is_none() {
                state.own(self.number, |taken| taken.waits = true);
                return false;
            }
        }
        state.own(self.number, |taken| (taken.body, taken.waits) = (Some(held), false));
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.state.lock().taken.retain(|taken| taken.number != self.number);
        self.places.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::time::{advance, sleep, timeout};

    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::from(text.parse::<IpAddr>().expect("an address"))
    }

    fn connection() -> Arc<Connection> {
        let connection = Arc::new(Connection::new());
        connection.begin_request();
        connection.end_request(true);
        connection
    }

    /// A body in its place, if there is room for it now.
    fn keep(place: Place, content: Content, limit: usize) -> Option<Body> {
        place.reserve(&content, limit).then(|| place.keep(content, |_| {}))
    }

    fn body(bytes: usize) -> Content {
        Content::Whole(vec![b'x'; bytes].into())
    }

    #[tokio::test(start_paused = true)]
    async fn no_peer_can_take_all_places() {
        let places = Arc::new(Places::default());
        let take = |text: &str| places.enter(8, peer(text), &connection());
        let taken: Vec<_> = (0..8).filter_map(|number| take(&format!("2001:db8::{number}"))).collect();
        assert_eq!(taken.len(), 6);
        let others = [take("2001:db8:0:1::1"), take("192.0.2.1"), take("192.0.2.2")];
        assert_eq!(others.map(|place| place.is_some()), [true, true, false]);
        assert!(places.enter(0, peer("192.0.2.2"), &connection()).is_some(), "no limit");
        drop(taken);
        assert!(places.state.lock().taken.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_place_belongs_to_the_body_until_its_last_byte_is_gone() {
        let places = Arc::new(Places::default());
        let enter = || places.enter(1, peer("192.0.2.1"), &connection());
        let Some(Body::Whole(mut held)) = keep(enter().expect("a place"), body(100), 0) else { panic!("no room") };
        let last = held.split_off(99);
        drop(held);
        assert!(enter().is_none());
        drop(last);
        assert!(enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_have_a_budget_and_shared_ones_count_once() {
        let places = Arc::new(Places::default());
        let enter = |from: &str| places.enter(0, peer(from), &connection()).expect("a place");
        let hold = |from: &str, body: &Content| keep(enter(from), body.clone(), 1000);
        let shared = body(600);
        let held: Vec<_> = (0..20).map(|_| hold("192.0.2.1", &shared).expect("the same bytes")).collect();
        assert!(hold("192.0.2.1", &body(600)).is_none() && hold("192.0.2.1", &body(5000)).is_none());
        let small = hold("192.0.2.1", &body(400)).expect("room");
        assert!(hold("192.0.2.2", &body(1)).is_none());
        drop((held, small));
        let alone = hold("192.0.2.1", &body(5000)).expect("alone it may be larger");
        assert!(hold("192.0.2.1", &body(1)).is_none());
        drop(alone);
        assert!(places.state.lock().taken.is_empty(), "a refusal gives its place back");
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_handed_on_when_it_becomes_free() {
        let places = Arc::new(Places::default());
        let enter = || places.enter(0, peer("192.0.2.1"), &connection()).expect("a place");
        let held = enter().hold(body(1000), 1000, |_| {}).await.expect("room");
        let began = Instant::now();
        let waiting = tokio::spawn(enter().hold(body(900), 1000, |_| {}));
        sleep(LOOK / 4).await;
        assert!(!waiting.is_finished());
        drop(held);
        let next = waiting.await.expect("no panic").expect("room");
        assert_eq!(began.elapsed(), LOOK / 4, "not at the next look");
        drop(next);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_response_makes_room() {
        let places = Arc::new(Places::default());
        let (slow, quick) = (connection(), connection());
        let hold = |connection: &Arc<Connection>, bytes: usize| {
            keep(places.enter(3, peer("192.0.2.1"), connection)?, body(bytes), 1000)
        };
        let held = [hold(&quick, 400).expect("room"), hold(&slow, 400).expect("room")];
        let enter = |from: &str| places.enter(3, peer(from), &connection());
        // Both are new, but after a while the one that its client does not read can go.
        let last = enter("192.0.2.2").expect("the last place");
        assert!(enter("192.0.2.3").is_none() && keep(last, body(300), 1000).is_none());
        advance(EVICTABLE_BODY * 2).await;
        quick.written();
        let newcomer = keep(enter("192.0.2.2").expect("still a place"), body(300), 1000).expect("room is made");
        timeout(Duration::ZERO, slow.evicted()).await.expect("this one had to go");
        assert!(timeout(Duration::ZERO, quick.evicted()).await.is_err());
        assert_eq!(places.state.lock().taken.len(), 2);
        drop((held, newcomer));
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_peer_makes_room_even_if_it_reads() {
        let places = Arc::new(Places::default());
        let greedy: Vec<_> = (0..3).map(|_| connection()).collect();
        let enter = |from: &str, connection: &Arc<Connection>| places.enter(4, peer(from), connection);
        let hold = |one: &Arc<Connection>| enter("192.0.2.1", one).and_then(|place| keep(place, body(10), 0));
        let held: Vec<_> = greedy.iter().map(|one| hold(one).expect("room")).collect();
        let _other = enter("192.0.2.2", &connection()).expect("the last place");
        advance(EVICTABLE_BODY * 2).await;
        greedy.iter().for_each(|one| one.written());
        assert!(hold(&connection()).is_none(), "not for himself");
        let newcomer = enter("192.0.2.3", &connection());
        assert!(newcomer.is_some());
        timeout(Duration::ZERO, greedy[0].evicted()).await.expect("the oldest had to go");
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn room_that_is_made_is_for_the_peer_that_has_none() {
        let places = Arc::new(Places::default());
        let enter = |from: &str| places.enter(0, peer(from), &connection()).expect("a place");
        let held = keep(enter("192.0.2.1"), body(900), 1000).expect("room");
        let (greedy, modest) = (enter("192.0.2.1"), enter("192.0.2.2"));
        let (more, little) = (body(800), body(700));
        assert!(!modest.reserve(&little, 1000) && !greedy.reserve(&more, 1000));
        advance(EVICTABLE_BODY * 2).await;
        assert!(!greedy.reserve(&more, 1000), "another waits that has none");
        assert!(modest.reserve(&little, 1000));
        drop((held, modest));
        assert!(greedy.reserve(&more, 1000), "nothing is in the way");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_room_and_reports_its_sending_time() {
        let places = Arc::new(Places::default());
        let enter = || places.enter(0, peer("192.0.2.1"), &connection()).expect("a place");
        let first = keep(enter(), body(900), 1000).expect("room");
        let (told, took) = tokio::sync::oneshot::channel();
        let second = enter().hold(body(200), 1000, |time| told.send(time).expect("awaited"));
        let (second, ()) = tokio::join!(second, async {
            sleep(Duration::from_millis(100)).await;
            drop(first);
        });
        advance(Duration::from_secs(3)).await;
        drop(second.expect("room, after a while"));
        assert_eq!(took.await, Ok(Duration::from_secs(3)));
    }
}
