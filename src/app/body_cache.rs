//! One body for all who ask for the same: scrapers that share a collection, format and coding share the bytes.
//!
//! A body lives as long as somebody waits for it or is sent it, and until `collection.min_interval` is over where that
//! lets later scrapers have the same collection; of these, the bodies of one collection at a time are kept. What the exposition
//! says of the exporter itself is what it was for the first of those who share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::collect::Collection;
use crate::config::Config;
use crate::encode::{Coding, Format};

/// What decides about a body. The collection brings its selection with it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What was collected.
    pub collection: Arc<Collection>,
    /// The settings that it is shown by.
    pub config: Arc<Config>,
    /// The format.
    pub format: Format,
    /// How it is compressed.
    pub coding: Coding,
}

/// A body, or in one sentence why there is none.
pub type Rendered = Result<Bytes, String>;

/// `None` until it is there.
type Body = watch::Receiver<Option<Rendered>>;

/// The bodies that somebody has, or waits for.
#[derive(Debug, Default)]
pub struct Renderings {
    entries: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    // As long as a weak reference stands, nothing else can have its address.
    collection: Weak<Collection>,
    config: Weak<Config>,
    format: Format,
    coding: Coding,
    body: Weak<Body>,
    /// For those who come later.
    kept: Option<Arc<Body>>,
}

impl Entry {
    fn is_of(&self, collection: &Arc<Collection>) -> bool {
        Weak::as_ptr(&self.collection) == Arc::as_ptr(collection)
    }

    fn is(&self, wanted: &Wanted) -> bool {
        self.is_of(&wanted.collection)
            && Weak::as_ptr(&self.config) == Arc::as_ptr(&wanted.config)
            && (self.format, self.coding) == (wanted.format, wanted.coding)
    }
}

impl Renderings {
    /// What is `wanted`: the bytes that another one has or waits for, or else those that `render` makes on a thread that may
    /// block. It owns what it makes them from, and can let go of that early. It is not called if all who wanted them have gone
    /// before its turn.
    ///
    /// # Errors
    /// That of `render`, or that it has panicked.
    pub async fn body(
        self: &Arc<Self>,
        wanted: Wanted,
        render: impl FnOnce(Wanted) -> Rendered + Send + 'static,
    ) -> Rendered {
        let body = self.find_or_begin(wanted, render);
        let mut waiting = Body::clone(&body);
        let ready = waiting.wait_for(Option::is_some).await;
        let rendered = ready.ok().and_then(|ready| ready.clone());
        rendered.unwrap_or_else(|| Err("the exposition could not be built".to_owned()))
    }

    fn find_or_begin(
        self: &Arc<Self>,
        wanted: Wanted,
        render: impl FnOnce(Wanted) -> Rendered + Send + 'static,
    ) -> Arc<Body> {
        let mut entries = self.entries();
        entries.retain(|entry| entry.body.strong_count() > 0);
        if let Some(body) = entries.iter().find(|entry| entry.is(&wanted)).and_then(|entry| entry.body.upgrade()) {
            return body;
        }
        let (done, body) = watch::channel(None);
        let body = Arc::new(body);
        let keep = wanted.config.collection.min_interval;
        if !keep.is_zero() {
            let others = entries.iter_mut().filter(|entry| !entry.is_of(&wanted.collection));
            others.for_each(|entry| entry.kept = None);
            tokio::spawn(Arc::clone(self).forget_after(keep, Arc::downgrade(&body)));
        }
        entries.push(Entry {
            collection: Arc::downgrade(&wanted.collection),
            config: Arc::downgrade(&wanted.config),
            format: wanted.format,
            coding: wanted.coding,
            body: Arc::downgrade(&body),
            kept: (!keep.is_zero()).then(|| Arc::clone(&body)),
        });
        // Building, encoding and compressing take a while where there are many domains: not on a thread that serves.
        tokio::task::spawn_blocking(move || {
            if !done.is_closed() {
                // Whoever waited may have gone meanwhile.
                let _gone = done.send(Some(render(wanted)));
            }
        });
        body
    }

