//! What the info metrics of a collection say of each domain, disk and interface: values for labels of other families.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::Source;
use crate::metrics::{Families, Family, LabelSet, LabelTable, SubjectId};
use crate::tables::definition::{BLOCK_INFO, INFO, INTERFACE_INFO};

/// Which thing: of which domain, and its name.
type Thing = (SubjectId, String);

/// The info samples of a collection, by what they are about.
#[derive(Debug, Default)]
pub(super) struct Things {
    domains: HashMap<SubjectId, LabelSet, RandomState>,
    /// With the position of each disk among those of its domain.
    disks: HashMap<Thing, (LabelSet, usize), RandomState>,
    interfaces: HashMap<Thing, LabelSet, RandomState>,
}

impl Things {
    pub(super) fn of(labels: &LabelTable, native: &[Family]) -> Self {
        let mut things = Self::default();
        let mut last = None;
        for family in native {
            for sample in &family.samples {
                let named = |label| (sample.subject(), label_of(labels, sample.labels(), label).to_owned());
                if family.meta.name == INFO.row.name {
                    things.domains.insert(sample.subject(), sample.labels());
                } else if family.meta.name == INTERFACE_INFO.row.name {
                    things.interfaces.insert(named("interface"), sample.labels());
                } else if family.meta.name == BLOCK_INFO.row.name {
                    // The samples of one domain stand next to each other, in the order of its definition.
                    let number = match last {
                        Some((subject, number)) if subject == sample.subject() => number + 1,
                        _ => 0,
                    };
                    last = Some((sample.subject(), number));
                    things.disks.insert(named("device"), (sample.labels(), number));
                }
            }
        }
        things
    }

    /// The value of `source` for a sample of `subject` with the labels `own`; empty where there is none.
    pub(super) fn value<'f>(
        &self,
        families: &'f Families,
        source: Source,
        subject: SubjectId,
        own: LabelSet,
    ) -> Cow<'f, str> {
        let labels = &families.labels;
        let of = |set: Option<LabelSet>, name: &str| set.map_or("", |set| label_of(labels, set, name));
        let thing = |label: &str| (subject, label_of(labels, own, label).to_owned());
        let disk = || self.disks.get(&thing("device")).copied();
        let disk_label = |name: &str| of(disk().map(|(set, _)| set), name);
        let identity = families.subjects.get(subject).identity;
        match source {
            Source::Name => label_of(labels, identity, "domain").into(),
            Source::Uuid => label_of(labels, identity, "uuid").into(),
            Source::Own(name) => match label_of(labels, own, name) {
                "" => label_of(labels, families.subjects.get(subject).labels, name).into(),
                value => value.into(),
            },
            Source::Disk(name) => disk_label(name).into(),
            Source::DiskNumber => disk().map_or(Cow::Borrowed(""), |(_, number)| number.to_string().into()),
            Source::DiskImage => match disk_label("path") {
                // `protocol:name`
                "" => disk_label("source").split_once(':').map_or("", |(_, name)| name).into(),
                path => path.into(),
            },
            Source::DiskFile => if disk_label("disk_type") == "file" { disk_label("path") } else { "" }.into(),
            Source::DiskProtocol => match disk_label("disk_type") {
                "network" => disk_label("source").split(':').next().unwrap_or_default().into(),
                _ => "".into(),
            },
            Source::Interface(name) => of(self.interfaces.get(&thing("interface")).copied(), name).into(),
            Source::IfInfo(name, word) => {
                let known = of(self.domains.get(&subject).copied(), name);
                if known.is_empty() { "" } else { word }.into()
            }
            Source::StateText(texts) => {
                let number = state_number(label_of(labels, own, "state"));
                number.and_then(|number| texts.get(number)).copied().unwrap_or_default().into()
            }
        }
    }
}

/// The number of a domain's state in libvirt.
pub(super) fn state_number(state: &str) -> Option<usize> {
    position(crate::tables::STATES, state, "state_")
}

/// The position of `name` in `names`; that of one which this version has no name for is in it.
pub(super) fn position(names: &[&str], name: &str, unnamed: &str) -> Option<usize> {
    names.iter().position(|known| *known == name).or_else(|| name.strip_prefix(unnamed)?.parse().ok())
}

/// The value of a label; empty where the set does not have it.
pub(super) fn label_of<'l>(labels: &'l LabelTable, set: LabelSet, name: &str) -> &'l str {
    labels.get(set).find(|(label, _)| *label == name).map_or("", |(_, value)| value)
}
