//! The exporter within the test's process, its registry looked at every millisecond, and libvirt's events as the test itself
//! hears them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use domstats_exporter::app::Exporter;
use domstats_exporter::collect::Selection;
use domstats_exporter::domains::{Domain, Snapshot};
use domstats_exporter::encode::Format;
use domstats_exporter::libvirt::{Access, Connection, Event, EventSink};
use tokio::runtime::{Builder, Runtime};

/// More than a busy machine takes for anything that is waited for: a subject whose call took too long is asked again after a minute.
const SOON: Duration = Duration::from_secs(180);

/// The registry's pictures, each with when it was first seen.
type Timeline = Mutex<Vec<(Instant, Arc<Snapshot>)>>;

/// An exporter that is watched.
pub struct Observer {
    exporter: Arc<Exporter>,
    runtime: Arc<Runtime>,
    timeline: Arc<Timeline>,
    events: Arc<Mutex<Vec<(Instant, Event)>>>,
    /// The connection of the test's own events, on which they come until it is dropped.
    _connection: Mutex<Connection>,
    stop: Arc<AtomicBool>,
    poll: Option<JoinHandle<()>>,
}

impl Observer {
    /// Starts the exporter, and waits until it has listed the domains.
    pub fn start(uri: &str, settings: &str) -> Self {
        let config = format!("libvirt: {{uri: {uri:?}}}\n{settings}");
        let config = domstats_exporter::config::parse(&config, "test").unwrap();
        // The first connection of the process comes up the library and its event loop.
        let connection = Connection::open(uri, Access::ReadOnly, || {}).unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        let sink: EventSink = Arc::new(move |event| heard.lock().unwrap().push((Instant::now(), event)));
        connection.watch_events(sink).unwrap();
        let exporter = Exporter::start(&config, None).unwrap();
        let runtime = Arc::new(Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
        let timeline = Arc::new(Timeline::default());
        let stop = Arc::new(AtomicBool::new(false));
        let poll = {
            let (exporter, runtime) = (Arc::clone(&exporter), Arc::clone(&runtime));
            let (timeline, stop) = (Arc::clone(&timeline), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    look(&runtime, &exporter, &timeline);
                    thread::sleep(Duration::from_millis(1));
                }
            })
        };
        let observer =
            Self { exporter, runtime, timeline, events, _connection: Mutex::new(connection), stop, poll: Some(poll) };
        observer.since(Instant::now(), "the first list of domains", |_| true);
        observer
    }

    /// When the registry first was as wanted for good, at `then` or later; waits for it.
    pub fn since(&self, then: Instant, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Instant {
        let deadline = Instant::now() + SOON;
        loop {
            {
                let timeline = self.timeline.lock().unwrap();
                // The picture that stood at `then`, and those that came after it.
                let first = timeline.partition_point(|(at, _)| *at <= then).saturating_sub(1);
                let agreeing = timeline[first..].iter().rev().take_while(|(_, snapshot)| wanted(snapshot)).last();
                if let Some((at, _)) = agreeing {
                    return (*at).max(then);
                }
                if Instant::now() > deadline {
                    panic!("{what}: {:#?}", timeline.last());
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// When the test itself first heard such an event after `then`; waits for it.
    pub fn heard(&self, then: Instant, what: &str, wanted: impl Fn(&Event) -> bool) -> Instant {
        let deadline = Instant::now() + SOON;
        loop {
            let events = self.events();
            let since = events.iter().filter(|(at, _)| *at >= then);
            if let Some((at, _)) = since.clone().find(|(_, event)| wanted(event)) {
                return *at;
            }
            assert!(Instant::now() < deadline, "{what}: {:?}", since.collect::<Vec<_>>());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// All events that the test has heard.
    pub fn events(&self) -> Vec<(Instant, Event)> {
        self.events.lock().unwrap().clone()
    }

    /// A scrape, as text.
    pub fn scrape(&self) -> String {
        let collected = self.runtime.block_on(self.exporter.collect(None, Selection::default()));
        let families = self.exporter.families(&collected);
        String::from_utf8(Format::Text.encode(&families)).unwrap()
    }
}

/// Notes the registry's picture if it is another one than before.
fn look(runtime: &Runtime, exporter: &Exporter, timeline: &Timeline) {
    // While libvirt is away there is nothing to see.
    let Ok(snapshot) = runtime.block_on(exporter.discover(None)) else { return };
    let mut timeline = timeline.lock().unwrap();
    if timeline.last().is_none_or(|(_, last)| !Arc::ptr_eq(&last.domains, &snapshot.domains)) {
        timeline.push((Instant::now(), snapshot));
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(poll) = self.poll.take() {
            let _ = poll.join();
        }
    }
}

/// The domain of this name.
pub fn named<'s>(snapshot: &'s Snapshot, name: &str) -> Option<&'s Domain> {
    snapshot.domains.iter().map(AsRef::as_ref).find(|target| target.identity.name == name)
}
