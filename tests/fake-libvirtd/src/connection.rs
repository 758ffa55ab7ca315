//! One client: a thread that reads its calls, a thread that writes replies and events, and a thread for each call that may block.

use std::collections::VecDeque;
use std::io::{BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use crate::counters::{CallId, Outcome};
use crate::domain::uuid_of;
use crate::event::{Event, Identity, ObjectEvent};
use crate::frame::{HEADER_LEN, Header, KEEPALIVE_PING, KEEPALIVE_PONG, KEEPALIVE_PROGRAM, REMOTE_PROGRAM, read_frame};
use crate::procedure::Procedure;
use crate::serve::{self, Call};
use crate::shared::Shared;
use crate::xdr::Writer;

/// A frame on its way to the client.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) frame: Vec<u8>,
    /// The call that this answers, with its outcome.
    pub(crate) answers: Option<(CallId, Outcome)>,
    /// Over how much time to spread the frame.
    pub(crate) over: Duration,
    /// Whether the connection ends with this frame.
    pub(crate) last: bool,
}

#[derive(Debug, Default)]
struct Outbox {
    queue: VecDeque<Outgoing>,
    under_way: u32,
    closed: bool,
    keepalive: bool,
    heard: Option<Instant>,
    pinged: Option<Instant>,
    unanswered: u32,
}

/// A registration for an event.
#[derive(Debug)]
struct Callback {
    id: i32,
    event: i32,
    uuid: Option<Uuid>,
}

#[derive(Debug, Default)]
struct Callbacks {
    list: Vec<Callback>,
    last_id: i32,
}

/// A connection, shared by its threads and by the senders of events.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) generation: u64,
    stream: UnixStream,
    read_only: AtomicBool,
    close_callback: AtomicBool,
    callbacks: Mutex<Callbacks>,
    outbox: Mutex<Outbox>,
    changed: Condvar,
}

