//! Which domains are asked for together. Pure: no clock, no connection.

use uuid::Uuid;

/// A reply should stay below this: an eighth of what libvirt's protocol can carry.
const REPLY_BYTES: usize = 4 << 20;
/// What a domain is expected to take before it has been seen: four vCPUs with KVM's statistics, two disks, a NIC.
const UNSEEN_BYTES: usize = 11_000;

/// How large replies may become.
#[derive(Debug, Clone)]
pub(super) struct Planner {
    /// Most domains in a batch: the configured number, less after a reply that was too large.
    batch_size: usize,
    configured: usize,
    workers: usize,
}

impl Planner {
    pub(super) fn new(batch_size: usize, workers: usize) -> Self {
        Self { batch_size, configured: batch_size, workers }
    }

    /// Divides the domains into batches. Each worker gets several, so that one slow batch does not make the others wait,
    /// and so that a frozen domain takes few others with it. `size` tells how large the record of a domain was last, in
    /// bytes on the wire.
    pub(super) fn plan(&self, domains: &[Uuid], size: impl Fn(Uuid) -> Option<usize>) -> Vec<Vec<Uuid>> {
        self.divide(domains, size, domains.len().div_ceil(self.workers * 3).clamp(1, self.batch_size))
    }

    /// Divides the domains into as few batches as may be.
    pub(super) fn pack(&self, domains: &[Uuid], size: impl Fn(Uuid) -> Option<usize>) -> Vec<Vec<Uuid>> {
        self.divide(domains, size, self.batch_size)
    }

    fn divide(&self, domains: &[Uuid], size: impl Fn(Uuid) -> Option<usize>, most: usize) -> Vec<Vec<Uuid>> {
        let mut batches: Vec<Vec<Uuid>> = Vec::with_capacity(domains.len().div_ceil(most));
        let mut room = 0;
        for uuid in domains {
            let size = size(*uuid).unwrap_or(UNSEEN_BYTES);
            match batches.last_mut() {
                Some(batch) if batch.len() < most && size <= room => {
                    batch.push(*uuid);
                    room -= size;
                }
                _ => {
                    batches.push(vec![*uuid]);
                    room = REPLY_BYTES.saturating_sub(size);
                }
            }
        }
        batches
    }

    /// A reply of `domains` domains was too large.
    pub(super) fn too_large(&mut self, domains: usize) {
        self.batch_size = self.batch_size.min(domains / 2).max(1);
    }

    /// The daemon may be another one.
    pub(super) fn reset(&mut self) {
        self.batch_size = self.configured;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNSEEN: fn(Uuid) -> Option<usize> = |_| None;

    fn uuids(count: u128) -> Vec<Uuid> {
        (0..count).map(Uuid::from_u128).collect()
    }

    #[test]
    fn every_domain_is_in_one_batch_and_in_order() {
        let planner = Planner::new(16, 4);
        for count in [0, 1, 5, 11, 100, 1000] {
            let domains = uuids(count);
            let batches = planner.plan(&domains, UNSEEN);
            assert_eq!(batches.concat(), domains);
            assert!(batches.iter().all(|batch| (1..=16).contains(&batch.len())), "{count}");
        }
        assert_eq!(planner.plan(&uuids(100), UNSEEN).len(), 12, "three batches a worker");
    }

    #[test]
    fn fat_domains_make_small_batches() {
        let batches = Planner::new(16, 1).plan(&uuids(12), |_| Some(1_500_000));
        assert!(batches.iter().all(|batch| batch.len() == 2), "{batches:?}");
    }

    #[test]
    fn a_reply_that_was_too_large_halves_the_batch() {
        let mut planner = Planner::new(16, 1);
        planner.too_large(10);
        assert!(planner.plan(&uuids(48), UNSEEN).iter().all(|batch| batch.len() == 5 || batch.len() == 3));
        planner.too_large(1);
        assert!(planner.plan(&uuids(3), UNSEEN).iter().all(|batch| batch.len() == 1));
        planner.reset();
        assert_eq!(planner.plan(&uuids(48), UNSEEN).len(), 3);
    }
}
