//! One body for all scrapers that share a collection, a format, a naming and a coding.
//!
//! A body lives while a scraper waits for it or is sent it, and until `collection.min_interval` is over where that lets later
//! scrapers have the same collection; of these, the bodies of one collection at a time are kept. What the exposition says of
//! the exporter itself is what it was for the first of the scrapers.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::app::exporter::{Collected, Settings};
use crate::collect::Collection;
use crate::web::{Content, Form};

/// What decides about a body. The selection is that of the collection.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The collection, and the settings for its families.
    pub(super) collected: Collected,
    /// Format, naming and coding.
    pub(super) form: Form,
}

/// Why there is no body.
#[derive(Debug, Clone, Error)]
pub enum RenderError {
    /// The thread that rendered it has panicked.
    #[error("the exposition could not be built")]
    NotBuilt,
    /// The encoder of the coding failed.
    #[error("the exposition could not be compressed")]
    NotCompressed {
        /// What it says.
        #[source]
        source: Arc<io::Error>,
    },
}

/// A body, or why there is none.
pub(super) type Rendered = Result<Content, RenderError>;

/// `None` until it is rendered.
type Body = watch::Receiver<Option<Rendered>>;

/// The bodies that are sent, kept or waited for.
#[derive(Debug, Default)]
pub(super) struct BodyCache {
    entries: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    // While a weak reference exists, nothing else can have its address.
    collection: Weak<Collection>,
    settings: Weak<Settings>,
    form: Form,
    body: Weak<Body>,
    /// For later scrapers.
    kept: Option<Arc<Body>>,
}

impl Entry {
    fn is_of(&self, collection: &Arc<Collection>) -> bool {
        Weak::as_ptr(&self.collection) == Arc::as_ptr(collection)
    }

    fn is(&self, wanted: &Wanted) -> bool {
        self.is_of(&wanted.collected.collection)
            && Weak::as_ptr(&self.settings) == Arc::as_ptr(&wanted.collected.settings)
            && self.form == wanted.form
    }
}

impl BodyCache {
    /// The body as `wanted`: a cached or pending one, else the one that `render` makes on a thread that may block. `render` owns
    /// its input and can drop parts of it early. It is not called if all requests for the body are dropped before its turn.
    ///
    /// # Errors
    /// That of `render`, or that it has panicked.
    pub(super) async fn body(
        self: &Arc<Self>,
        wanted: Wanted,
        render: impl FnOnce(Wanted) -> Rendered + Send + 'static,
    ) -> Rendered {
        let body = self.find_or_begin(wanted, render);
        let mut waiting = Body::clone(&body);
        let ready = waiting.wait_for(Option::is_some).await;
        let rendered = ready.ok().and_then(|ready| ready.clone());
        rendered.unwrap_or(Err(RenderError::NotBuilt))
    }

    fn find_or_begin(
        self: &Arc<Self>,
        wanted: Wanted,
        render: impl FnOnce(Wanted) -> Rendered + Send + 'static,
    ) -> Arc<Body> {
        let mut entries = self.entries.lock();
        entries.retain(|entry| entry.body.strong_count() > 0);
        if let Some(body) = entries.iter().find(|entry| entry.is(&wanted)).and_then(|entry| entry.body.upgrade()) {
            return body;
        }
        let (done, body) = watch::channel(None);
        let body = Arc::new(body);
        let keep = wanted.collected.settings.config.collection.min_interval;
        if !keep.is_zero() {
            let others = entries.iter_mut().filter(|entry| !entry.is_of(&wanted.collected.collection));
            others.for_each(|entry| entry.kept = None);
            tokio::spawn(Arc::clone(self).forget_after(keep, Arc::downgrade(&body)));
        }
        entries.push(Entry {
            collection: Arc::downgrade(&wanted.collected.collection),
            settings: Arc::downgrade(&wanted.collected.settings),
            form: wanted.form,
            body: Arc::downgrade(&body),
            kept: (!keep.is_zero()).then(|| Arc::clone(&body)),
        });
        // Building, encoding and compressing take a while where there are many domains: not on a thread that serves.
        tokio::task::spawn_blocking(move || {
            if !done.is_closed() {
                // Ignored: all receivers may have been dropped.
                let _closed = done.send(Some(render(wanted)));
            }
        });
        body
    }

