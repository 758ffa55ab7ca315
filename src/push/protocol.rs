//! What a protocol of pushing decides. The loop, the journal, retries, the HTTP client and TLS know no more of it than this.

use std::fmt::Debug;
use std::io;

use bytes::Bytes;

use super::Batch;
use super::reply::Reply;
use super::verdict::Verdict;

/// A protocol with its settings.
pub trait Protocol: Debug + Send + Sync + 'static {
    /// What is kept from one push to the next about the series that the receiver has.
    type Series: Series<Part = Self::Part>;
    /// What one request carries, for [`Series::accepted`].
    type Part: Send + 'static;

    /// Nothing has been pushed yet.
    fn series(&self) -> Self::Series;

    /// Whether what was pushed with the settings of `other` says nothing about the series of these.
    fn names_other_series_than(&self, other: &Self) -> bool;

    /// The requests of one push, made one at a time. Making one takes tens of milliseconds: not for async threads.
    fn requests(&self, series: &mut Self::Series, batch: &mut Batch) -> Requests<Self::Part>;

    /// A request without a single point, which a receiver accepts as it would any other.
    ///
    /// # Errors
    /// Never in practice: it is encoded in memory.
    fn empty_request(&self) -> io::Result<Bytes>;

    /// What a response says. [`Outcome::Dropped`](super::Outcome::Dropped) is one after which the request is sent again while
    /// there is time.
    fn verdict(&self, reply: &Reply) -> Verdict;
}

/// The requests of one push.
pub type Requests<P> = Box<dyn Iterator<Item = io::Result<PushRequest<P>>> + Send>;

/// The series that a receiver has, from push to push.
pub trait Series: Send + 'static {
    /// See [`Protocol::Part`].
    type Part;

    /// A request was accepted, or may have been: its growth is lost if it was not, and never counted twice.
    fn accepted(&mut self, part: &Self::Part);

    /// The push of `batch` has ended; `complete` is whether all of its requests were accepted.
    fn ended(&mut self, batch: &Batch, complete: bool);
}

/// One request, encoded, compressed and framed.
#[derive(Debug)]
pub struct PushRequest<P> {
    /// The body.
    pub body: Bytes,
    /// How many data points it has.
    pub points: usize,
    /// What it carries.
    pub part: P,
}
