//! From records, definitions, events and counts to families, by the rows of [`tables`](crate::tables).
//!
//! `index` makes the tables ready for look-up, `matcher` interprets a key once per process, `instances` finds the name of
//! `block.0`, and `build` puts the samples into columns. `fill` makes the families of rows without keys, those of domains
//! (`domain_metrics`) and those of the host and the exporter (`self_metrics`). `lifetimes` follows the counters over several
//! collections.

mod build;
mod columns;
pub mod domain_metrics;
mod family;
mod fill;
mod histogram;
mod index;
mod instances;
mod labels;
mod lifetimes;
mod listing;
mod matcher;
mod number;
pub mod self_metrics;
mod start;
mod subject;

use std::fmt;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

pub use build::{Built, Chains};
pub use family::{Families, Family, Histogram, Meta, Sample, Value};
pub use labels::{LabelSet, LabelTable};
pub use lifetimes::{Lifetimes, Taken};
pub use listing::{Listed, listed};
pub(crate) use number::float;
pub use start::{DeviceStart, Start, Started};
pub use subject::{SubjectId, SubjectInfo, Subjects};

use crate::config::Config;
use crate::libvirt::{DomainRecord, Records};
pub use crate::tables::{Kind, Origin, Subject, Unit};
use build::{Builder, push_domain};
use index::Index;
use matcher::Matcher;

/// Builds families from records as the configuration wants it: which groups, which families, which labels.
pub struct FamilyBuilder {
    config: Config,
    index: Index,
    matcher: Mutex<Matcher>,
}

impl fmt::Debug for FamilyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FamilyBuilder").field("rows", &self.index.rows.len()).finish_non_exhaustive()
    }
}

impl FamilyBuilder {
    /// A builder for `config`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { config: config.clone(), index: Index::new(config), matcher: Mutex::new(Matcher::new(config)) }
    }

    /// Builds the families of all domains in `batches` whose disks' image chains are not known.
    pub fn build(&self, batches: &[&Records]) -> Built {
        self.build_with(batches, &|_, _, _| None)
    }

    /// Builds the families of all domains in `batches`, ordered by name. A domain that is in several records, because it
    /// stopped between two calls, counts once: as the first says. What a record tells of the layers of a disk is shown for those
    /// that are in its image chain according to `chains`.
    pub fn build_with(&self, batches: &[&Records], chains: Chains<'_>) -> Built {
        // A panic while the lock was held cannot leave a wrong cache behind: entries are added whole.
        let mut matcher = self.matcher.lock().unwrap_or_else(PoisonError::into_inner);
        matcher.limit();
        let mut domains: Vec<(DomainRecord<'_>, Rc<[usize]>)> = Vec::new();
        for records in batches {
            let numbers: Rc<[usize]> = records.keys().map(|key| matcher.resolve(&self.index, key)).collect();
            domains.extend(records.domains().map(|domain| (domain, Rc::clone(&numbers))));
        }
        domains.sort_by(|(a, _), (b, _)| (a.name, a.uuid).cmp(&(b.name, b.uuid)));
        domains.dedup_by(|(later, _), (earlier, _)| later.uuid == earlier.uuid);
        let mut builder = Builder::new(&self.index, matcher.resolved(), &self.config, chains);
        for (domain, numbers) in &domains {
            builder.add(domain, numbers);
        }
        builder.finish()
    }

    /// The subject of a domain of `built`, or of one that has no record there.
    pub fn subject(&self, built: &mut Built, name: &str, uuid: Uuid) -> SubjectId {
        let families = &mut built.families;
        *built.subjects.entry(uuid).or_insert_with(|| push_domain(families, &self.config, name, uuid))
    }
}

/// The names of the domain states, by their number in libvirt.
#[must_use]
pub fn states() -> &'static [&'static str] {
    crate::tables::STATES
}
