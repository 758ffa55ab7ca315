//! Which domains the configuration wants.

use super::{Definition, Domain, Metadata, PowerState};
use crate::config::{DomainRule, DomainState, Domains};

/// Whether `domain` is exported. A domain whose definition would decide and has not been read yet is not.
pub(super) fn is_wanted(domains: &Domains, domain: &Domain) -> bool {
    let mut undecided = false;
    let mut matches = |rule: &DomainRule| match matches(rule, domain) {
        Some(matches) => matches,
        None => {
            undecided = true;
            false
        }
    };
    let included = domains.include.is_empty() || domains.include.iter().any(&mut matches);
    let excluded = domains.exclude.iter().any(&mut matches);
    included && !excluded && !undecided
}

/// Whether all that the rule names agrees; `None` if that cannot be said yet.
fn matches(rule: &DomainRule, domain: &Domain) -> Option<bool> {
    let state = match domain.state {
        PowerState::Running => DomainState::Running,
        PowerState::Paused => DomainState::Paused,
        PowerState::ShutOff => DomainState::Shutoff,
        PowerState::Other => DomainState::Other,
    };
    let facts = rule.name.as_ref().is_none_or(|name| name.is_match(&domain.identity.name))
        && rule.uuid.is_none_or(|uuid| uuid.0 == domain.identity.uuid)
        && rule.state.is_none_or(|wanted| wanted == state);
    if !facts || rule.metadata.is_empty() {
        return Some(facts);
    }
    let none = Metadata::default();
    let metadata = match &domain.definition {
        Definition::Pending => return None,
        Definition::Known(metadata) => metadata,
        Definition::Failed(_) => &none,
    };
    Some(rule.metadata.iter().all(|(label, regex)| regex.is_match(metadata.label(label))))
}
