//! Basic facts of domains, one after the other, for drivers without bulk statistics.

use super::{DomainFilter, Session, had};
use crate::libvirt::{DomainList, LibvirtError, ParamValue, Records, StatsGroups};

/// The facts of these groups, under the keys that bulk statistics have for them.
pub(super) fn fetch(
    session: &Session,
    inactive: bool,
    groups: StatsGroups,
    wanted: &DomainFilter,
) -> Result<Records, LibvirtError> {
    let mut records = Records::default();
    let list = if inactive { DomainList::Inactive } else { DomainList::Active };
    for domain in session.connection.list_domains(list)? {
        let identity = domain.identity();
        if !wanted(&identity.name, identity.uuid) {
            continue;
        }
        let Some(info) = had(domain.info(&session.connection))? else { continue };
        records.push_domain(&identity.name, identity.uuid, identity.id);
        for (group, key, value) in [
            (StatsGroups::STATE, "state.state", ParamValue::Int(info.state)),
            (StatsGroups::CPU_TOTAL, "cpu.time", ParamValue::ULLong(info.cpu_time_nanos)),
            (StatsGroups::BALLOON, "balloon.current", ParamValue::ULLong(info.memory_kib)),
            (StatsGroups::BALLOON, "balloon.maximum", ParamValue::ULLong(info.maximum_kib)),
            (StatsGroups::VCPU, "vcpu.current", ParamValue::UInt(info.vcpus)),
        ] {
            if groups.contains(group) {
                records.push(key, value);
            }
        }
    }
    Ok(records)
}
