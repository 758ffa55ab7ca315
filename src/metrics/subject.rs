//! What the samples of a collection describe.

use uuid::Uuid;

use super::family::Families;
use super::labels::LabelSet;
use super::start::Started;
use crate::config::{Config, DomainLabel};
use crate::tables::Subject;

/// The number of a subject in [`Subjects`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectId(u32);

impl SubjectId {
    /// The exporter itself.
    pub const EXPORTER: Self = Self(0);
    /// The host and its libvirt.
    pub const HOST: Self = Self(1);

    /// The position in the table, from 0 on.
    #[must_use]
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }

    pub(super) fn of(number: u32) -> Self {
        Self(number)
    }
}

/// One subject of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectInfo {
    /// The kind of subject. It decides the names of its OpenTelemetry attributes and which resource its samples have.
    pub kind: Subject,
    /// The labels of all of its samples.
    pub labels: LabelSet,
    /// The name and the UUID of a domain as `domain` and `uuid`, whichever of them its samples are labelled with.
    pub identity: LabelSet,
    /// When its counters began; `None` if nothing about that is known.
    pub started: Option<Started>,
}

/// The subjects of a collection: the exporter, the host, and any others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects(Vec<SubjectInfo>);

impl Default for Subjects {
    fn default() -> Self {
        let unlabelled = |kind| SubjectInfo { kind, labels: LabelSet::EMPTY, identity: LabelSet::EMPTY, started: None };
        Self(vec![unlabelled(Subject::Exporter), unlabelled(Subject::Host)])
    }
}

impl Subjects {
    /// Adds a subject, whose labels are its identity as well.
    pub fn push(&mut self, kind: Subject, labels: LabelSet) -> SubjectId {
        // More than 2^32 subjects would need more memory than the kernel gives a process its size.
        let number = u32::try_from(self.0.len()).unwrap_or(0);
        self.0.push(SubjectInfo { kind, labels, identity: labels, started: None });
        SubjectId(number)
    }

    /// The subject with a number.
    #[must_use]
    pub fn get(&self, id: SubjectId) -> &SubjectInfo {
        &self.0[id.index()]
    }

    /// The subject with a number.
    pub fn get_mut(&mut self, id: SubjectId) -> &mut SubjectInfo {
        &mut self.0[id.index()]
    }

    /// All subjects in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &SubjectInfo> {
        self.0.iter()
    }

    /// All subjects in the order of their numbers.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut SubjectInfo> {
        self.0.iter_mut()
    }

    /// The same subjects, without their starts.
    #[must_use]
    pub fn without_starts(&self) -> Self {
        Self(self.0.iter().map(|subject| SubjectInfo { started: None, ..*subject }).collect())
    }
}

/// Adds a domain, labelled as the configuration wants it.
pub(super) fn push_domain(families: &mut Families, config: &Config, name: &str, uuid: Uuid) -> SubjectId {
    let uuid = uuid.hyphenated().to_string();
    let labels = config.domains.labels.iter().map(|label| match label {
        DomainLabel::Domain => ("domain", name),
        DomainLabel::Uuid => ("uuid", uuid.as_str()),
    });
    let subject = families.push_subject(Subject::Domain, labels);
    if !DomainLabel::ALL.iter().all(|label| config.domains.labels.contains(label)) {
        families.subjects.get_mut(subject).identity = families.labels.push([("domain", name), ("uuid", &uuid)]);
    }
    subject
}
