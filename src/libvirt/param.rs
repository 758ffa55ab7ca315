//! Typed parameters, owned: what one bulk statistics call returned.
//!
//! A reply holds hundreds of parameters a domain under nearly the same keys, so [`Records`] keeps each key once, all
//! strings of a reply in one allocation, and every parameter in twelve bytes; [`Param`] is the borrowed view a reader
//! gets. What depends on the key alone is found out once a reply, for each of [`Records::keys`].

use std::time::SystemTime;

use uuid::Uuid;

use super::keys::{KeyLists, Keys};
use super::stats::StatsGroups;
use super::stored::{Stored, Tag};

/// The value of one typed parameter (`virTypedParameter`), in libvirt's own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParamValue<'a> {
    /// `VIR_TYPED_PARAM_INT`
    Int(i32),
    /// `VIR_TYPED_PARAM_UINT`
    UInt(u32),
    /// `VIR_TYPED_PARAM_LLONG`
    LLong(i64),
    /// `VIR_TYPED_PARAM_ULLONG`
    ULLong(u64),
    /// `VIR_TYPED_PARAM_DOUBLE`
    Double(f64),
    /// `VIR_TYPED_PARAM_BOOLEAN`
    Boolean(bool),
    /// `VIR_TYPED_PARAM_STRING`; bytes that are not UTF-8 have become U+FFFD
    String(&'a str),
    /// A type tag that this program does not know, from a libvirt newer than it.
    Unknown(i32),
}

impl ParamValue<'_> {
    /// The type's name as libvirt's headers spell it, in lower case: `int`, `uint`, `llong`, `ullong`, `double`, `boolean`, `string`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Int(_) => "int",
            Self::UInt(_) => "uint",
            Self::LLong(_) => "llong",
            Self::ULLong(_) => "ullong",
            Self::Double(_) => "double",
            Self::Boolean(_) => "boolean",
            Self::String(_) => "string",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// One typed parameter of a domain: the dotted key and its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Param<'a> {
    /// The dotted key, such as `block.0.rd.bytes`; at most 79 bytes.
    pub key: &'a str,
    /// The position of the key in [`Records::keys`].
    pub number: usize,
    /// The value.
    pub value: ParamValue<'a>,
}

/// One domain of a reply, borrowed from its [`Records`].
#[derive(Debug, Clone, Copy)]
pub struct DomainRecord<'a> {
    /// The domain's name.
    pub name: &'a str,
    /// The domain's UUID.
    pub uuid: Uuid,
    /// The id of this incarnation of the domain; `None` while it is shut off. It changes at every start.
    pub id: Option<u32>,
    /// Groups whose parameters did not come with this reply, but from the host's files or from an earlier reply.
    pub elsewhere: StatsGroups,
    /// Groups that were to come from there and did not.
    pub unread: StatsGroups,
    /// Groups that libvirt was asked for to compare them with the host's files, from which later records have them: without
    /// what comes from KVM.
    pub compared: StatsGroups,
    records: &'a Records,
    first: usize,
    end: usize,
    index: usize,
}

impl<'a> DomainRecord<'a> {
    /// Groups that are not in every reply, with when they were read.
    pub fn read(&self) -> impl Iterator<Item = (StatsGroups, SystemTime)> + use<'a> {
        let (read, index) = (&self.records.read, self.index);
        let first = read.partition_point(|(of, ..)| *of < index);
        read[first..].iter().take_while(move |(of, ..)| *of == index).map(|(_, groups, at)| (*groups, *at))
    }

    /// The parameters in the order libvirt sent them.
    #[must_use]
    pub fn params(&self) -> impl ExactSizeIterator<Item = Param<'a>> + use<'a> {
        let records = self.records;
        records.params[self.first..self.end].iter().map(|stored| records.view(*stored))
    }

    /// Whether the domain had a running QEMU (or its paused state) at the time of the reply.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.id.is_some()
    }
}