impl Connection {
    pub(crate) fn new(number: u64, generation: u64, stream: UnixStream) -> Self {
        Self {
            number,
            generation,
            stream,
            read_only: AtomicBool::new(false),
            close_callback: AtomicBool::new(false),
            callbacks: Mutex::default(),
            outbox: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    pub(crate) fn set_read_only(&self) {
        self.read_only.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_close_callback(&self, on: bool) {
        self.close_callback.store(on, Ordering::Relaxed);
    }

    /// Begins to ping the client: it has said that it understands.
    pub(crate) fn start_keepalive(&self) {
        let mut outbox = self.outbox.lock();
        outbox.keepalive = true;
        outbox.heard = Some(Instant::now());
        self.changed.notify_all();
    }

    /// Registers for an event and returns the registration's id.
    pub(crate) fn register(&self, event: i32, uuid: Option<Uuid>) -> i32 {
        let mut callbacks = self.callbacks.lock();
        let id = callbacks.last_id;
        callbacks.last_id += 1;
        callbacks.list.push(Callback { id, event, uuid });
        id
    }

    /// Ends a registration; `false` where there is none of that id.
    pub(crate) fn deregister(&self, id: i32) -> bool {
        let mut callbacks = self.callbacks.lock();
        let before = callbacks.list.len();
        callbacks.list.retain(|callback| callback.id != id);
        callbacks.list.len() < before
    }

    /// Sends an event once for each registration that it matches; returns how many these are.
    pub(crate) fn send_event(&self, of: &Identity, event: &Event) -> usize {
        let callbacks = self.callbacks.lock();
        let matching = callbacks
            .list
            .iter()
            .filter(|callback| callback.event == event.id() && callback.uuid.is_none_or(|uuid| uuid == of.uuid));
        let mut sent = 0;
        for callback in matching {
            let mut payload = Writer::new();
            event.write(callback.id, of, &mut payload);
            let header = Header::message(REMOTE_PROGRAM, event.procedure());
            self.send(header.frame(&payload.into_bytes()));
            sent += 1;
        }
        sent
    }

    /// Sends an event of a pool or a network once for each registration that it matches; returns how many these are.
    pub(crate) fn send_object_event(&self, name: &str, event: ObjectEvent) -> usize {
        let callbacks = self.callbacks.lock();
        let (number, procedure) = event.numbers();
        let is_meant =
            |callback: &&Callback| callback.event == number && callback.uuid.is_none_or(|uuid| uuid == uuid_of(name));
        let matching = callbacks.list.iter().filter(is_meant);
        matching
            .map(|callback| {
                let mut payload = Writer::new();
                event.write(callback.id, name, &mut payload);
                self.send(Header::message(REMOTE_PROGRAM, procedure).frame(&payload.into_bytes()));
            })
            .count()
    }

    /// Tells the client that the daemon lost the hypervisor, if the client asked to be told.
    pub(crate) fn send_connection_closed(&self, reason: i32) {
        if self.close_callback.load(Ordering::Relaxed) {
            self.send(Header::message(REMOTE_PROGRAM, 362).frame(&reason.to_be_bytes()));
        }
    }

    fn send(&self, frame: Vec<u8>) {
        self.push(Outgoing { frame, ..Outgoing::default() });
    }

    /// Queues a frame; `false` where the connection has ended. The queue has no bound, as libvirt's has none.
    pub(crate) fn push(&self, outgoing: Outgoing) -> bool {
        let mut outbox = self.outbox.lock();
        if outbox.closed {
            return false;
        }
        outbox.queue.push_back(outgoing);
        self.changed.notify_all();
        true
    }

    /// Ends the connection: both threads wake and leave.
    pub(crate) fn close(&self) {
        self.outbox.lock().closed = true;
        self.changed.notify_all();
        // The client may have closed its end before.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Takes the place of one call, without an answer having been sent.
    pub(crate) fn end_request(&self) {
        let mut outbox = self.outbox.lock();
        outbox.under_way = outbox.under_way.saturating_sub(1);
        self.changed.notify_all();
    }

    /// Reads calls until the connection ends.
    pub(crate) fn read(self: &Arc<Self>, shared: &Arc<Shared>) {
        let mut stream = BufReader::with_capacity(64 << 10, &self.stream);
        let mut calls = 0;
        while let Ok(Some((header, payload))) = read_frame(&mut stream) {
            if !shared.thawed(self.generation) {
                break;
            }
            {
                let mut outbox = self.outbox.lock();
                outbox.heard = Some(Instant::now());
                outbox.unanswered = 0;
            }
            if header.program == KEEPALIVE_PROGRAM {
                self.keepalive(shared, header);
                continue;
            }
            calls += 1;
            let drop_after = shared.state().faults.drop_after_calls;
            if drop_after.is_some_and(|most| calls > most) {
                break;
            }
            self.begin_call(shared, header, payload);
            if !self.wait_for_room(shared.limits.max_client_requests) {
                break;
            }
        }
        self.close();
    }

    fn keepalive(&self, shared: &Shared, header: Header) {
        if header.procedure == KEEPALIVE_PONG {
            shared.counters.connection(self.number, |record| record.pongs += 1);
            return;
        }
        shared.counters.connection(self.number, |record| record.pings += 1);
        if !shared.state().faults.no_pong {
            self.send(Header::message(KEEPALIVE_PROGRAM, KEEPALIVE_PONG).frame(&[]));
        }
    }

    fn begin_call(self: &Arc<Self>, shared: &Arc<Shared>, header: Header, payload: Vec<u8>) {
        let procedure = if header.program == REMOTE_PROGRAM {
            Procedure::from_number(header.procedure)
        } else {
            Procedure::Other(header.procedure)
        };
        self.outbox.lock().under_way += 1;
        let faults = shared.state().faults.take_replies(procedure);
        let call = Call {
            shared: Arc::clone(shared),
            connection: Arc::clone(self),
            id: shared.counters.begin(self.number, procedure),
            header,
            procedure,
            payload,
        };
        let has_worker = procedure.has_priority() || shared.try_take_worker();
        let may_block = serve::may_block(procedure) || shared.state().faults.has_locks();
        if has_worker && faults.is_empty() && !may_block {
            call.run(&faults);
            return;
        }
        let thread = std::thread::Builder::new().name(format!("call-{}", header.serial));
        let handle = thread.spawn(move || {
            if has_worker || call.shared.take_worker(call.connection.generation) {
                call.run(&faults);
            } else {
                call.give_up();
            }
        });
        match handle {
            Ok(handle) => {
                let mut threads = shared.threads.lock();
                // The stack of a thread that has ended is there as long as its handle: ten thousand calls would not fit.
                if threads.len() % 256 == 255 {
                    threads.retain(|thread| !thread.is_finished());
                }
                threads.push(handle);
            }
            // A daemon without threads left cannot serve: the client sees the connection end.
            Err(_) => self.close(),
        }
    }

    /// Waits until the connection may have one more call under way.
    fn wait_for_room(&self, most: u32) -> bool {
        let mut outbox = self.outbox.lock();
        while !outbox.closed && outbox.under_way >= most {
            self.changed.wait(&mut outbox);
        }
        !outbox.closed
    }

    /// Writes queued frames until the connection ends.
    pub(crate) fn write(&self, shared: &Shared) {
        while let Some(outgoing) = self.next_outgoing(shared) {
            if !shared.thawed(self.generation) {
                break;
            }
            if !self.write_frame(shared, &outgoing) {
                break;
            }
            if let Some((call, outcome)) = outgoing.answers {
                shared.counters.end(call, Some((outgoing.frame.len(), outcome)));
                self.end_request();
            }
            if outgoing.last {
                break;
            }
        }
        self.close();
        for outgoing in self.outbox.lock().queue.drain(..) {
            if let Some((call, _)) = outgoing.answers {
                shared.counters.end(call, None);
            }
        }
    }

    /// The next frame to write, pinging the client while there is none; `None` when the connection has ended.
    fn next_outgoing(&self, shared: &Shared) -> Option<Outgoing> {
        let interval = shared.limits.keepalive_interval;
        let mut outbox = self.outbox.lock();
        loop {
            if outbox.closed {
                return None;
            }
            if let Some(outgoing) = outbox.queue.pop_front() {
                return Some(outgoing);
            }
            let silent_since = outbox.heard.max(outbox.pinged);
            let Some(since) = silent_since.filter(|_| outbox.keepalive && !interval.is_zero()) else {
                self.changed.wait(&mut outbox);
                continue;
            };
            if !self.changed.wait_until(&mut outbox, since + interval).timed_out() {
                continue;
            }
            if outbox.unanswered >= shared.limits.keepalive_count {
                return None;
            }
            outbox.unanswered += 1;
            outbox.pinged = Some(Instant::now());
            let frame = Header::message(KEEPALIVE_PROGRAM, KEEPALIVE_PING).frame(&[]);
            return Some(Outgoing { frame, ..Outgoing::default() });
        }
    }

    /// Writes one frame, in pieces where it shall take its time; `false` when that failed.
    fn write_frame(&self, shared: &Shared, outgoing: &Outgoing) -> bool {
        let mut stream = &self.stream;
        if outgoing.over.is_zero() {
            return stream.write_all(&outgoing.frame).is_ok();
        }
        let piece_len = outgoing.frame.len().div_ceil(50).max(1);
        let pieces = outgoing.frame.chunks(piece_len);
        let pause = outgoing.over / u32::try_from(pieces.len()).unwrap_or(1);
        let open = || !self.outbox.lock().closed;
        pieces
            .into_iter()
            .all(|piece| shared.sleep_while(self.generation, pause, open) && stream.write_all(piece).is_ok())
    }
}

/// A buffer for a payload, with room in front for the frame's header.
pub(crate) fn payload() -> Writer {
    let mut writer = Writer::new();
    writer.raw(&[0; HEADER_LEN]);
    writer
}
