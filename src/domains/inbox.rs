//! Events on their way from libvirt's event loop to the engine: bounded, and never waited for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use parking_lot::Mutex;
use uuid::Uuid;

use super::counts::{ObjectCounts, count_object};
use crate::libvirt::{Event, EventKind, ObjectEvent, ObjectKind};

/// Most events held; some 3 MB. A host's storm of ten thousand events is applied before the next one comes.
const CAPACITY: usize = 16_384;
/// Most bytes of the names in them, which come from outside.
const MOST_BYTES: usize = 8 << 20;

/// Most objects of the host that are held; what changes beyond that is seen when it is next read.
const MOST_OBJECTS: usize = 4096;

/// A bounded queue of events. What does not fit is counted: then only a listing can tell what happened.
#[derive(Debug, Default)]
pub struct Inbox {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    bytes: usize,
    dropped: u64,
    objects: BTreeSet<(ObjectKind, Uuid)>,
    object_events: ObjectCounts,
    /// Which connection counts for each kind of object: several may watch, and each is told of every event.
    counts_for: BTreeMap<ObjectKind, u64>,
}

/// What has arrived.
#[derive(Debug, Default, PartialEq)]
pub struct Arrived {
    /// The events in their order.
    pub events: VecDeque<Event>,
    /// How many were lost on the way.
    pub dropped: u64,
    /// The storage pools and networks that have changed, come or gone.
    pub objects: BTreeSet<(ObjectKind, Uuid)>,
    /// What has happened to them, counted.
    pub object_events: ObjectCounts,
}

impl Inbox {
    /// Puts an event in; `true` if the reader has to be woken, because the inbox was empty.
    pub fn push(&self, event: Event) -> bool {
        let mut queue = self.queue.lock();
        let was_empty = queue.is_empty();
        let bytes = queue.bytes + bytes_of(&event);
        if queue.events.len() < CAPACITY && bytes <= MOST_BYTES {
            queue.bytes = bytes;
            queue.events.push_back(event);
        } else {
            queue.dropped += 1;
        }
        was_empty
    }

    /// Notes what the connection with this number was told of an object of the host; `true` as [`Inbox::push`].
    pub fn note(&self, connection: u64, kind: ObjectKind, uuid: Uuid, event: ObjectEvent) -> bool {
        let mut queue = self.queue.lock();
        let was_empty = queue.is_empty();
        if *queue.counts_for.entry(kind).or_insert(connection) == connection {
            count_object(&mut queue.object_events, kind, event, 1);
        }
        if queue.objects.len() < MOST_OBJECTS {
            queue.objects.insert((kind, uuid));
        }
        was_empty
    }

    /// The connection with this number has ended: another one counts from here on.
    pub fn ended(&self, connection: u64) {
        self.queue.lock().counts_for.retain(|_, counts| *counts != connection);
    }

    /// Takes out everything.
    pub fn take(&self) -> Arrived {
        let mut queue = self.queue.lock();
        let counts_for = std::mem::take(&mut queue.counts_for);
        let Queue { events, dropped, objects, object_events, .. } =
            std::mem::replace(&mut *queue, Queue { counts_for, ..Queue::default() });
        Arrived { events, dropped, objects, object_events }
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.objects.is_empty() && self.object_events.is_empty()
    }
}

fn bytes_of(event: &Event) -> usize {
    let names = match &event.kind {
        EventKind::IoError { alias, reason, .. } => alias.len() + reason.len(),
        EventKind::BlockJob { device, .. } | EventKind::BlockThreshold { device } => device.len(),
        _ => 0,
    };
    event.domain.name.len() + names
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use uuid::Uuid;

    use super::*;
    use crate::libvirt::Identity;

    #[test]
    fn what_does_not_fit_is_counted_and_waking_happens_once() {
        let inbox = Inbox::default();
        let domain = Identity { name: "a".to_owned(), uuid: Uuid::nil(), id: None };
        let event = Event { domain, at: SystemTime::UNIX_EPOCH, kind: EventKind::Reboot };
        let woken = (0..CAPACITY + 5).filter(|_| inbox.push(event.clone())).count();
        assert_eq!(woken, 1);
        let arrived = inbox.take();
        assert_eq!((arrived.events.len(), arrived.dropped), (CAPACITY, 5));
        assert_eq!(inbox.take(), Arrived::default());
        assert!(inbox.push(event), "after it was emptied");
    }

    #[test]
    fn an_object_that_changes_often_is_noted_once() {
        let inbox = Inbox::default();
        let refreshed =
            |number: u128| inbox.note(1, ObjectKind::Pool, Uuid::from_u128(number % 3), ObjectEvent::Refreshed);
        let woken = (0..9).filter(|number| refreshed(*number)).count();
        let arrived = inbox.take();
        assert_eq!((woken, arrived.objects.len()), (1, 3));
        assert_eq!(arrived.object_events, [((ObjectKind::Pool, ObjectEvent::Refreshed), 9)].into());
        let stopped = |number| inbox.note(1, ObjectKind::Network, Uuid::from_u128(number), ObjectEvent::Lifecycle(3));
        (0..5000).for_each(|number| _ = stopped(number));
        let arrived = inbox.take();
        assert_eq!(arrived.objects.len(), MOST_OBJECTS);
        assert_eq!(arrived.object_events, [((ObjectKind::Network, ObjectEvent::Lifecycle(3)), 5000)].into());
    }

    #[test]
    fn an_event_that_two_connections_tell_of_is_counted_once() {
        let inbox = Inbox::default();
        let counted = || inbox.take().object_events.into_values().sum::<u64>();
        let started = |connection| inbox.note(connection, ObjectKind::Pool, Uuid::nil(), ObjectEvent::Lifecycle(2));
        [1, 2, 2, 1].into_iter().for_each(|connection| _ = started(connection));
        assert_eq!(counted(), 2);
        [2, 1].into_iter().for_each(|connection| _ = started(connection));
        assert_eq!(counted(), 1, "also after the inbox was emptied");
        inbox.ended(1);
        started(2);
        assert_eq!(counted(), 1);
    }

    #[test]
    fn names_have_a_bound_in_bytes() {
        let inbox = Inbox::default();
        let domain = Identity { name: "a".repeat(100), uuid: Uuid::nil(), id: None };
        let kind = EventKind::BlockThreshold { device: "x".repeat(1 << 20) };
        let event = Event { domain, at: SystemTime::UNIX_EPOCH, kind };
        (0..20).for_each(|_| _ = inbox.push(event.clone()));
        let arrived = inbox.take();
        assert_eq!((arrived.events.len(), arrived.dropped), (7, 13));
        inbox.push(event);
        assert_eq!(inbox.take().events.len(), 1, "after it was emptied");
    }
}