/// The records of one or more bulk statistics replies.
#[derive(Debug, Default, Clone)]
pub struct Records {
    keys: Keys,
    /// Names and values.
    text: String,
    params: Vec<Stored>,
    domains: Vec<Domain>,
    /// When these groups of the domain at an index were read, where that may be long ago; by index.
    read: Vec<(usize, StatsGroups, SystemTime)>,
}

#[derive(Debug, Clone)]
struct Domain {
    name: Span,
    uuid: Uuid,
    id: Option<u32>,
    elsewhere: StatsGroups,
    unread: StatsGroups,
    compared: StatsGroups,
    first: usize,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

impl Records {
    /// Starts the next domain; parameters pushed from here on are its own.
    pub fn push_domain(&mut self, name: &str, uuid: Uuid, id: Option<u32>) {
        let name = self.push_text(name);
        let [elsewhere, unread, compared] = [StatsGroups::NONE; 3];
        self.domains.push(Domain { name, uuid, id, elsewhere, unread, compared, first: self.params.len() });
    }

    /// Notes whether these groups of the domain started last, which were not part of the reply, have come from elsewhere.
    pub fn note_elsewhere(&mut self, groups: StatsGroups, came: bool) {
        if let Some(domain) = self.domains.last_mut() {
            let noted = if came { &mut domain.elsewhere } else { &mut domain.unread };
            *noted |= groups;
        }
    }

    /// Notes when these groups of the domain started last, which are not in every reply, were read.
    pub fn note_read(&mut self, groups: StatsGroups, at: SystemTime) {
        if let Some(index) = self.domains.len().checked_sub(1) {
            self.read.push((index, groups, at));
        }
    }

    /// Notes that these groups of the domain at `index` agreed with the host's files, which do not have what comes from KVM.
    pub fn note_compared(&mut self, index: usize, groups: StatsGroups) {
        self.domains.get_mut(index).into_iter().for_each(|domain| domain.compared |= groups);
    }

    /// Starts the next object that is no domain: the host, which has neither name nor UUID, or one of its objects.
    pub fn push_object(&mut self, name: &str, uuid: Uuid) {
        self.push_domain(name, uuid, None);
    }

    /// Adds a parameter to the domain started last.
    pub fn push(&mut self, key: &str, value: ParamValue<'_>) {
        self.push_bytes(key.as_bytes(), value);
    }

    /// The same for a key as libvirt sent it; bytes that are not UTF-8 become U+FFFD.
    pub(super) fn push_bytes(&mut self, key: &[u8], value: ParamValue<'_>) {
        let key = self.keys.number(key);
        let (tag, bits) = match value {
            ParamValue::Int(v) => (Tag::Int, i64::from(v).cast_unsigned()),
            ParamValue::UInt(v) => (Tag::UInt, u64::from(v)),
            ParamValue::LLong(v) => (Tag::LLong, v.cast_unsigned()),
            ParamValue::ULLong(v) => (Tag::ULLong, v),
            ParamValue::Double(v) => (Tag::Double, v.to_bits()),
            ParamValue::Boolean(v) => (Tag::Boolean, u64::from(v)),
            ParamValue::String(v) => {
                let span = self.push_text(v);
                (Tag::String, u64::from(span.start) << 32 | u64::from(span.len))
            }
            ParamValue::Unknown(type_tag) => (Tag::Unknown, i64::from(type_tag).cast_unsigned()),
        };
        self.params.push(Stored::new(key, tag, bits));
    }

    /// Makes room for `params` more parameters.
    pub(super) fn reserve(&mut self, params: usize) {
        self.params.reserve(params);
    }

    /// The different keys, in the order in which they came first.
    #[must_use]
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.keys.iter()
    }

