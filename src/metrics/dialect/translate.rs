//! The step from native families to those of another exporter.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::things::{Things, label_of, position, state_number};
use super::{Asked, Dialect, Entry, Label, Values, Zero};
use crate::config::{Group, MetricNaming};
use crate::metrics::{Families, Family, LabelSet, Meta, Sample, Start, SubjectId, Value, float};
use crate::tables::{Kind, Origin, REASONS, Unit};

/// The families under the names of `naming`, those of that exporter in front. A native family that one of them is made of is
/// replaced by it; an info metric stays, as it says more, unless its name is needed. `only` leaves out all native ones but those
/// of the process, whose names all exporters share. `collected` says which groups the families are of.
#[must_use]
pub fn translate(
    mut families: Families,
    naming: MetricNaming,
    only: bool,
    collected: &dyn Fn(Group) -> bool,
) -> Families {
    let Some(dialect) = Dialect::of(naming) else { return families };
    let native = mem::take(&mut families.families);
    let mut translation = Translation::new(&mut families, &native, collected);
    let mut translated: Vec<Family> = dialect.all().filter_map(|entry| translation.family(entry)).collect();
    let names: HashSet<&str> = dialect.all().map(|entry| entry.name).collect();
    let sources: HashSet<&str> = dialect.all().flat_map(Entry::sources).collect();
    let stays = |meta: &Meta| {
        let name = &*meta.name;
        let replaced = names.contains(name) || (meta.kind != Kind::Info && sources.contains(name));
        if only { name.starts_with("process_") } else { !replaced }
    };
    translated.extend(native.into_iter().filter(|family| stays(&family.meta)));
    families.families = translated;
    families
}

/// What samples are put together from.
struct Translation<'a> {
    families: &'a mut Families,
    native: HashMap<&'a str, &'a Family, RandomState>,
    collected: &'a dyn Fn(Group) -> bool,
    things: Things,
    /// Each native subject's own without labels, which are those of the samples.
    bare: HashMap<SubjectId, SubjectId, RandomState>,
    /// The labels of a sample by what they are made of: those of one disk are the same in each of its families.
    sets: HashMap<(*const Label, SubjectId, LabelSet), LabelSet, RandomState>,
    /// The same text has one set, so that two samples with it are noticed.
    texts: HashMap<Vec<(&'static str, String)>, LabelSet, RandomState>,
}

impl<'a> Translation<'a> {
    fn new(families: &'a mut Families, native: &'a [Family], collected: &'a dyn Fn(Group) -> bool) -> Self {
        let things = Things::of(&families.labels, native);
        Self {
            families,
            native: native.iter().map(|family| (&*family.meta.name, family)).collect(),
            collected,
            things,
            bare: HashMap::default(),
            sets: HashMap::default(),
            texts: HashMap::default(),
        }
    }

    /// The family of an entry, if there is any sample. Of samples with the same labels the first counts: old names do without the
    /// UUID, and between a removal and a new definition two domains may have one name.
    fn family(&mut self, entry: &'static Entry) -> Option<Family> {
        let native = self.native.get(entry.native).copied();
        let others = match entry.values {
            Values::PercentWithout(other) => self.numbers(other),
            _ => HashMap::default(),
        };
        let mut built = Building::new(entry, native);
        match (entry.values, native) {
            (_, None) => {}
            (Values::Sum(label, without), Some(native)) => {
                let counted = native
                    .samples
                    .iter()
                    .filter(|sample| !without.contains(&label_of(&self.families.labels, sample.labels(), label)));
                let sum = counted.map(|sample| float(sample.value())).sum();
                self.add(&mut built, SubjectId::HOST, LabelSet::EMPTY, Value::Float(sum), None);
            }
            (_, Some(native)) => {
                for (position, sample) in native.samples.iter().enumerate() {
                    let start = native.starts.binary_search_by_key(&position, |(at, _)| *at);
                    let start = start.ok().map(|found| native.starts[found].1);
                    if let Some(value) = self.value(entry, sample, &others) {
                        self.add(&mut built, sample.subject(), sample.labels(), value, start);
                    }
                }
            }
        }
        if let Some(Zero { of, asked }) = entry.or_zero {
            let subjects = |family| self.samples(family).map(|sample| sample.subject()).collect::<HashSet<_>>();
            let asked: Box<dyn Fn(SubjectId) -> bool> = match asked {
                Asked::Sample => Box::new(|_| true),
                Asked::Group(group) => {
                    let collected = (self.collected)(group);
                    Box::new(move |_| collected)
                }
                Asked::Family(family) => {
                    let subjects = subjects(family);
                    Box::new(move |subject| subjects.contains(&subject))
                }
            };
            for sample in self.samples(of).filter(|sample| asked(sample.subject())) {
                self.add(&mut built, sample.subject(), sample.labels(), Value::Unsigned(0), None);
            }
        }
        (!built.samples.is_empty()).then(|| built.finish())
    }

