//! Calls about one domain that ask its monitor, or about that monitor.

use std::sync::Arc;

use super::domain::{not_running, stat};
use super::{Call, Failure, Reply, code};
use crate::connection::payload;
use crate::domain::{Domain, Entry};
use crate::params::Value;
use crate::procedure::Procedure as P;
use crate::shared::Admission;
use crate::xdr::Writer;

/// `VIR_DOMAIN_CONTROL_OK` and `VIR_DOMAIN_CONTROL_OCCUPIED`.
const CONTROL_OK: u32 = 0;
const CONTROL_OCCUPIED: u32 = 2;
/// `VIR_DOMAIN_JOB_STATS_COMPLETED`.
const COMPLETED: u32 = 1;

/// What a call gets that could not have the job of a domain in time.
pub(super) fn job_timeout() -> Failure {
    Failure::qemu(
        code::OPERATION_TIMEOUT,
        "Timed out during operation: cannot acquire state change lock (held by monitor=remoteDispatchConnectGetAllDomainStats)",
    )
}

impl Call {
    pub(super) fn serve_monitor(&self) -> Reply {
        let mut arguments = self.arguments();
        let entry = self.domain(&mut arguments)?;
        let domain = &entry.domain;
        let mut out = payload();
        match self.procedure {
            P::DomainGetControlInfo => {
                if !domain.is_active() {
                    return Err(not_running());
                }
                let since = self.shared.job_since(domain.uuid);
                let millis = since.map(|since| since.elapsed().as_millis());
                out.u32(if since.is_some() {
                    CONTROL_OCCUPIED
                } else {
                    CONTROL_OK
                });
                out.u32(0);
                out.u64(millis.map_or(0, |millis| u64::try_from(millis).unwrap_or(u64::MAX)));
            }
            P::DomainGetJobStats => {
                let completed = arguments.u32()? & COMPLETED != 0;
                self.job_stats(&entry, completed, &mut out)?;
            }
            P::DomainGetJobInfo => {
                self.have_job(domain)?;
                out.i32(domain.job.as_ref().map_or(0, |job| job.kind));
                // Two times, then three counts each of data, memory and files.
                for _ in 0..11 {
                    out.u64(0);
                }
            }
            P::DomainBlockStats => {
                let path = arguments.string()?;
                self.block_stats(domain, &path, &mut out)?;
            }
            P::DomainInterfaceStats => {
                let device = arguments.string()?;
                self.interface_stats(domain, &device, &mut out)?;
            }
            P::DomainMemoryStats => {
                self.have_job(domain)?;
                // Tags of virDomainMemoryStatTags: 6 is the balloon's size, 7 QEMU's resident set.
                out.count(2);
                out.i32(6).u64(stat(self, domain, "balloon.current"));
                out.i32(7).u64(stat(self, domain, "balloon.rss"));
            }
            _ => {
                self.refuse_read_only("virDomainGetGuestInfo")?;
                return Err(Failure::qemu(
                    code::AGENT_UNRESPONSIVE,
                    "Guest agent is not responding: QEMU guest agent is not connected",
                ));
            }
        }
        Ok(out)
    }

    /// Takes the job of an active domain and gives it back.
    pub(super) fn have_job(&self, domain: &Domain) -> Result<(), Failure> {
        if !domain.is_active() {
            return Err(not_running());
        }
        let generation = self.connection.generation;
        match self
            .shared
            .enter_monitor(generation, &domain.name, domain.uuid, false)
        {
            Admission::Full(_) => Ok(()),
            Admission::Busy(_) => Err(job_timeout()),
            Admission::Gone => Err(Failure::Gone),
        }
    }

    fn job_stats(
        &self,
        entry: &Arc<Entry>,
        completed: bool,
        out: &mut Writer,
    ) -> Result<(), Failure> {
        let domain = &entry.domain;
        if !completed {
            self.have_job(domain)?;
        }
        let job = domain
            .job
            .as_ref()
            .filter(|job| (job.kind >= 3) == completed);
        out.i32(job.map_or(0, |job| job.kind));
        out.params(job.map_or(&[], |job| job.params.as_slice()));
        Ok(())
    }

    fn block_stats(&self, domain: &Domain, path: &str, out: &mut Writer) -> Result<(), Failure> {
        self.have_job(domain)?;
        let prefix = record_of(domain, "block", &["name", "path"], path).ok_or_else(|| {
            let message = format!("invalid argument: invalid path: {path}");
            Failure::qemu(code::INVALID_ARG, message)
        })?;
        for key in ["rd.reqs", "rd.bytes", "wr.reqs", "wr.bytes"] {
            out.u64(stat(self, domain, &format!("{prefix}.{key}")));
        }
        out.i64(-1);
        Ok(())
    }

    fn interface_stats(
        &self,
        domain: &Domain,
        device: &str,
        out: &mut Writer,
    ) -> Result<(), Failure> {
        let prefix = record_of(domain, "net", &["name"], device).ok_or_else(|| {
            let message =
                format!("invalid argument: invalid path, '{device}' is not a known interface");
            Failure::qemu(code::INVALID_ARG, message)
        })?;
        for direction in ["rx", "tx"] {
            for key in ["bytes", "pkts", "errs", "drop"] {
                out.u64(stat(self, domain, &format!("{prefix}.{direction}.{key}")));
            }
        }
        Ok(())
    }
}

/// The prefix (`block.1`) of the record of which one of these fields has this value.
fn record_of(domain: &Domain, group: &str, fields: &[&str], wanted: &str) -> Option<String> {
    domain.stats(false).into_iter().find_map(|stat| {
        let (prefix, field) = stat.key.rsplit_once('.')?;
        let matches = matches!(&stat.value, Value::String(value) if value == wanted);
        (prefix.starts_with(group) && fields.contains(&field) && matches).then(|| prefix.to_owned())
    })
}
