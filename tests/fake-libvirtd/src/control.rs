//! Commands, one a line, that switch faults, send events and change domains: for scenario files, and for the control socket
//! of the program.
//!
//! A word that holds a space is written as a JSON string. Times are written `300ms`, `5s`, `1m`.
//!
//! | command | what it does |
//! |---|---|
//! | `hang D`, `release D` | freezes the QEMU of domain D, and lets it go on |
//! | `busy D N`, `busy D all`, `busy D off` | lets another client hold D's job when it is asked for N times, or always |
//! | `silence D GROUPS` | lets the monitor commands of these groups (a number, `virDomainStatsTypes`) of D fail |
//! | `lock D`, `unlock D` | holds D's lock, as while a hook runs: every call that looks at D waits |
//! | `silence-agent D TIME` | calls for D's guest agent wait for so long and fail |
//! | `delay D TIME` | lets D's monitor take so long |
//! | `die D` | lets D's QEMU die in the next bulk call |
//! | `record D missing`, `twice`, `renamed NAME`, `id N` | spoils D's record in bulk statistics (`id -` for none) |
//! | `param D unknown-type TAG`, `long-key LEN`, `not-utf8`, `not-utf8-key`, `long-string LEN` | adds a bad parameter to D's records |
//! | `ghost NAME` | adds the record of a domain that no listing knows |
//! | `clear-domain D` | ends the faults of D |
//! | `accept on`, `off` | whether connections are accepted |
//! | `pong on`, `off` | whether keepalive pings are answered |
//! | `freeze`, `thaw` | stops the daemon as SIGSTOP would, and lets it go on |
//! | `drop-after N`, `off` | closes connections that make more than N calls |
//! | `reply-limit BYTES`, `off` | error 39 for longer replies |
//! | `lose-events N`, `all`, `off` | loses the next N events |
//! | `reply PROC [next N] FAULT` | spoils the replies of a procedure (or `all`); FAULT is `delay TIME`, `swallow`, `disconnect`, `error CODE TEXT`, `cut BYTES`, `oversize`, `garbage`, `wrong-serial` or `trickle TIME` |
//! | `clear-replies`, `clear` | ends the faults of replies; ends every fault |
//! | `event D NAME`, `event D lifecycle EVENT DETAIL` | sends an event of D, with example arguments |
//! | `storm N TIME [NAME...]` | sends N events of all domains over a time |
//! | `closed REASON` | sends the message that the hypervisor connection is lost |
//! | `add NAME TEMPLATE`, `remove D` | changes the set of domains without an event |
//! | `define NAME TEMPLATE`, `undefine D`, `rename D NAME` | the same with libvirt's events |
//! | `start D`, `destroy D`, `shutdown D`, `suspend D`, `resume D`, `reboot D`, `kill D` | changes the state of D, with libvirt's events (`kill` is the death of its QEMU) |
//! | `state D STATE`, `id D N` | changes state or id without an event |
//! | `advance TIME` | sets the clock forward |
//! | `disconnect`, `stop`, `restart` | closes all connections; ends the daemon; starts it again (ends it first if need be) |
//! | `counters`, `reset-counters`, `domains`, `help` | tells what clients asked; forgets it; lists domains; tells this |

use std::io;

mod socket;
mod words;

pub use socket::{ControlSocket, send, serve};
use words::Words;

use crate::daemon::FakeLibvirtd;
use crate::domain::{Domain, DomainState, uuid_of};
use crate::domains::UnknownDomain;
use crate::event::{EVENT_NAMES, Event, Identity};
use crate::fault::{ParamFault, RecordFault, ReplyFault, Times};
use crate::lifecycle::Change;
use crate::procedure::Procedure;

