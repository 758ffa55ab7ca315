//! Events, and what follows from them.

use std::time::Duration;

use uuid::Uuid;

use super::Scheduler;
use crate::collect::background::Turn;
use crate::collect::notice::Notice;
use crate::collect::resync::ResyncCause;
use crate::domains::Arrived;
use crate::libvirt::{Event, ObjectKind};
use crate::probes::{ADDRESSES, DEFINITIONS, Subject};

/// After how long an object that has changed is asked about: changes of one come together, and a client may make very many.
const SETTLED: Duration = Duration::from_millis(200);

impl Scheduler {
    /// Applies events.
    pub(super) fn apply(&mut self, arrived: Arrived) {
        let Arrived { events, dropped, objects, object_events } = arrived;
        if !events.is_empty() {
            // In a storm of events, answers come late.
            self.control.alive(self.now.at);
        }
        for event in events {
            self.resync.note(&event);
            let (consequences, uuid) = (self.domains.apply(&event), event.domain.uuid);
            self.drop_outdated(uuid);
            self.follow(&event);
            if consequences.redefined {
                self.wake(&DEFINITIONS, Subject::Domain(uuid));
            }
            if consequences.moved {
                self.moved(uuid);
            }
            if consequences.resync {
                self.resync.want(ResyncCause::Events, self.now.at);
            }
        }
        self.domains.count_objects(object_events);
        objects.into_iter().for_each(|(kind, uuid)| self.object_changed(kind, uuid));
        if dropped > 0 {
            self.log(Notice::EventsLost(dropped));
            self.events_dropped += dropped;
            self.resync.want(ResyncCause::Overflow, self.now.at);
        }
    }

    /// A domain may have other addresses, and may tell of them by now.
    pub(super) fn moved(&mut self, uuid: Uuid) {
        self.domains.companion_mut(uuid).into_iter().for_each(|state| state.located = None);
        match ADDRESSES.every(&self.config) {
            Some(_) => self.wake(&ADDRESSES, Subject::Domain(uuid)),
            None => {
                let lane = self.background.of(&ADDRESSES).into_iter();
                lane.for_each(|lane| lane.rouse(Subject::Domain(uuid), &mut self.domains));
            }
        }
    }

    /// Has the probes that follow such an event ask about its domain.
    pub(super) fn follow(&mut self, event: &Event) {
        for lane in &mut self.background.lanes {
            if (lane.probe.follows)(&event.kind) && lane.probe.every(&self.config).is_some() {
                lane.wake(Subject::Domain(event.domain.uuid), self.now.at, &mut self.domains);
            }
        }
    }

    /// Has the probe of a storage pool or a network ask about it, and list them: it may have come or gone.
    pub(super) fn object_changed(&mut self, kind: ObjectKind, uuid: Uuid) {
        let at = self.now.at + SETTLED;
        for lane in self.background.lanes.iter_mut().filter(|lane| lane.probe.watches == Some(kind)) {
            if lane.probe.every(&self.config).is_some() {
                lane.want(Subject::Host, at, &mut self.domains);
                lane.wake(Subject::Object(uuid), at, &mut self.domains);
            }
        }
    }

    /// What was read of a domain while there was something to ask would come back with the next reason to ask: it is dropped, and
    /// so is what a call under way brings.
    pub(super) fn drop_outdated(&mut self, uuid: Uuid) {
        let Some(domain) = self.domains.get(uuid) else { return };
        let probes = self.background.lanes.iter().map(|lane| lane.probe);
        let ended: Vec<&str> = probes.filter(|probe| !(probe.applies)(domain)).map(|probe| probe.name).collect();
        let Some(state) = self.domains.companion_mut(uuid) else { return };
        for probe in ended {
            state.readings.remove(probe);
            state.turns.get_mut(probe).into_iter().for_each(Turn::outdate);
        }
    }
}
