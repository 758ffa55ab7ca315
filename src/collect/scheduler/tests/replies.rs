//! What a scripted daemon sends.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::script::Reply;
use crate::collect::message::Answer;
use crate::collect::summary::{Summaries, summaries_of};
use crate::libvirt::{ErrorClass, LibvirtError, ParamValue, Records};
use crate::probes::Outcome;

pub(super) fn one_record(name: &str, uuid: Uuid) -> Records {
    let mut records = Records::default();
    records.push_domain(name, uuid, None);
    records.push("test.value", ParamValue::ULLong(1));
    records
}

pub(super) fn of_records(records: Records) -> Box<(Outcome, Summaries)> {
    let summaries = summaries_of(&records);
    Box::new((Outcome::Records(records), summaries))
}

pub(super) fn without_records(outcome: Outcome) -> Box<(Outcome, Summaries)> {
    Box::new((outcome, Summaries::default()))
}

/// A reply of this kind, as [`Daemon::answer`](super::script::Daemon::answer) gives it.
pub(super) fn reply(
    reply: Reply,
    takes: Duration,
    good: impl FnOnce() -> Outcome,
) -> Result<(Duration, Answer), Option<Instant>> {
    match reply {
        Reply::Good => Ok((takes, Ok(without_records(good())))),
        Reply::Hangs => Err(None),
        Reply::Fails(class) => Ok((takes, Err(error(class)))),
        Reply::FailsAfter(time) => Ok((time, Err(error(ErrorClass::Other(86))))),
    }
}

pub(super) fn error(class: ErrorClass) -> LibvirtError {
    LibvirtError::own("cannot do it", class, "the script says so")
}