    async fn forget_after(self: Arc<Self>, time: Duration, body: Weak<Body>) {
        sleep(time).await;
        let mut entries = self.entries();
        entries.iter_mut().filter(|entry| entry.body.ptr_eq(&body)).for_each(|entry| entry.kept = None);
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::config;

    fn wanted(min_interval: &str) -> Wanted {
        let yaml = format!("collection: {{min_interval: {min_interval}}}");
        let collection = Collection {
            batches: Vec::new(),
            parameters: std::collections::BTreeMap::new(),
            domains: Vec::new(),
            versions: None,
            at: std::time::UNIX_EPOCH,
            ended: std::time::Instant::now(),
            duration: Duration::ZERO,
            calls: 0,
            targets: Arc::default(),
            readings: Vec::new(),
            error: None,
        };
        Wanted {
            collection: Arc::new(collection),
            config: Arc::new(config::parse(&yaml, "test").expect("a configuration")),
            format: Format::Text,
            coding: Coding::Identity,
        }
    }

    fn some_bytes(_: Wanted) -> Rendered {
        Ok(vec![b'x'; 100].into())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_wants_the_same_shares_one_body() {
        let renderings = Arc::new(Renderings::default());
        let calls = Arc::new(AtomicUsize::new(0));
        let wanted = wanted("0s");
        let (go, waits) = mpsc::channel::<()>();
        let waits = Arc::new(Mutex::new(waits));
        let ask = |wanted: &Wanted| {
            let (renderings, wanted) = (Arc::clone(&renderings), wanted.clone());
            let (calls, waits) = (Arc::clone(&calls), Arc::clone(&waits));
            tokio::spawn(async move {
                let render = move |wanted: Wanted| {
                    calls.fetch_add(1, Ordering::Relaxed);
                    let _ended = waits.lock().expect("not poisoned").recv();
                    some_bytes(wanted)
                };
                renderings.body(wanted, render).await.expect("a body")
            })
        };
        let asking: Vec<_> = (0..20).map(|_| ask(&wanted)).collect();
        while renderings.entries().first().is_none_or(|entry| entry.body.strong_count() < 20) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        go.send(()).expect("it waits");
        let mut bodies = Vec::new();
        for one in asking {
            bodies.push(one.await.expect("no panic"));
        }
        assert!(bodies.iter().all(|body| body.as_ptr() == bodies[0].as_ptr()));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        drop(go);
        // Nobody waits any more: nothing is kept, and the next one has his own. So has who wants something else.
        assert_eq!(renderings.entries()[0].body.strong_count(), 0);
        for other in [
            wanted.clone(),
            Wanted { format: Format::OpenMetrics, ..wanted.clone() },
            Wanted { coding: Coding::Gzip, ..wanted.clone() },
            Wanted { config: Arc::new(Config::default()), ..wanted.clone() },
            Wanted { collection: Arc::new(Collection::clone(&wanted.collection)), ..wanted.clone() },
        ] {
            let before = calls.load(Ordering::Relaxed);
            ask(&other).await.expect("no panic");
            assert_eq!(calls.load(Ordering::Relaxed), before + 1);
        }
        assert_eq!(renderings.entries().len(), 1, "the dead are swept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_can_be_used_again_is_kept_for_as_long() {
        let renderings = Arc::new(Renderings::default());
        let first = wanted("10s");
        let body = renderings.body(first.clone(), some_bytes).await.expect("a body");
        let again = renderings.body(first.clone(), |_| Err("rendered twice".into())).await.expect("the same body");
        assert_eq!(again.as_ptr(), body.as_ptr());
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert!(renderings.entries().iter().all(|entry| entry.body.strong_count() == 0));
        // That of a newer collection takes its place.
        let kept = || renderings.entries().iter().filter(|entry| entry.body.strong_count() > 0).count();
        for wanted in [&first, &wanted("10s"), &wanted("10s")] {
            renderings.body(wanted.clone(), some_bytes).await.expect("a body");
            renderings.body(Wanted { coding: Coding::Gzip, ..wanted.clone() }, some_bytes).await.expect("a body");
            assert_eq!(kept(), 2);
        }
    }

    #[test]
    fn what_nobody_waits_for_is_not_rendered() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
        runtime.expect("a runtime").block_on(async {
            let renderings = Arc::new(Renderings::default());
            let (go, waits) = mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || waits.recv());
            let rendered = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&rendered);
            let count = move |wanted: Wanted| {
                counter.fetch_add(1, Ordering::Relaxed);
                some_bytes(wanted)
            };
            let waiting = tokio::time::timeout(Duration::from_millis(10), renderings.body(wanted("0s"), count));
            assert!(waiting.await.is_err(), "the only thread is busy");
            go.send(()).expect("it waits");
            busy.await.expect("no panic").expect("told to go on");
            // It is the next one's turn only when the first has had his.
            assert!(renderings.body(wanted("0s"), some_bytes).await.is_ok());
            assert_eq!(rendered.load(Ordering::Relaxed), 0);
        });
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_those_who_wait() {
        let renderings = Arc::new(Renderings::default());
        let failed = renderings.body(wanted("0s"), |_| panic!("a bug")).await;
        assert_eq!(failed, Err("the exposition could not be built".to_owned()));
    }
}
