//! What the scheduler is told, and what it has done: all that passes between it and the world.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::connection::Standing;
use super::notice::Notice;
use super::pool::{JobId, Role, WorkerId};
use super::summary::Summaries;
use super::{Collection, Selection};
use crate::config::Config;
use crate::domains::{Arrived, Snapshot};
use crate::libvirt::LibvirtError;
use crate::probes::{ConnectInfo, Outcome, Part, Task};

/// The number of a request that waits for its answer; never used twice.
pub(super) type WaiterId = u64;

/// A moment, on the clock that is never set and on the one that people read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) at: Instant,
    pub(super) wall: SystemTime,
}

/// What came of a task, with the summaries of the records that it brought.
pub(super) type Answer = Result<Box<(Outcome, Summaries)>, LibvirtError>;

/// What the scheduler is told.
#[derive(Debug)]
pub(super) enum Message {
    /// A collection is asked for.
    Collect { waiter: WaiterId, selection: Selection, deadline: Instant },
    /// The set of domains is asked for; with `addresses`, each has to have been located.
    Domains { waiter: WaiterId, addresses: bool, deadline: Instant },
    /// The state of the connection is asked for.
    Status { waiter: WaiterId },
    /// There are other settings.
    Reconfigure(Box<Config>),
    /// libvirt has told of events.
    Events(Arrived),
    /// A worker has its connection, or could not have it.
    Opened(WorkerId, Result<ConnectInfo, LibvirtError>),
    /// The open of a worker has not taken too long before then: it began late.
    OpenNotDue(WorkerId, Instant),
    /// There was nothing by which the open of a worker could be ended.
    NotAborted(WorkerId),
    /// A worker's connection broke.
    Closed(WorkerId),
    /// A worker goes on with a task of several calls.
    Part(WorkerId, Part),
    /// A worker has done its task.
    Done { worker: WorkerId, job: JobId, outcome: Answer },
    /// A worker's thread has ended.
    Ended(WorkerId),
}

/// What the scheduler has done.
#[derive(Debug)]
pub(super) enum Action {
    /// Start a worker, which begins by opening a connection.
    Start(WorkerId, Role),
    /// Give a task to a worker.
    Send(WorkerId, JobId, Task),
    /// End the open of a worker.
    Abort(WorkerId),
    /// Let a worker go: its thread ends when it has done what it does.
    Dismiss(WorkerId),
    /// Answer requests for a collection.
    Answer(Vec<WaiterId>, Arc<Collection>),
    /// Answer a request for the set of domains.
    AnswerDomains(WaiterId, Result<Arc<Snapshot>, LibvirtError>),
    /// Answer a request for the state of the connection.
    AnswerStatus(WaiterId, Standing),
    /// Log a change of state.
    Log(Notice),
}
