//! Whether a record has all that was asked for: a busy domain yields only what needs no hypervisor, and nothing says so.

use crate::libvirt::{DomainRecord, Param, ParamValue, StatsGroups};

/// Whether `record` has what its hypervisor had to be asked for, as far as `asked` contained something of it.
pub(super) fn is_complete(record: &DomainRecord<'_>, asked: StatsGroups) -> bool {
    let mut expected = false;
    for param in record.params() {
        if shows_an_answer(param.key) {
            return true;
        }
        expected |= has_disks(param);
    }
    // A running QEMU always has a resident size; disks have counters.
    expected |= asked.contains(StatsGroups::BALLOON);
    expected &= asked.contains(StatsGroups::BALLOON) || asked.contains(StatsGroups::BLOCK);
    !(expected && record.is_active())
}

/// Keys that only come once the hypervisor has been asked.
fn shows_an_answer(key: &str) -> bool {
    key == "balloon.rss"
        || key == "dirtyrate.calc_status"
        || key.starts_with("vm.")
        || (key.starts_with("block.") && key.ends_with(".rd.reqs"))
}

fn has_disks(param: Param<'_>) -> bool {
    param.key == "block.count" && !matches!(param.value, ParamValue::UInt(0))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::libvirt::Records;

    fn complete(params: &[(&str, u64)], id: Option<u32>, asked: StatsGroups) -> bool {
        let mut records = Records::default();
        records.push_domain("x", Uuid::nil(), id);
        for (key, value) in params {
            let value = if *key == "block.count" { ParamValue::UInt(1) } else { ParamValue::ULLong(*value) };
            records.push(key, value);
        }
        is_complete(&records.domain(0), asked)
    }

    #[test]
    fn a_busy_domain_is_recognised() {
        let asked = StatsGroups::STATE | StatsGroups::BALLOON | StatsGroups::BLOCK;
        let busy = [("state.state", 1), ("balloon.current", 1), ("block.count", 1), ("block.0.capacity", 1)];
        assert!(!complete(&busy, Some(1), asked));
        assert!(!complete(&busy, Some(1), StatsGroups::BLOCK));
        assert!(complete(&busy, None, asked), "shut off");
        assert!(complete(&busy, Some(1), StatsGroups::STATE | StatsGroups::INTERFACE), "nothing of it was asked for");
        assert!(complete(&[("balloon.rss", 1)], Some(1), asked));
        assert!(complete(&[("block.count", 1), ("block.0.rd.reqs", 0)], Some(1), StatsGroups::BLOCK));
        assert!(complete(&[("state.state", 1)], Some(1), StatsGroups::BLOCK), "a guest without disks");
    }
}
