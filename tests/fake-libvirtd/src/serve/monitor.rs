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

/// `REMOTE_DOMAIN_DISK_ERRORS_MAX`.
const DISK_ERRORS_MAX: u32 = 256;

/// The parameters of `virDomainBlockStatsFlags` and the keys of bulk statistics that they are.
const BLOCK_STATS: [(&str, &str); 8] = [
    ("wr_bytes", "wr.bytes"),
    ("wr_operations", "wr.reqs"),
    ("rd_bytes", "rd.bytes"),
    ("rd_operations", "rd.reqs"),
    ("flush_operations", "fl.reqs"),
    ("wr_total_times", "wr.times"),
    ("rd_total_times", "rd.times"),
    ("flush_total_times", "fl.times"),
];

/// The tags of `virDomainMemoryStats` and the keys of bulk statistics that they are.
const MEMORY_STATS: [(i32, &str); 11] = [
    (6, "balloon.current"),
    (0, "balloon.swap_in"),
    (1, "balloon.swap_out"),
    (2, "balloon.major_fault"),
    (3, "balloon.minor_fault"),
    (4, "balloon.unused"),
    (5, "balloon.available"),
    (8, "balloon.usable"),
    (9, "balloon.last-update"),
    (10, "balloon.disk_caches"),
    (7, "balloon.rss"),
];

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
                out.u32(if since.is_some() { CONTROL_OCCUPIED } else { CONTROL_OK });
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
            P::DomainGetDiskErrors => {
                let room = arguments.u32()?;
                if room > DISK_ERRORS_MAX {
                    return Err(Failure::rpc(format!("too many disk errors: {room}")));
                }
                self.have_job(domain)?;
                // A client without room is told how much it needs.
                let errors = if room > 0 { domain.disk_errors.as_slice() } else { &[] };
                out.count(errors.len());
                errors.iter().for_each(|(disk, code)| _ = out.string(disk).i32(*code));
                out.count(domain.disk_errors.len());
            }
            P::DomainBlockStats => {
                let path = arguments.string()?;
                self.block_stats(domain, &path, &mut out)?;
            }
            P::DomainBlockStatsFlags => {
                let path = arguments.string()?;
                let room = arguments.i32()?;
                self.block_stats_flags(domain, &path, room > 0, &mut out)?;
            }
            P::DomainInterfaceStats => {
                let device = arguments.string()?;
                self.interface_stats(domain, &device, &mut out)?;
            }
            _ => {
                self.have_job(domain)?;
                let stats = domain.stats(false);
                let known = |key: &str| stats.iter().any(|stat| stat.key == key);
                let sent = MEMORY_STATS.iter().filter(|(_, key)| known(key));
                out.count(sent.clone().count());
                for (tag, key) in sent {
                    out.i32(*tag).u64(stat(self, domain, key));
                }
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
        Self::admitted(&self.shared.enter_monitor(generation, &domain.name, domain.uuid, false))
    }

    fn admitted(admission: &Admission) -> Result<(), Failure> {
        match admission {
            Admission::Full(_) => Ok(()),
            Admission::Busy(_) => Err(job_timeout()),
            Admission::Gone => Err(Failure::Gone),
        }
    }

    fn job_stats(&self, entry: &Arc<Entry>, completed: bool, out: &mut Writer) -> Result<(), Failure> {
        let domain = &entry.domain;
        if !completed && domain.is_active() && domain.job.is_none() {
            // Without a job to ask it about, libvirt leaves the monitor alone.
            let generation = self.connection.generation;
            Self::admitted(&self.shared.take_job(generation, &domain.name, domain.uuid))?;
        } else if !completed {
            self.have_job(domain)?;
        }
        let job = domain.job.as_ref().filter(|job| (job.kind >= 3) == completed);
        out.i32(job.map_or(0, |job| job.kind));
        out.params(job.map_or(&[], |job| job.params.as_slice()));
        Ok(())
    }

    fn block_stats(&self, domain: &Domain, path: &str, out: &mut Writer) -> Result<(), Failure> {
        let prefix = self.block_of(domain, path)?;
        for key in ["rd.reqs", "rd.bytes", "wr.reqs", "wr.bytes"] {
            out.u64(stat(self, domain, &format!("{prefix}.{key}")));
        }
        out.i64(-1);
        Ok(())
    }

    /// The same with typed parameters, or only their number for a client that has no room yet.
    fn block_stats_flags(&self, domain: &Domain, path: &str, has_room: bool, out: &mut Writer) -> Result<(), Failure> {
        let prefix = self.block_of(domain, path)?;
        let mut params = Vec::new();
        for (name, key) in BLOCK_STATS {
            let value = stat(self, domain, &format!("{prefix}.{key}"));
            params.push((name.to_owned(), Value::LLong(value.cast_signed())));
        }
        out.params(if has_room { &params } else { &[] });
        out.count(if has_room { 0 } else { params.len() });
        Ok(())
    }

    fn block_of(&self, domain: &Domain, path: &str) -> Result<String, Failure> {
        self.have_job(domain)?;
        record_of(domain, "block", &["name", "path"], path).ok_or_else(|| {
            let message = format!("invalid argument: invalid path: {path}");
            Failure::qemu(code::INVALID_ARG, message)
        })
    }

    fn interface_stats(&self, domain: &Domain, device: &str, out: &mut Writer) -> Result<(), Failure> {
        if !domain.is_active() {
            return Err(not_running());
        }
        let prefix = record_of(domain, "net", &["name"], device).ok_or_else(|| {
            let message = format!("invalid argument: '{device}' is not a known interface");
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
