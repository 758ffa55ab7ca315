//! What is kept of a subject for each probe.

/// Values by the names of probes. There are few of them for each of thousands of domains: a tree takes ten times as much.
#[derive(Debug)]
pub(super) struct ByProbe<V>(Vec<(&'static str, V)>);

impl<V> Default for ByProbe<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> ByProbe<V> {
    pub(super) fn get(&self, probe: &str) -> Option<&V> {
        self.0.iter().find(|(known, _)| *known == probe).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, probe: &str) -> Option<&mut V> {
        self.0.iter_mut().find(|(known, _)| *known == probe).map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, probe: &'static str, value: V) {
        match self.get_mut(probe) {
            Some(old) => *old = value,
            None => self.add(probe, value),
        }
    }

    pub(super) fn remove(&mut self, probe: &str) {
        self.0.retain(|(known, _)| *known != probe);
    }

    pub(super) fn or_default(&mut self, probe: &'static str) -> &mut V
    where
        V: Default,
    {
        let place = self.0.iter().position(|(known, _)| *known == probe).unwrap_or_else(|| {
            self.add(probe, V::default());
            self.0.len() - 1
        });
        &mut self.0[place].1
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, probe: &'static str, value: V) {
        self.0.reserve_exact(1);
        self.0.push((probe, value));
    }
}