    async fn forget_after(self: Arc<Self>, time: Duration, body: Weak<Body>) {
        sleep(time).await;
        let mut entries = self.entries.lock();
        entries.iter_mut().filter(|entry| entry.body.ptr_eq(&body)).for_each(|entry| entry.kept = None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::collect::Selection;
    use crate::config::{self, Config, MetricNaming};
    use crate::encode::{Coding, Format};

    const TEXT: Form = Form { format: Format::Text, coding: Coding::Identity, naming: MetricNaming::Native };

    fn wanted(min_interval: &str) -> Wanted {
        let yaml = format!("collection: {{min_interval: {min_interval}}}");
        let collection = Collection::empty(std::time::UNIX_EPOCH, std::time::Instant::now());
        let settings = Settings::new(config::parse(&yaml, "test").expect("a configuration"));
        Wanted {
            collected: Collected::new(settings, Arc::new(collection), Selection::default(), Vec::new()),
            form: TEXT,
        }
    }

    fn other_collection(wanted: &Wanted) -> Collected {
        let collection = Collection::clone(&wanted.collected.collection);
        Collected { collection: Arc::new(collection), ..wanted.collected.clone() }
    }

    fn other_settings(wanted: &Wanted) -> Collected {
        Collected { settings: Settings::new(Config::default()), ..wanted.collected.clone() }
    }

    fn bytes(content: &Content) -> &[u8] {
        let Content::Whole(bytes) = content else { panic!("{content:?}") };
        bytes
    }

    fn some_bytes(_: Wanted) -> Rendered {
        Ok(Content::Whole(vec![b'x'; 100].into()))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn equal_requests_share_one_body() {
        let cache = Arc::new(BodyCache::default());
        let calls = Arc::new(AtomicUsize::new(0));
        let wanted = wanted("0s");
        let (go, waits) = mpsc::channel::<()>();
        let waits = Arc::new(Mutex::new(waits));
        let ask = |wanted: &Wanted| {
            let (cache, wanted) = (Arc::clone(&cache), wanted.clone());
            let (calls, waits) = (Arc::clone(&calls), Arc::clone(&waits));
            tokio::spawn(async move {
                let render = move |wanted: Wanted| {
                    calls.fetch_add(1, Ordering::Relaxed);
                    let _ended = waits.lock().recv();
                    some_bytes(wanted)
                };
                cache.body(wanted, render).await.expect("a body")
            })
        };
        let asking: Vec<_> = (0..20).map(|_| ask(&wanted)).collect();
        while cache.entries.lock().first().is_none_or(|entry| entry.body.strong_count() < 20) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        go.send(()).expect("it waits");
        let mut bodies = Vec::new();
        for one in asking {
            bodies.push(one.await.expect("no panic"));
        }
        assert!(bodies.iter().all(|body| bytes(body).as_ptr() == bytes(&bodies[0]).as_ptr()));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        drop(go);
        // Without a waiting request nothing is kept, and the next one renders. So does one with another format or coding.
        assert_eq!(cache.entries.lock()[0].body.strong_count(), 0);
        for other in [
            wanted.clone(),
            Wanted { form: Form { format: Format::OpenMetrics, ..TEXT }, ..wanted.clone() },
            Wanted { form: Form { coding: Coding::Gzip, ..TEXT }, ..wanted.clone() },
            Wanted { form: Form { naming: MetricNaming::Kumina, ..TEXT }, ..wanted.clone() },
            Wanted { collected: other_settings(&wanted), ..wanted.clone() },
            Wanted { collected: other_collection(&wanted), ..wanted.clone() },
        ] {
            let before = calls.load(Ordering::Relaxed);
            ask(&other).await.expect("no panic");
            assert_eq!(calls.load(Ordering::Relaxed), before + 1);
        }
        assert_eq!(cache.entries.lock().len(), 1, "the dead are swept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reusable_body_is_kept_for_min_interval() {
        let cache = Arc::new(BodyCache::default());
        let first = wanted("10s");
        let body = cache.body(first.clone(), some_bytes).await.expect("a body");
        let again = cache.body(first.clone(), |_| panic!("rendered twice")).await.expect("the same body");
        assert_eq!(bytes(&again).as_ptr(), bytes(&body).as_ptr());
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert!(cache.entries.lock().iter().all(|entry| entry.body.strong_count() == 0));
        // That of a newer collection takes its place.
        let kept = || cache.entries.lock().iter().filter(|entry| entry.body.strong_count() > 0).count();
        for wanted in [&first, &wanted("10s"), &wanted("10s")] {
            cache.body(wanted.clone(), some_bytes).await.expect("a body");
            cache
                .body(Wanted { form: Form { coding: Coding::Gzip, ..TEXT }, ..wanted.clone() }, some_bytes)
                .await
                .expect("a body");
            assert_eq!(kept(), 2);
        }
    }

    #[test]
    fn an_abandoned_request_skips_rendering() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
        runtime.expect("a runtime").block_on(async {
            let cache = Arc::new(BodyCache::default());
            let (go, waits) = mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || waits.recv());
            let rendered = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&rendered);
            let count = move |wanted: Wanted| {
                counter.fetch_add(1, Ordering::Relaxed);
                some_bytes(wanted)
            };
            let waiting = tokio::time::timeout(Duration::from_millis(10), cache.body(wanted("0s"), count));
            assert!(waiting.await.is_err(), "the only thread is busy");
            go.send(()).expect("it waits");
            busy.await.expect("no panic").expect("told to go on");
            // The thread takes the next one after the first.
            assert!(cache.body(wanted("0s"), some_bytes).await.is_ok());
            assert_eq!(rendered.load(Ordering::Relaxed), 0);
        });
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_all_waiting_requests() {
        let cache = Arc::new(BodyCache::default());
        let failed = cache.body(wanted("0s"), |_| panic!("a bug")).await;
        assert!(matches!(failed, Err(RenderError::NotBuilt)));
    }
}