/// Why a command was refused.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such command.
    #[error("no command {0:?}")]
    Unknown(String),
    /// An argument is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// An argument is not what it should be.
    #[error("{text:?} is not {expected}")]
    Malformed {
        /// What the command takes there.
        expected: &'static str,
        /// What stands there.
        text: String,
    },
    /// Words follow that the command does not take.
    #[error("unexpected {0:?}")]
    Trailing(String),
    /// There is no such domain.
    #[error(transparent)]
    UnknownDomain(#[from] UnknownDomain),
    /// The daemon could not be started again.
    #[error("cannot start again")]
    Restart(#[source] io::Error),
}

type Result<T> = std::result::Result<T, CommandError>;

fn malformed(expected: &'static str, text: &str) -> CommandError {
    CommandError::Malformed { expected, text: text.to_owned() }
}

/// Runs one command and returns what it has to tell.
///
/// # Errors
///
/// When there is no such command, or its arguments are wrong.
pub fn run(daemon: &FakeLibvirtd, line: &str) -> Result<String> {
    let mut words = Words { rest: line.trim() };
    let Some(command) = words.optional()? else {
        return Ok(String::new());
    };
    let known = run_fault(daemon, &command, &mut words)?
        || run_event(daemon, &command, &mut words)?
        || run_domain(daemon, &command, &mut words)?
        || run_daemon(daemon, &command, &mut words)?;
    let told = match command.as_str() {
        _ if known => String::new(),
        "counters" => counters(daemon),
        "domains" => domains(daemon),
        "help" => help(),
        _ => return Err(CommandError::Unknown(command)),
    };
    words.end()?;
    Ok(told)
}

fn run_fault(daemon: &FakeLibvirtd, command: &str, words: &mut Words<'_>) -> Result<bool> {
    let faults = daemon.faults();
    match command {
        "hang" => faults.hang_domain(&words.domain(daemon)?),
        "release" => faults.release_domain(&words.domain(daemon)?),
        "busy" => {
            let domain = words.domain(daemon)?;
            match times(words)? {
                Some(times) => faults.busy_domain(&domain, times),
                None => faults.free_domain(&domain),
            }
        }
        "silence" => faults.silence_groups(&words.domain(daemon)?, words.number("a number")?),
        "lock" => faults.lock_domain(&words.domain(daemon)?),
        "unlock" => faults.unlock_domain(&words.domain(daemon)?),
        "silence-agent" => faults.silence_agent(&words.domain(daemon)?, words.time()?),
        "delay" => faults.delay_domain(&words.domain(daemon)?, words.time()?),
        "die" => faults.die_mid_call(&words.domain(daemon)?),
        "record" => faults.record(&words.domain(daemon)?, record_fault(words)?),
        "param" => faults.param(&words.domain(daemon)?, param_fault(words)?),
        "ghost" => {
            let name = words.word("a name")?;
            faults.ghost(Identity { uuid: uuid_of(&name), name, id: Some(99_999) });
        }
        "clear-domain" => faults.clear_domain(&words.domain(daemon)?),
        "accept" => faults.accept(words.on_or_off()?),
        "pong" => faults.pong(words.on_or_off()?),
        "freeze" => faults.freeze(),
        "thaw" => faults.thaw(),
        "drop-after" => faults.drop_after_calls(words.number_or_off()?),
        "reply-limit" => faults.reply_limit(words.number_or_off()?),
        "lose-events" => match times(words)? {
            Some(times) => faults.lose_events(times),
            None => faults.keep_events(),
        },
        "reply" => reply(daemon, words)?,
        "clear-replies" => faults.clear_replies(),
        "clear" => faults.clear(),
        _ => return Ok(false),
    }
    Ok(true)
}

/// How often something happens; `None` for `off`.
fn times(words: &mut Words<'_>) -> Result<Option<Times>> {
    match words.word("a number, all or off")?.as_str() {
        "all" => Ok(Some(Times::Always)),
        "off" => Ok(None),
        number => Ok(Some(Times::Next(number.parse().map_err(|_| malformed("a number, all or off", number))?))),
    }
}

fn record_fault(words: &mut Words<'_>) -> Result<RecordFault> {
    match words.word("what is wrong with the record")?.as_str() {
        "missing" => Ok(RecordFault::Missing),
        "twice" => Ok(RecordFault::Twice),
        "renamed" => Ok(RecordFault::Renamed(words.word("a name")?)),
        "id" => match words.word("an id or -")?.as_str() {
            "-" => Ok(RecordFault::ReId(None)),
            id => {
                let id = id.parse().map_err(|_| malformed("an id or -", id))?;
                Ok(RecordFault::ReId(Some(id)))
            }
        },
        other => Err(malformed("missing, twice, renamed or id", other)),
    }
}

fn param_fault(words: &mut Words<'_>) -> Result<ParamFault> {
    match words.word("what is wrong with the parameter")?.as_str() {
        "unknown-type" => Ok(ParamFault::UnknownType(words.number("a type tag")?)),
        "long-key" => Ok(ParamFault::LongKey(words.number("a length")?)),
        "not-utf8" => Ok(ParamFault::NonUtf8String),
        "not-utf8-key" => Ok(ParamFault::NonUtf8Key),
        "long-string" => Ok(ParamFault::LongString(words.number("a length")?)),
        other => Err(malformed("unknown-type, long-key, not-utf8, not-utf8-key or long-string", other)),
    }
}

fn reply(daemon: &FakeLibvirtd, words: &mut Words<'_>) -> Result<()> {
    let name = words.word("a procedure or all")?;
    let procedure = match name.as_str() {
        "all" => None,
        name => Some(Procedure::from_name(name).ok_or_else(|| malformed("a procedure", name))?),
    };
    let mut fault = words.word("a fault")?;
    let mut times = Times::Always;
    if fault == "next" {
        times = Times::Next(words.number("a number")?);
        fault = words.word("a fault")?;
    }
    let fault = match fault.as_str() {
        "delay" => ReplyFault::Delay(words.time()?),
        "swallow" => ReplyFault::Swallow,
        "disconnect" => ReplyFault::Disconnect,
        "error" => ReplyFault::Error { code: words.number("an error code")?, message: words.word("a message")? },
        "cut" => ReplyFault::CutAfter(words.number("a number of bytes")?),
        "oversize" => ReplyFault::Oversize,
        "garbage" => ReplyFault::Garbage,
        "wrong-serial" => ReplyFault::WrongSerial,
        "trickle" => ReplyFault::Trickle(words.time()?),
        other => return Err(malformed("a fault", other)),
    };
    match procedure {
        Some(procedure) => daemon.faults().reply(procedure, fault, times),
        None => daemon.faults().every_reply(fault, times),
    }
    Ok(())
}

fn run_event(daemon: &FakeLibvirtd, command: &str, words: &mut Words<'_>) -> Result<bool> {
    match command {
        "event" => {
            let domain = words.domain(daemon)?;
            let event = match example(&words.word("an event")?)? {
                Event::Lifecycle { .. } => {
                    Event::lifecycle(words.number("an event number")?, words.number("a detail")?)
                }
                other => other,
            };
            daemon.events().send(&domain, event)?;
        }
        "storm" => {
            let count = words.number("a number")?;
            let time = words.time()?;
            let mut events = Vec::new();
            while let Some(name) = words.optional()? {
                events.push(example(&name)?);
            }
            if events.is_empty() {
                events = vec![Event::lifecycle(3, 0), Event::lifecycle(4, 0)];
            }
            daemon.events().storm(count, time, &events);
        }
        "closed" => daemon.events().connection_closed(words.number("a reason")?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn example(name: &str) -> Result<Event> {
    EVENT_NAMES
        .iter()
        .position(|known| *known == name)
        .and_then(|id| Event::examples().into_iter().nth(id))
        .ok_or_else(|| malformed("an event", name))
}

fn run_domain(daemon: &FakeLibvirtd, command: &str, words: &mut Words<'_>) -> Result<bool> {
    let domains = daemon.domains();
    let change = match command {
        "start" => Change::Start,
        "destroy" => Change::Destroy,
        "shutdown" => Change::Shutdown,
        "suspend" => Change::Suspend,
        "resume" => Change::Resume,
        "reboot" => Change::Reboot,
        "kill" => Change::Die,
        "add" => {
            domains.add(Domain::new(words.word("a name")?, words.template()?));
            return Ok(true);
        }
        "define" => {
            domains.define(Domain::new(words.word("a name")?, words.template()?));
            return Ok(true);
        }
        "remove" => {
            domains.remove(&words.word("a domain")?)?;
            return Ok(true);
        }
        "undefine" => {
            domains.undefine(&words.word("a domain")?)?;
            return Ok(true);
        }
        "rename" => {
            domains.rename(&words.word("a domain")?, &words.word("a name")?)?;
            return Ok(true);
        }
        "state" => {
            let name = words.word("a domain")?;
            let state = words.word("a state")?;
            let state: DomainState = serde_yaml::from_str(&state).map_err(|_| malformed("a state", &state))?;
            domains.update(&name, |domain| {
                domain.set_state(state, state.usual_reason());
            })?;
            return Ok(true);
        }
        "id" => {
            let name = words.word("a domain")?;
            let id = words.number("an id")?;
            domains.update(&name, |domain| domain.id = Some(id))?;
            return Ok(true);
        }
        _ => return Ok(false),
    };
    domains.change(&words.word("a domain")?, change)?;
    Ok(true)
}

fn run_daemon(daemon: &FakeLibvirtd, command: &str, words: &mut Words<'_>) -> Result<bool> {
    match command {
        "advance" => daemon.advance(words.time()?),
        "disconnect" => daemon.disconnect_all(),
        "stop" => daemon.kill(),
        "restart" => {
            daemon.kill();
            daemon.revive().map_err(CommandError::Restart)?;
        }
        "reset-counters" => daemon.counters().reset(),
        _ => return Ok(false),
    }
    Ok(true)
}

fn counters(daemon: &FakeLibvirtd) -> String {
    let counters = daemon.counters();
    let mut lines = vec![
        format!("connections {}", counters.connections().len()),
        format!("open_connections {}", counters.open_connections()),
        format!("concurrent_max {}", counters.concurrent_max()),
        format!("events_sent {}", counters.events_sent()),
    ];
    let calls = counters.by_procedure();
    lines.extend(calls.iter().map(|(procedure, calls)| match procedure {
        Procedure::Other(number) => format!("calls other({number}) {calls}"),
        known => format!("calls {} {calls}", known.name()),
    }));
    if let Some(last) = counters.log_of(Procedure::ConnectGetAllDomainStats).last() {
        lines.push(format!(
            "last_stats groups=0x{:x} flags=0x{:x} domains={} bytes={} seconds={:.3}",
            last.stats.unwrap_or(0),
            last.flags.unwrap_or(0),
            last.domains.unwrap_or(0),
            last.reply_bytes,
            last.duration.unwrap_or_default().as_secs_f64()
        ));
    }
    lines.join("\n")
}

fn domains(daemon: &FakeLibvirtd) -> String {
    let domains = daemon.domains();
    let lines: Vec<String> = domains
        .names()
        .into_iter()
        .filter_map(|name| domains.get(&name))
        .map(|domain| {
            let id = domain.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
            format!("{id} {} {:?} {}", domain.uuid, domain.state, domain.name)
        })
        .collect();
    lines.join("\n")
}

fn help() -> String {
    let source = include_str!("control.rs");
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let rows: Vec<String> = rows.map(|row| row.replace('`', "").replace(" |", "")).collect();
    rows.join("\n")
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
