//! From a dotted key to what it stands for, found out once per process.
//!
//! What is remembered is bounded: of a daemon that invents keys without end, those of one collection are held, as its records
//! hold them, and forgotten before the next.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::family::Meta;
use super::index::{Index, Target, innermost};
use super::table_of;
use crate::config::{Config, Group};
use crate::tables::{Kind, Origin, Rule, Scale, Unit};

/// How many keys are remembered from one collection to the next. A host of the largest guests (288 vCPUs, 256 disks) sends
/// some 25,000 different ones.
const CACHED_KEYS: usize = 1 << 17;
/// How many families the rule for hypervisor statistics may make; KVM has about sixty.
const RULED_FAMILIES: usize = 4096;

/// What a key stands for, its numbers taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) meaning: Meaning,
    /// The first number in the key, 0 without one.
    pub(super) n: u32,
    /// The second number in the key, 0 without one.
    pub(super) m: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A pattern of the tables.
    Mapped(Target),
    /// A hypervisor statistic, by the number of its family.
    Ruled { family: usize },
    /// Known, but not wanted by the configuration.
    Unwanted,
    /// No row and no rule knows it.
    Unmapped,
}

/// A family that the rule for hypervisor statistics made.
#[derive(Debug)]
pub(super) struct RuledFamily {
    pub(super) meta: Arc<Meta>,
    pub(super) origin: Origin,
    pub(super) scale: Scale,
    /// The numbered part of its keys.
    pub(super) scope: Option<usize>,
    pub(super) group: Group,
}

#[derive(Debug)]
pub(super) struct Matcher {
    known: HashMap<Box<str>, Match, RandomState>,
    ruled_names: HashMap<String, usize>,
    ruled: Vec<Arc<RuledFamily>>,
    config: Config,
}

impl Matcher {
    pub(super) fn new(config: &Config) -> Self {
        let (known, ruled_names, ruled) = (HashMap::default(), HashMap::new(), Vec::new());
        Self { known, ruled_names, ruled, config: config.clone() }
    }

    /// Forgets the keys if there are too many.
    pub(super) fn limit(&mut self) {
        if self.known.len() > CACHED_KEYS {
            self.known.clear();
        }
    }

    /// What `key` stands for.
    pub(super) fn resolve(&mut self, index: &Index, key: &str) -> Match {
        if let Some(known) = self.known.get(key) {
            return *known;
        }
        let found = self.interpret(index, key);
        self.known.insert(key.into(), found);
        found
    }

    /// The families that the rule has made so far, by their numbers.
    pub(super) fn ruled(&self) -> Vec<Arc<RuledFamily>> {
        self.ruled.clone()
    }

    fn interpret(&mut self, index: &Index, key: &str) -> Match {
        let Some((pattern, [n, m])) = pattern_of(key) else {
            return Match { meaning: Meaning::Unmapped, n: 0, m: 0 };
        };
        let meaning = match index.patterns.get(pattern.as_str()) {
            Some(target) => Meaning::Mapped(*target),
            None => self.ruled_meaning(index, &pattern),
        };
        Match { meaning, n, m }
    }

    /// Hypervisor statistics: `vcpu.<n>.<name>.sum` and `vm.<name>.sum`, likewise `.cur` and `.max`.
    fn ruled_meaning(&mut self, index: &Index, pattern: &str) -> Meaning {
        let mut rules = Group::ALL.iter().filter_map(|group| Some((*group, group.info().rule.as_ref()?)));
        let found = rules.find_map(|(group, rule)| Some((group, rule, pattern.strip_prefix(rule.prefix)?)));
        let Some((group, rule, rest)) = found else { return Meaning::Unmapped };
        let Some((name, suffix)) = rest.rsplit_once('.') else {
            return Meaning::Unmapped;
        };
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_word) {
            return Meaning::Unmapped;
        }
        let Some((meta, scale)) = ruled_meta(rule, name, suffix) else {
            return Meaning::Unmapped;
        };
        if !self.config.collection.groups.contains(&group) || !self.config.metrics.selects(&meta.name) {
            return Meaning::Unwanted;
        }
        // Two families of one name, or of names that OpenMetrics counts as one, would break the exposition.
        let family_name = meta.family_name().to_owned();
        let family = match self.ruled_names.get(&family_name) {
            Some(&known) if *self.ruled[known].meta == meta => known,
            Some(_) => return Meaning::Unmapped,
            None if self.ruled.len() == RULED_FAMILIES => return Meaning::Unmapped,
            None => {
                self.ruled_names.insert(family_name, self.ruled.len());
                let (origin, scope) = (table_of(group).origin, innermost(&index.scopes, rule.prefix));
                self.ruled.push(Arc::new(RuledFamily { meta: Arc::new(meta), origin, scale, scope, group }));
                self.ruled.len() - 1
            }
        };
        Meaning::Ruled { family }
    }
}

