//! Pushes the same families as `/metrics` to a receiver, at an interval.
//!
//! The loop (`pusher`) asks its [`Source`] for a collection, which it shares with scrapes of that moment; `delivery` sends the
//! requests that the protocol makes of it one at a time and repeats those that fail in passing; `transport` is the HTTP client
//! with TLS. A push that does not arrive in its time is dropped and counted: the next has newer values, and nothing piles up.
//! The journal remembers how pushes went.
//!
//! A protocol implements [`Protocol`]: which requests a batch becomes, what is kept of them from push to push, and what a
//! response means. [`otlp`] is the only one. The rest of the program is known here only as a [`Source`].

mod delivery;
mod journal;
pub mod otlp;
mod protocol;
mod pusher;
mod reply;
mod settings;
mod tls;
mod transport;
mod verdict;

use std::error::Error;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

pub use journal::{Journal, LastPush, PushStats};
pub use protocol::{Protocol, PushRequest, Requests, Series};
pub use pusher::Pusher;
pub use reply::Reply;
pub use settings::{PushError, Settings};
pub use verdict::{Outcome, Verdict};

use crate::metrics::{Families, Taken};

/// What is to be pushed.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The families.
    pub families: Arc<Families>,
    /// When they were collected.
    pub taken: Taken,
}

impl Batch {
    /// Nothing is there any more.
    fn empty() -> Self {
        let now = Instant::now();
        Self { families: Arc::default(), taken: Taken { span: now..now, at: SystemTime::now() } }
    }
}

/// Where the metrics come from.
pub trait Source: Send + Sync + 'static {
    /// Why there is nothing at all.
    type Error: Error + Send;

    /// Collects. That libvirt does not answer is no error, but a batch that says so.
    fn batch(self: &Arc<Self>) -> impl Future<Output = Result<Batch, Self::Error>> + Send;
}
