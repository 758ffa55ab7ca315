//! Faults: what the daemon does wrong, switched on and off while it runs.

use std::collections::HashMap;
use std::time::Duration;

use crate::event::Identity;
use crate::procedure::Procedure;
use crate::shared::Shared;
use crate::xdr::Writer;

/// What happens to the reply of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyFault {
    /// The call is served so much later.
    Delay(Duration),
    /// No reply, ever; the connection stays.
    Swallow,
    /// The connection is closed instead of a reply.
    Disconnect,
    /// This error instead of a reply.
    Error {
        /// The code (`virErrorNumber`).
        code: i32,
        /// The message.
        message: String,
    },
    /// Only the first bytes of the frame are sent, then the connection is closed.
    CutAfter(usize),
    /// The frame's length word says more than any message may have.
    Oversize,
    /// A frame of the right form but without sense: no such program, an impossible type.
    Garbage,
    /// The reply's serial number is not that of any call.
    WrongSerial,
    /// The frame is sent in small pieces over so much time.
    Trickle(Duration),
}

/// How often a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Until it is cleared.
    Always,
    /// The next so many times.
    Next(u64),
}

impl Times {
    /// Takes one; `false` where none is left.
    pub(crate) fn take(&mut self) -> bool {
        match self {
            Self::Always => true,
            Self::Next(0) => false,
            Self::Next(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// What is wrong with the record of a domain in bulk statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordFault {
    /// The domain is listed, but has no record.
    Missing,
    /// The record has another name.
    Renamed(String),
    /// The record has another id; `None` for -1.
    ReId(Option<u32>),
    /// The record comes twice.
    Twice,
}

/// A parameter that should not be, added to the records of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParamFault {
    /// A parameter of this type tag, without a value: `x.unknown_type`.
    UnknownType(i32),
    /// A ULLONG whose key has so many bytes: `x.long_kkk...`. libvirt's limit is 79.
    LongKey(usize),
    /// A string that is not UTF-8: `x.not_utf8`.
    NonUtf8String,
    /// A ULLONG whose key is not UTF-8.
    NonUtf8Key,
    /// A string of so many bytes: `x.long_string`. libvirt's limit is 4 MiB.
    LongString(usize),
}

impl ParamFault {
    pub(crate) fn write(&self, out: &mut Writer) {
        match self {
            Self::UnknownType(tag) => {
                out.string("x.unknown_type").i32(*tag);
            }
            Self::LongKey(len) => {
                let key = format!("{:k<len$}", "x.long_");
                out.string(&key[..*len.min(&key.len())]).i32(4).u64(79);
            }
            Self::NonUtf8String => {
                out.string("x.not_utf8").i32(7).opaque(b"caf\xe9 \xff\xfe");
            }
            Self::NonUtf8Key => {
                out.opaque(b"x.caf\xe9").i32(4).u64(1);
            }
            Self::LongString(len) => {
                out.string("x.long_string").i32(7).opaque(&vec![b's'; *len]);
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct DomainFaults {
    pub(crate) hung: bool,
    pub(crate) delay: Duration,
    /// Another client holds the job; how often it is found so.
    pub(crate) busy: Option<Times>,
    /// Groups (`virDomainStatsTypes`) that lack what their monitor command would say.
    pub(crate) silent: u32,
    pub(crate) dies: bool,
    /// The daemon holds its lock.
    pub(crate) locked: bool,
    /// Its guest agent answers nothing; how long libvirt waits for it.
    pub(crate) agent_silence: Option<Duration>,
    pub(crate) record: Option<RecordFault>,
    pub(crate) params: Vec<ParamFault>,
}

#[derive(Debug)]
struct Armed {
    procedure: Option<Procedure>,
    fault: ReplyFault,
    times: Times,
}

/// Which faults are on.
#[derive(Debug, Default)]
pub(crate) struct FaultState {
    pub(crate) not_accepting: bool,
    pub(crate) no_pong: bool,
    pub(crate) frozen: bool,
    pub(crate) drop_after_calls: Option<u64>,
    pub(crate) reply_limit: Option<usize>,
    pub(crate) ghosts: Vec<Identity>,
    pub(crate) domains: HashMap<String, DomainFaults>,
    lost_events: Option<Times>,
    replies: Vec<Armed>,
}

impl FaultState {
    /// The faults that the reply of this call has, counted off.
    pub(crate) fn take_replies(&mut self, procedure: Procedure) -> Vec<ReplyFault> {
        let taken = self
            .replies
            .iter_mut()
            .filter(|armed| armed.procedure.is_none_or(|only| only == procedure))
            .filter_map(|armed| armed.times.take().then(|| armed.fault.clone()))
            .collect();
        self.replies.retain(|armed| armed.times != Times::Next(0));
        taken
    }

    pub(crate) fn agent_silence(&self, domain: &str) -> Option<Duration> {
        self.domains.get(domain)?.agent_silence
    }

    pub(crate) fn is_locked(&self, domain: &str) -> bool {
        self.domains.get(domain).is_some_and(|faults| faults.locked)
    }

    pub(crate) fn has_locks(&self) -> bool {
        self.domains.values().any(|faults| faults.locked)
    }

    pub(crate) fn loses_event(&mut self) -> bool {
        self.lost_events.as_mut().is_some_and(Times::take)
    }
}

/// Switches faults of a daemon on and off. Domains are named; a fault may be set for a domain that joins later.
#[derive(Debug, Clone, Copy)]
pub struct Faults<'a> {
    shared: &'a Shared,
}

impl<'a> Faults<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared }
    }

    fn set(self, change: impl FnOnce(&mut FaultState)) {
        self.shared.change(|state| change(&mut state.faults));
    }

    fn set_domain(self, name: &str, change: impl FnOnce(&mut DomainFaults)) {
        self.set(|faults| change(faults.domains.entry(name.to_owned()).or_default()));
    }

    /// Whether connections are accepted. The kernel queues those that are not, as it does when `max_clients` is reached.
    pub fn accept(self, on: bool) {
        self.set(|faults| faults.not_accepting = !on);
    }

    /// Whether keepalive pings are answered.
    pub fn pong(self, on: bool) {
        self.set(|faults| faults.no_pong = !on);
    }

    /// Stops the whole daemon as SIGSTOP would: nothing is accepted, read or written.
    pub fn freeze(self) {
        self.set(|faults| faults.frozen = true);
    }

    /// Ends [`Faults::freeze`].
    pub fn thaw(self) {
        self.set(|faults| faults.frozen = false);
    }

    /// Closes each connection when it makes more than so many calls; `None` ends that. Calls made before count.
    pub fn drop_after_calls(self, calls: Option<u64>) {
        self.set(|faults| faults.drop_after_calls = calls);
    }

    /// Answers with error 39 where a reply would be longer than so many bytes; `None` leaves libvirt's own limit.
    pub fn reply_limit(self, bytes: Option<usize>) {
        self.set(|faults| faults.reply_limit = bytes);
    }

    /// Loses so many events before they reach any client.
    pub fn lose_events(self, times: Times) {
        self.set(|faults| faults.lost_events = Some(times));
    }

    /// Sends events again.
    pub fn keep_events(self) {
        self.set(|faults| faults.lost_events = None);
    }

    /// Does something to the replies of a procedure.
    pub fn reply(self, procedure: Procedure, fault: ReplyFault, times: Times) {
        self.set(|faults| {
            faults.replies.push(Armed { procedure: Some(procedure), fault, times });
        });
    }

    /// Does something to the replies of every procedure.
    pub fn every_reply(self, fault: ReplyFault, times: Times) {
        self.set(|faults| {
            faults.replies.push(Armed { procedure: None, fault, times });
        });
    }

    /// Ends everything that [`Faults::reply`] and [`Faults::every_reply`] began.
    pub fn clear_replies(self) {
        self.set(|faults| faults.replies.clear());
    }

    /// Freezes a domain's QEMU: the first caller that asks its monitor blocks and holds its job, `NOWAIT` callers get what
    /// needs no monitor, others wait for the job as long as [`Limits::job_wait`](crate::scenario::Limits::job_wait) says
    /// and then get the same.
    pub fn hang_domain(self, name: &str) {
        self.set_domain(name, |faults| faults.hung = true);
    }

    /// Ends [`Faults::hang_domain`]; blocked calls complete.
    pub fn release_domain(self, name: &str) {
        self.set_domain(name, |faults| faults.hung = false);
    }

    /// Holds a domain's lock, as libvirt does while a hook runs: every call that looks at it waits, listings among them, until
    /// [`Faults::unlock_domain`].
    pub fn lock_domain(self, name: &str) {
        self.set_domain(name, |faults| faults.locked = true);
    }

    /// Ends [`Faults::lock_domain`]; calls that wait go on.
    pub fn unlock_domain(self, name: &str) {
        self.set_domain(name, |faults| faults.locked = false);
    }

    /// Keeps a domain's guest agent, which is connected, from answering: a call gets an error after this time (libvirt's own is 5 s
    /// for an agent that says nothing at all). Ended by [`Faults::clear_domain`].
    pub fn silence_agent(self, name: &str, wait: Duration) {
        self.set_domain(name, |faults| faults.agent_silence = Some(wait));
    }

    /// Makes a domain's monitor take so long, its job being held meanwhile.
    pub fn delay_domain(self, name: &str, delay: Duration) {
        self.set_domain(name, |faults| faults.delay = delay);
    }

    /// Lets another client hold a domain's job: `NOWAIT` callers find it held so often and get what needs no monitor; others
    /// wait for it, to the end of [`Limits::job_wait`](crate::scenario::Limits::job_wait) if it is held always.
    pub fn busy_domain(self, name: &str, times: Times) {
        self.set_domain(name, |faults| faults.busy = Some(times));
    }

    /// Ends [`Faults::busy_domain`].
    pub fn free_domain(self, name: &str) {
        self.set_domain(name, |faults| faults.busy = None);
    }

    /// Lets the monitor commands of these groups (`stats::group`) fail: libvirt omits their statistics.
    pub fn silence_groups(self, name: &str, groups: u32) {
        self.set_domain(name, |faults| faults.silent = groups);
    }

    /// Lets the domain's QEMU die in the next bulk call that asks its monitor (at the end of its hang, if it hangs). Before
    /// libvirt 11.3 the whole call fails with error 38 where the groups IOTHREAD, DIRTYRATE or PERF are asked for.
    pub fn die_mid_call(self, name: &str) {
        self.set_domain(name, |faults| faults.dies = true);
    }

    /// Spoils the records of a domain.
    pub fn record(self, name: &str, fault: RecordFault) {
        self.set_domain(name, |faults| faults.record = Some(fault));
    }

    /// Adds a parameter to the records of a domain.
    pub fn param(self, name: &str, fault: ParamFault) {
        self.set_domain(name, |faults| faults.params.push(fault));
    }

    /// Adds the record of a domain that no listing knows to every bulk reply over all domains.
    pub fn ghost(self, identity: Identity) {
        self.set(|faults| faults.ghosts.push(identity));
    }

    /// Ends every fault of a domain.
    pub fn clear_domain(self, name: &str) {
        self.set(|faults| {
            faults.domains.remove(name);
        });
    }

    /// Ends every fault.
    pub fn clear(self) {
        self.set(|faults| *faults = FaultState::default());
    }
}

#[cfg(test)]
mod tests {
    use super::{Armed, FaultState, ParamFault, ReplyFault, Times};
    use crate::procedure::Procedure::{AuthList, ConnectGetAllDomainStats};
    use crate::xdr::Writer;

    #[test]
    fn a_fault_for_the_next_two_replies_happens_twice() {
        let mut state = FaultState::default();
        state.replies.push(Armed { procedure: Some(AuthList), fault: ReplyFault::Swallow, times: Times::Next(2) });
        assert!(state.take_replies(ConnectGetAllDomainStats).is_empty());
        assert_eq!(state.take_replies(AuthList), [ReplyFault::Swallow]);
        assert_eq!(state.take_replies(AuthList), [ReplyFault::Swallow]);
        assert!(state.take_replies(AuthList).is_empty());
    }

    #[test]
    fn long_keys_have_the_length_asked_for() {
        for len in [3, 79, 80] {
            let mut out = Writer::new();
            ParamFault::LongKey(len).write(&mut out);
            let bytes = out.into_bytes();
            assert_eq!(usize::from(bytes[3]), len);
            assert_eq!(bytes.len(), 4 + len.next_multiple_of(4) + 12);
        }
    }
}