/// The name rule: `_ns` becomes seconds, sums are counters, current values and peaks are gauges.
fn ruled_meta(rule: &Rule, name: &str, suffix: &str) -> Option<(Meta, Scale)> {
    let (kind, ending, what) = match suffix {
        "sum" => (Kind::Counter, "_total", ""),
        "cur" => (Kind::Gauge, "", ""),
        "max" => (Kind::Gauge, "", "_max"),
        _ => return None,
    };
    let (base, unit, scale, unit_suffix) = match name.strip_suffix("_ns") {
        Some(base) if !base.is_empty() => (base, Unit::Seconds, Scale::Nano, "_seconds"),
        _ => (name, Unit::None, Scale::One, ""),
    };
    let Rule { prefix, name: start, otel_name: otel_start, of } = rule;
    let help = format!("What the host's KVM reports of {of} as {name} (domstats: {prefix}{name}.{suffix})");
    let peak = if suffix == "max" { ".max" } else { "" };
    let meta = Meta {
        name: format!("{start}{base}{what}{unit_suffix}{ending}").into(),
        help: help.into(),
        kind,
        unit,
        otel_name: format!("{otel_start}{base}{peak}").into(),
        otel_attributes: &[],
    };
    Some((meta, scale))
}

/// The key with its first number written as `<n>`, its second as `<m>`, and the numbers. `None` where a number is out of
/// range or written with a leading zero or there is a third: no key of libvirt looks so, and two keys must not become one.
fn pattern_of(key: &str) -> Option<(String, [u32; 2])> {
    let mut pattern = String::with_capacity(key.len() + 8);
    let mut numbers = [0; 2];
    let mut found = 0;
    for segment in key.split('.') {
        if !pattern.is_empty() {
            pattern.push('.');
        }
        if !segment.bytes().all(|byte| byte.is_ascii_digit()) || segment.is_empty() {
            pattern.push_str(segment);
            continue;
        }
        if segment.len() > 1 && segment.starts_with('0') {
            return None;
        }
        *numbers.get_mut(found)? = segment.parse().ok()?;
        pattern.push_str(["<n>", "<m>"][found]);
        found += 1;
    }
    Some((pattern, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(key: &str) -> (Match, Matcher) {
        let config = crate::config::parse("collection: {groups: [state, vcpu, vcpu_kvm, vm, block]}", "test");
        let config = config.expect("a valid configuration");
        let index = Index::new(&config);
        let mut matcher = Matcher::new(&config);
        (matcher.resolve(&index, key), matcher)
    }

    #[test]
    fn numbers_are_taken_out_in_order() {
        assert_eq!(
            pattern_of("block.3.timed_group.12.interval"),
            Some(("block.<n>.timed_group.<m>.interval".into(), [3, 12]))
        );
        assert_eq!(pattern_of("state.state"), Some(("state.state".into(), [0, 0])));
        for odd in ["net.01.name", "net.4294967296.name", "a.1.2.3"] {
            assert_eq!(pattern_of(odd), None, "{odd}");
        }
    }

    #[test]
    fn hypervisor_statistics_are_named_by_rule() {
        for (key, name, scale) in [
            ("vcpu.0.exits.sum", "libvirt_domain_vcpu_kvm_exits_total", Scale::One),
            ("vcpu.7.halt_wait_ns.sum", "libvirt_domain_vcpu_kvm_halt_wait_seconds_total", Scale::Nano),
            ("vcpu.0.blocking.cur", "libvirt_domain_vcpu_kvm_blocking", Scale::One),
            ("vm.max_mmu_rmap_size.max", "libvirt_domain_kvm_max_mmu_rmap_size_max", Scale::One),
            ("vm.x_ns.max", "libvirt_domain_kvm_x_max_seconds", Scale::Nano),
        ] {
            let (found, matcher) = resolve(key);
            let Meaning::Ruled { family } = found.meaning else { panic!("{key}: {found:?}") };
            assert_eq!((matcher.ruled[family].meta.name.as_ref(), matcher.ruled[family].scale), (name, scale));
        }
        for odd in ["vcpu.0.ex-its.sum", "vcpu.0.exits.avg", "vm.exits", "vm..sum", "vcpu.x.exits.sum"] {
            assert_eq!(resolve(odd).0.meaning, Meaning::Unmapped, "{odd}");
        }
    }

    #[test]
    fn what_the_configuration_leaves_out_is_unwanted_not_unmapped() {
        let config = Config::default();
        let mut matcher = Matcher::new(&config);
        assert_eq!(matcher.resolve(&Index::new(&config), "vcpu.0.exits.sum").meaning, Meaning::Unwanted);
    }

    #[test]
    fn a_key_is_interpreted_once_until_there_are_too_many() {
        let config = Config::default();
        let index = Index::new(&config);
        let mut matcher = Matcher::new(&config);
        let keys = ["cpu.time", "block.0.rd.reqs", "no.such.key", "cpu.time"];
        let found = keys.map(|key| matcher.resolve(&index, key));
        matcher.limit();
        assert_eq!((matcher.known.len(), keys.map(|key| matcher.resolve(&index, key))), (3, found));
        for number in 0..=CACHED_KEYS {
            matcher.resolve(&index, &format!("odd.{number}"));
        }
        matcher.limit();
        assert!(matcher.known.is_empty());
        assert_eq!(keys.map(|key| matcher.resolve(&index, key)), found);
    }
}
