//! Events on their way from libvirt's event loop to the engine: bounded, and never waited for.

use std::collections::{BTreeSet, VecDeque};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::libvirt::{Event, EventKind, ObjectKind};

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

    /// Notes that an object of the host has changed; `true` as [`Inbox::push`].
    pub fn note(&self, kind: ObjectKind, uuid: Uuid) -> bool {
        let mut queue = self.queue.lock();
        let was_empty = queue.is_empty();
        if queue.objects.len() < MOST_OBJECTS {
            queue.objects.insert((kind, uuid));
        }
        was_empty
    }

    /// Takes out everything.
    pub fn take(&self) -> Arrived {
        let mut queue = self.queue.lock();
        let Queue { events, dropped, objects, .. } = std::mem::take(&mut *queue);
        Arrived { events, dropped, objects }
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.objects.is_empty()
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
        let woken = (0..9).filter(|number| inbox.note(ObjectKind::Pool, Uuid::from_u128(number % 3))).count();
        let objects = inbox.take().objects;
        assert_eq!((woken, objects.len()), (1, 3));
        (0..5000).for_each(|number| _ = inbox.note(ObjectKind::Network, Uuid::from_u128(number)));
        assert_eq!(inbox.take().objects.len(), MOST_OBJECTS);
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
