//! How each domain fared in the last collection, and statistics without a row.

use super::kind::Subject;
use super::row::{NUMBER, table};

#[rustfmt::skip]
table! {
    /// Metrics that do not depend on the groups.
    TABLE: None, Subject::Domain;
    UNMAPPED = Unknown, NUMBER, "libvirt_domain_unmapped_stat", "libvirt.domain.unmapped_stat", ["key"],
        "A statistic that this version has no metric for, by its key in libvirt";
    COMPLETE = Gauge, NUMBER, "libvirt_domain_stats_complete", "libvirt.domain.stats_complete", [],
        "Whether the last collection returned all requested data of the running domain: 1 yes, 0 if hypervisor data is missing";
    MISSING = Gauge, NUMBER, "libvirt_domain_stats_missing", "libvirt.domain.stats_missing", ["group", "reason"],
        "A statistics group of a running domain that is missing from the last collection, or incomplete: always 1, no sample if nothing is missing. Reasons: busy (another client or a job of libvirt held the domain), quarantined, deadline, refused (libvirt answered with an error, or without the group), stuck_calls (too many calls wait for domains that do not answer)";
    QUARANTINED = Gauge, NUMBER, "libvirt_domain_quarantined", "libvirt.domain.quarantined", [],
        "Whether a running domain is quarantined, as its hypervisor does not respond: 1 yes, 0 no";
}
