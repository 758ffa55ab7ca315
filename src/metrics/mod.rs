//! From records, definitions, events and counts to families, by the rows of [`tables`](crate::tables).
//!
//! `index` makes the tables ready for look-up, `matcher` interprets a key once per process, `instances` finds the name of
//! `block.0`, and `build` puts the samples into columns. `fill` makes the families of rows without keys, those of domains
//! (`domain_metrics`) and those of the host and the exporter (`self_metrics`). `lifetimes` follows the counters over several
//! collections. `dialect` gives the families the names of another exporter.

mod build;
mod columns;
pub(crate) mod dialect;
pub mod domain_metrics;
mod family;
mod fill;
mod histogram;
mod index;
mod instances;
mod labels;
mod lifetimes;
mod matcher;
mod names;
mod number;
mod reference;
pub mod self_metrics;
mod start;
mod subject;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::rc::Rc;

use foldhash::fast::RandomState;
use uuid::Uuid;

pub use build::{Built, Chains};
pub use dialect::translate;
pub use family::{Families, Family, Histogram, Meta, ReadTimes, Sample, Value};
pub use labels::{LabelSet, LabelTable};
pub use lifetimes::{Lifetimes, Taken};
pub use names::rename;
pub(crate) use number::float;
pub use reference::{MetricDoc, metric_docs};
pub use start::{DeviceStart, Start, Started};
pub use subject::{SubjectId, SubjectInfo, Subjects};

use crate::collect::Reading;
use crate::config::Config;
use crate::libvirt::{DomainRecord, Records};
pub(crate) use crate::probes::table_of;
pub use crate::tables::{Kind, Origin, Subject, Unit};
use build::Builder;
use index::Index;
use matcher::{Match, Matcher};
use parking_lot::Mutex;
use subject::push_domain;

/// After this part of the domains it is foreseen how many samples there will be.
const SAMPLED: usize = 8;

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
        self.build_with(batches, &[], &|_, _, _| None)
    }

    /// Builds the families of all domains in `batches`, and of what `readings` tell of them, of the host and of its objects;
    /// each kind ordered by name. A domain that is in several records, because it stopped or was renamed between two calls, counts once: as the
    /// first says. What a record tells of the layers of a disk is shown for those that are in its image chain according to
    /// `chains`.
    pub fn build_with(&self, batches: &[&Records], readings: &[&Reading], chains: Chains<'_>) -> Built {
        let mut domains = Matched::default();
        let mut read: BTreeMap<Subject, Matched<'_>> = BTreeMap::new();
        let ruled_families = {
            let mut matcher = self.matcher.lock();
            matcher.limit();
            batches.iter().for_each(|records| domains.add(records, &mut matcher, &self.index));
            for reading in readings {
                let of_kind = read.entry(table_of(reading.group).subject).or_default();
                of_kind.add(&reading.records, &mut matcher, &self.index);
            }
            matcher.ruled()
        };
        let mut seen: HashSet<Uuid, RandomState> = HashSet::default();
        domains.0.retain(|(record, _)| seen.insert(record.uuid));
        domains.sort();
        read.values_mut().for_each(Matched::sort);
        let mut builder = Builder::new(&self.index, &ruled_families, &self.config, chains);
        for (position, (record, matches)) in domains.0.iter().enumerate() {
            if position > 0 && position == domains.0.len() / SAMPLED {
                builder.foresee(SAMPLED);
            }
            builder.add(Subject::Domain, record, matches);
        }
        for (kind, records) in &read {
            records.0.iter().for_each(|(record, matches)| builder.add(*kind, record, matches));
        }
        builder.finish()
    }

    /// The subject of a domain of `built`, or of one that has no record there.
    pub fn subject(&self, built: &mut Built, name: &str, uuid: Uuid) -> SubjectId {
        let families = &mut built.families;
        *built.subjects.entry(uuid).or_insert_with(|| push_domain(families, &self.config, name, uuid))
    }
}

/// Records, each with what its keys stand for.
#[derive(Default)]
struct Matched<'r>(Vec<(DomainRecord<'r>, Rc<[Match]>)>);

impl<'r> Matched<'r> {
    fn add(&mut self, records: &'r Records, matcher: &mut Matcher, index: &Index) {
        let matches: Rc<[Match]> = records.keys().map(|key| matcher.resolve(index, key)).collect();
        self.0.extend(records.domains().map(|record| (record, Rc::clone(&matches))));
    }

    fn sort(&mut self) {
        self.0.sort_by(|(a, _), (b, _)| (a.name, a.uuid).cmp(&(b.name, b.uuid)));
    }
}

/// The names of the domain states, by their number in libvirt.
#[must_use]
pub fn states() -> &'static [&'static str] {
    crate::tables::STATES
}