    /// The value of one sample there; `None` if it has no place.
    fn value(&self, entry: &Entry, sample: &Sample, others: &Numbers) -> Option<Value> {
        let (subject, labels, value) = (sample.subject(), sample.labels(), sample.value());
        if let Some((source, values)) = entry.without
            && values.contains(&&*self.things.value(self.families, source, subject, labels))
        {
            return None;
        }
        let own = |name| label_of(&self.families.labels, labels, name);
        let number = |position: usize| u64::try_from(position).ok().map(Value::Unsigned);
        match entry.values {
            Values::Same => Some(value),
            // Native values in seconds were whole nanoseconds.
            Values::Times(factor, _) => Some(Value::Float((float(value) * factor).round())),
            Values::Always(number, _) => Some(Value::Unsigned(number)),
            Values::Not => Some(Value::Unsigned(u64::from(float(value) == 0.0))),
            Values::State(names) if float(value) > 0.0 => number(position(names, own("state"), "state_")?),
            Values::Reason => {
                let of_state = REASONS.get(state_number(own("state"))?).copied().unwrap_or_default();
                number(position(of_state, own("reason"), "reason_")?)
            }
            Values::PercentWithout(_) => {
                let (all, without) = (float(value), *others.get(&(subject, labels))?);
                (all > 0.0).then(|| Value::Float((all - without) / (all / 100.0)))
            }
            Values::State(_) | Values::Sum(..) => None,
        }
    }

    fn add(&mut self, built: &mut Building, subject: SubjectId, own: LabelSet, value: Value, start: Option<Start>) {
        let labels = self.labels(built.entry.labels, subject, own);
        if !built.seen.insert(labels) {
            return;
        }
        built.starts.extend(start.map(|start| (built.samples.len(), start)));
        built.samples.push(Sample::new(self.bare(subject), labels, value));
    }

    /// The labels of a sample there. One without a value stands there with an empty text, as clients in Go print it.
    fn labels(&mut self, labels: &'static [Label], subject: SubjectId, own: LabelSet) -> LabelSet {
        let key = (labels.as_ptr(), subject, own);
        if let Some(known) = self.sets.get(&key) {
            return *known;
        }
        let value = |source| self.things.value(self.families, source, subject, own).into_owned();
        let text: Vec<_> = labels.iter().map(|Label(name, source)| (*name, value(*source))).collect();
        let table = &mut self.families.labels;
        let set = *self.texts.entry(text).or_insert_with_key(|text| {
            if text.is_empty() {
                return LabelSet::EMPTY;
            }
            table.push(text.iter().map(|(name, value)| (*name, value.as_str())))
        });
        self.sets.insert(key, set);
        set
    }

    fn bare(&mut self, subject: SubjectId) -> SubjectId {
        let subjects = &mut self.families.subjects;
        if subjects.get(subject).labels == LabelSet::EMPTY {
            return subject;
        }
        *self.bare.entry(subject).or_insert_with(|| {
            let (kind, started) = (subjects.get(subject).kind, subjects.get(subject).started.clone());
            let bare = subjects.push(kind, LabelSet::EMPTY);
            subjects.get_mut(bare).started = started;
            bare
        })
    }

    /// The samples of a native family.
    fn samples(&self, native: &str) -> impl Iterator<Item = &'a Sample> + use<'a> {
        self.native.get(native).copied().into_iter().flat_map(|family| &family.samples)
    }

    /// The samples of a native family by what they are of.
    fn numbers(&self, native: &str) -> Numbers {
        self.samples(native).map(|sample| ((sample.subject(), sample.labels()), float(sample.value()))).collect()
    }
}

type Numbers = HashMap<(SubjectId, LabelSet), f64, RandomState>;

/// A family being built.
struct Building {
    entry: &'static Entry,
    meta: Arc<Meta>,
    origin: Origin,
    samples: Vec<Sample>,
    starts: Vec<(usize, Start)>,
    seen: HashSet<LabelSet, RandomState>,
}

impl Building {
    fn new(entry: &'static Entry, native: Option<&Family>) -> Self {
        let meta = Meta {
            name: entry.name.into(),
            help: format!("{} by the name that another exporter has for it{}", entry.native, unit_of(entry)).into(),
            kind: entry.kind,
            unit: Unit::None,
            otel_name: "".into(),
            otel_attributes: &[],
        };
        let origin = native.map_or(Origin::Process, |native| native.origin);
        let (samples, starts, seen) = (Vec::new(), Vec::new(), HashSet::default());
        Self { entry, meta: Arc::new(meta), origin, samples, starts, seen }
    }

    fn finish(self) -> Family {
        Family { starts: self.starts, ..Family::new(self.meta, self.origin, self.samples) }
    }
}

fn unit_of(entry: &Entry) -> String {
    match entry.values {
        Values::Times(_, unit) => format!(", in {unit}"),
        _ => String::new(),
    }
}
