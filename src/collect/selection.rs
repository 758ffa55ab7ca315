//! What one scrape wants to see of what is configured.

use std::collections::BTreeSet;
use std::fmt;

use crate::config::{Group, NamePatterns};
use crate::libvirt::Records;

/// What one scrape wants to see: all that is configured, unless it says less. Scrapes of equal selections can share
/// collections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selection {
    /// Only these groups, each of which is configured; all configured ones if there is no set.
    pub groups: Option<BTreeSet<Group>>,
    /// Only domains whose name matches one of these; all if there are none.
    pub domains: NamePatterns,
}

/// For people: `everything`, or `groups block, vm; domains web-.*`.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_everything() {
            return f.write_str("everything");
        }
        let groups = self.groups.as_ref().map(|groups| match groups.len() {
            0 => "no group".to_owned(),
            _ => format!("groups {}", groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        });
        let domains = (!self.domains.is_empty()).then(|| format!("domains {}", self.domains.sources().join(", ")));
        let parts: Vec<String> = groups.into_iter().chain(domains).collect();
        f.write_str(&parts.join("; "))
    }
}

impl Selection {
    /// Whether it selects everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.groups.is_none() && self.domains.is_empty()
    }

    /// Whether `group` is wanted.
    #[must_use]
    pub fn wants(&self, group: Group) -> bool {
        self.groups.as_ref().is_none_or(|groups| groups.contains(&group))
    }

    /// Whether the domain called `name` is wanted.
    #[must_use]
    pub fn selects(&self, name: &str) -> bool {
        self.domains.is_match(name)
    }

    /// The wanted part of `records`.
    #[must_use]
    pub fn of(&self, records: &Records) -> Records {
        // A key of no group is one that this version does not know: it goes with everything.
        let shown = |key: &str| Group::of_key(key).map_or_else(|| self.groups.is_none(), |group| self.wants(group));
        let shown: Vec<bool> = records.keys().map(shown).collect();
        let mut wanted = Records::default();
        for domain in records.domains().filter(|domain| self.selects(domain.name)) {
            wanted.push_domain(domain.name, domain.uuid, domain.id);
            for param in domain.params().filter(|param| shown[param.number]) {
                wanted.push(param.key, param.value);
            }
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::libvirt::ParamValue;

    fn web() -> NamePatterns {
        NamePatterns::new(vec!["web-.*".to_owned()]).expect("valid")
    }

    fn keys(selection: &Selection) -> Vec<String> {
        let mut records = Records::default();
        for name in ["web-1", "db"] {
            records.push_domain(name, Uuid::nil(), Some(1));
            for key in ["state.state", "vcpu.0.time", "vcpu.0.exits.sum", "block.0.rd.bytes", "new.thing"] {
                records.push(key, ParamValue::ULLong(1));
            }
        }
        let wanted = selection.of(&records);
        wanted
            .domains()
            .flat_map(|domain| {
                domain.params().map(|param| format!("{} {}", domain.name, param.key)).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn groups_and_domains_narrow_what_is_shown() {
        assert!(Selection::default().is_everything());
        assert_eq!(keys(&Selection::default()).len(), 10);
        let groups = Some(BTreeSet::from([Group::Vcpu, Group::State]));
        let selection = Selection { groups, domains: web() };
        assert_eq!(keys(&selection), ["web-1 state.state", "web-1 vcpu.0.time"]);
        let selection = Selection { groups: Some(BTreeSet::from([Group::VcpuKvm])), domains: NamePatterns::default() };
        assert_eq!(keys(&selection), ["web-1 vcpu.0.exits.sum", "db vcpu.0.exits.sum"]);
        let none = Selection { groups: Some(BTreeSet::new()), domains: NamePatterns::default() };
        assert!(keys(&none).is_empty() && !none.is_everything());
        assert_eq!(none.to_string(), "no group");
        let groups = Some(BTreeSet::from([Group::Vcpu, Group::State]));
        let selection = Selection { groups, domains: web() };
        assert_eq!(selection.to_string(), "groups state, vcpu; domains web-.*");
        assert_eq!(Selection::default().to_string(), "everything");
    }
}