    /// The domains, in the order they were pushed.
    pub fn domains(&self) -> impl ExactSizeIterator<Item = DomainRecord<'_>> {
        (0..self.domains.len()).map(|index| self.domain(index))
    }

    /// The domain at `index`, from 0 to [`Records::len`].
    #[must_use]
    pub fn domain(&self, index: usize) -> DomainRecord<'_> {
        let domain = &self.domains[index];
        let end = self.domains.get(index + 1).map_or(self.params.len(), |next| next.first);
        DomainRecord {
            name: self.text(domain.name),
            uuid: domain.uuid,
            id: domain.id,
            elsewhere: domain.elsewhere,
            unread: domain.unread,
            compared: domain.compared,
            records: self,
            first: domain.first,
            end,
            index,
        }
    }

    /// How many domains there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.domains.len()
    }

    /// Whether there is no domain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// How many parameters there are, over all domains.
    #[must_use]
    pub fn param_count(&self) -> usize {
        self.params.len()
    }

    /// Gives back the memory that was there for more, and shares the keys with other records that have the same. For what is kept.
    pub fn settle(&mut self, lists: &KeyLists) {
        self.keys.settle(lists);
        self.text.shrink_to_fit();
        self.params.shrink_to_fit();
        self.domains.shrink_to_fit();
        self.read.shrink_to_fit();
    }

    /// Keeps all memory for the next reply and forgets what it held.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.text.clear();
        self.params.clear();
        self.domains.clear();
        self.read.clear();
    }

    /// A reply is at most 32 MiB (libvirt's own limit), so offsets fit in 32 bits; a caller that pushes beyond 4 GiB
    /// gets empty strings rather than wrong ones.
    fn push_text(&mut self, text: &str) -> Span {
        let start = u32::try_from(self.text.len());
        let end = u32::try_from(self.text.len() + text.len());
        match (start, end) {
            (Ok(start), Ok(end)) => {
                self.text.push_str(text);
                Span { start, len: end - start }
            }
            _ => Span { start: 0, len: 0 },
        }
    }

    fn text(&self, span: Span) -> &str {
        &self.text[index(span.start)..index(span.start) + index(span.len)]
    }

    #[inline]
    fn view(&self, stored: Stored) -> Param<'_> {
        let (key, bits) = (stored.key(), stored.bits());
        let low = u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        let value = match stored.tag() {
            Tag::Int => ParamValue::Int(low.cast_signed()),
            Tag::UInt => ParamValue::UInt(low),
            Tag::LLong => ParamValue::LLong(bits.cast_signed()),
            Tag::ULLong => ParamValue::ULLong(bits),
            Tag::Double => ParamValue::Double(f64::from_bits(bits)),
            Tag::Boolean => ParamValue::Boolean(bits != 0),
            Tag::Unknown => ParamValue::Unknown(low.cast_signed()),
            Tag::String => {
                let start = u32::try_from(bits >> 32).unwrap_or(u32::MAX);
                ParamValue::String(self.text(Span { start, len: low }))
            }
        };
        Param { key: self.keys.get(key), number: index(key), value }
    }
}

/// A 32-bit offset as an index; `usize` has at least 32 bits on every platform that libvirt runs on.
pub(super) fn index(offset: u32) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_comes_back_as_it_went_in() {
        let values = [
            ParamValue::Int(i32::MIN),
            ParamValue::UInt(u32::MAX),
            ParamValue::LLong(i64::MIN),
            ParamValue::ULLong(u64::MAX),
            ParamValue::Double(-0.1),
            ParamValue::Boolean(true),
            ParamValue::String("wert \"ä\"\n"),
            ParamValue::Unknown(-9),
        ];
        let mut records = Records::default();
        records.push_domain("a", Uuid::nil(), None);
        records.push_domain("b", Uuid::max(), Some(7));
        for value in values {
            records.push("some.key", value);
        }
        assert_eq!(records.domain(0).params().len(), 0);
        let second = records.domain(1);
        assert_eq!((second.name, second.id, second.is_active()), ("b", Some(7), true));
        let back: Vec<_> = second.params().map(|param| param.value).collect();
        assert_eq!(back, values);
        assert!(second.params().all(|param| param.key == "some.key"));
    }
}
