//! Which domains are asked for together. Pure: no clock, no connection.

use std::collections::HashMap;

use uuid::Uuid;

/// A reply should stay below this: an eighth of what libvirt's protocol can carry.
const REPLY_BYTES: usize = 4 << 20;
/// What a domain is expected to take before it has been seen: four vCPUs with KVM's statistics, two disks, a NIC.
const UNSEEN_BYTES: usize = 11_000;

/// How large replies may become, and how large they were.
#[derive(Debug, Clone)]
pub(super) struct Planner {
    /// Most domains in a batch: the configured number, less after a reply that was too large.
    batch_size: usize,
    configured: usize,
    workers: usize,
    sizes: HashMap<Uuid, usize>,
}

impl Planner {
    pub(super) fn new(batch_size: usize, workers: usize) -> Self {
        Self { batch_size, configured: batch_size, workers, sizes: HashMap::new() }
    }

    /// Divides the domains into batches. Each worker gets several, so that one slow batch does not make the others wait,
    /// and so that a frozen domain takes few others with it.
    pub(super) fn plan(&self, domains: &[Uuid]) -> Vec<Vec<Uuid>> {
        self.divide(domains, domains.len().div_ceil(self.workers * 3).clamp(1, self.batch_size))
    }

    /// Divides the domains into as few batches as may be.
    pub(super) fn pack(&self, domains: &[Uuid]) -> Vec<Vec<Uuid>> {
        self.divide(domains, self.batch_size)
    }

    fn divide(&self, domains: &[Uuid], most: usize) -> Vec<Vec<Uuid>> {
        let mut batches: Vec<Vec<Uuid>> = Vec::with_capacity(domains.len().div_ceil(most));
        let mut room = 0;
        for uuid in domains {
            let size = self.sizes.get(uuid).copied().unwrap_or(UNSEEN_BYTES);
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

    /// Remembers how large a domain's record was, in bytes on the wire.
    pub(super) fn seen(&mut self, uuid: Uuid, size: usize) {
        self.sizes.insert(uuid, size);
    }

    /// Forgets domains that are not `known`.
    pub(super) fn retain(&mut self, known: impl Fn(Uuid) -> bool) {
        self.sizes.retain(|uuid, _| known(*uuid));
    }

    /// A reply of `domains` domains was too large.
    pub(super) fn too_large(&mut self, domains: usize) {
        self.batch_size = self.batch_size.min(domains / 2).max(1);
    }

    /// The daemon may be another one.
    pub(super) fn reset(&mut self) {
        self.batch_size = self.configured;
        self.sizes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuids(count: u128) -> Vec<Uuid> {
        (0..count).map(Uuid::from_u128).collect()
    }

    #[test]
    fn every_domain_is_in_one_batch_and_in_order() {
        let planner = Planner::new(16, 4);
        for count in [0, 1, 5, 11, 100, 1000] {
            let domains = uuids(count);
            let batches = planner.plan(&domains);
            assert_eq!(batches.concat(), domains);
            assert!(batches.iter().all(|batch| (1..=16).contains(&batch.len())), "{count}");
        }
        assert_eq!(planner.plan(&uuids(100)).len(), 12, "three batches a worker");
    }

    #[test]
    fn fat_domains_make_small_batches() {
        let mut planner = Planner::new(16, 1);
        let domains = uuids(12);
        domains.iter().for_each(|uuid| planner.seen(*uuid, 1_500_000));
        let batches = planner.plan(&domains);
        assert!(batches.iter().all(|batch| batch.len() == 2), "{batches:?}");
    }

    #[test]
    fn a_reply_that_was_too_large_halves_the_batch() {
        let mut planner = Planner::new(16, 1);
        planner.too_large(10);
        assert!(planner.plan(&uuids(48)).iter().all(|batch| batch.len() == 5 || batch.len() == 3));
        planner.too_large(1);
        assert!(planner.plan(&uuids(3)).iter().all(|batch| batch.len() == 1));
        planner.reset();
        assert_eq!(planner.plan(&uuids(48)).len(), 3);
    }
}
