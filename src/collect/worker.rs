//! A thread that owns one connection and does one task after the other. It sets no time limit: the scheduler keeps the time.

use std::sync::{Arc, mpsc};

use super::engine::Incoming;
use super::message::Message;
use super::pool::{JobId, Role, WorkerId};
use super::summary::{Summaries, summaries_of};
use crate::domains::Inbox;
use crate::libvirt::{Connection, LibvirtError, ObjectSink, OpenGuard};
use crate::probes::{ConnectInfo, Outcome, Session, Shared, Task};

/// What the thread is started with.
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) role: Role,
    pub(super) uri: String,
    /// Ends the open that the thread begins with.
    pub(super) guard: OpenGuard,
    /// Where events go.
    pub(super) inbox: Arc<Inbox>,
    /// Shared by all workers.
    pub(super) shared: Arc<Shared>,
    pub(super) tasks: mpsc::Receiver<(JobId, Task)>,
    pub(super) messages: mpsc::Sender<Incoming>,
}

impl Worker {
    /// Connects, then works until the tasks end or the connection breaks. What happens is told by messages; sending one
    /// fails only while the process ends, so that is ignored.
    pub(super) fn run(self) {
        let _exit = ExitNotice { id: self.id, inbox: Arc::clone(&self.inbox), messages: self.messages.clone() };
        let (messages, id) = (self.messages.clone(), self.id);
        let on_close = move || drop(messages.send(Incoming::Tell(Message::Closed(id))));
        let opened = Connection::open_guarded(&self.uri, self.role.access(), &self.guard, on_close);
        let opened = opened.and_then(|connection| Ok((self.introduce(&connection)?, connection)));
        let connection = match opened {
            Ok((info, connection)) => {
                self.tell(Message::Opened(id, Ok(info)));
                connection
            }
            Err(error) => return self.tell(Message::Opened(id, Err(error))),
        };
        let mut session = Session::new(connection, Arc::clone(&self.shared), self.objects());
        while let Ok((job, task)) = self.tasks.recv() {
            let outcome = session.perform(task, &|part| self.tell(Message::Part(id, part)));
            let broken = !session.is_alive();
            let outcome = outcome.map(|outcome| {
                let summaries = summarize(&outcome);
                Box::new((outcome, summaries))
            });
            self.tell(Message::Done { worker: id, job, outcome });
            if broken {
                break;
            }
        }
    }

    /// Events are watched before the domains are listed: what happens in between is then not missed.
    fn introduce(&self, connection: &Connection) -> Result<ConnectInfo, LibvirtError> {
        let versions = connection.versions()?;
        if self.role != Role::Control {
            return Ok(ConnectInfo { versions, ..ConnectInfo::default() });
        }
        let (inbox, messages) = (Arc::clone(&self.inbox), self.messages.clone());
        let sink = move |event| {
            if inbox.push(event) {
                let _ending = messages.send(Incoming::EventsWaiting);
            }
        };
        let watched = connection.watch_events(Arc::new(sink))?;
        // A driver that does not tell the host's name is no worse for that.
        let hostname = connection.hostname().unwrap_or_default();
        Ok(ConnectInfo { versions, hostname, unknown_events: watched.unknown })
    }

    fn objects(&self) -> ObjectSink {
        let (id, inbox, messages) = (self.id, Arc::clone(&self.inbox), self.messages.clone());
        Arc::new(move |kind, uuid, event| {
            if inbox.note(id, kind, uuid, event) {
                let _ending = messages.send(Incoming::EventsWaiting);
            }
        })
    }

    fn tell(&self, message: Message) {
        let _ending = self.messages.send(Incoming::Tell(message));
    }
}

/// Summarised here, not by the thread of the scheduler, which has to answer at deadlines.
fn summarize(outcome: &Outcome) -> Summaries {
    match outcome {
        Outcome::Records(records) => summaries_of(records),
        _ => Summaries::default(),
    }
}

/// Tells that a thread has ended, even if it panicked.
struct ExitNotice {
    id: WorkerId,
    inbox: Arc<Inbox>,
    messages: mpsc::Sender<Incoming>,
}

impl Drop for ExitNotice {
    fn drop(&mut self) {
        self.inbox.ended(self.id);
        let _ending = self.messages.send(Incoming::Tell(Message::Ended(self.id)));
    }
}
