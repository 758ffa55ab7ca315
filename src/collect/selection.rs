//! What one scrape wants to see of what is configured.

use std::collections::BTreeSet;

use crate::config::{AnchoredRegex, Group};

/// What one scrape wants to see: all that is configured, unless it says less. Scrapes of equal selections share
/// collections.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Only these groups, each of which is configured; all configured ones if there is no set.
    pub groups: Option<BTreeSet<Group>>,
    /// Only domains whose name matches one of these; all if there are none.
    pub domains: Vec<AnchoredRegex>,
}

impl Selection {
    /// Whether `group` is wanted.
    #[must_use]
    pub fn wants(&self, group: Group) -> bool {
        self.groups.as_ref().is_none_or(|groups| groups.contains(&group))
    }

    /// Whether the domain called `name` is wanted.
    #[must_use]
    pub fn selects(&self, name: &str) -> bool {
        self.domains.is_empty() || self.domains.iter().any(|regex| regex.is_match(name))
    }
}
