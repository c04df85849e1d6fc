//! A table with one entry per slot: a newer entry replaces the older one of its slot.

use std::hash::{BuildHasher as _, Hash};

use foldhash::fast::RandomState;

/// Slots of a table, a power of two.
const SLOTS: usize = 1024;

/// Table of fixed size, whose look-ups and insertions touch one slot each.
pub(super) struct Slots<K, V> {
    slots: Vec<Option<(K, V)>>,
    hasher: RandomState,
}

impl<K, V> Default for Slots<K, V> {
    fn default() -> Self {
        Self { slots: Vec::new(), hasher: RandomState::default() }
    }
}

impl<K: Hash + Eq, V> Slots<K, V> {
    /// Inserts an entry, in place of the one in its slot.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.slots.is_empty() {
            // A run that correlates nothing needs no memory for it.
            self.slots.resize_with(SLOTS, || None);
        }
        let slot = self.slot(&key);
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Some((key, value));
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let (own, value) = self.slots.get(self.slot(key))?.as_ref()?;
        (own == key).then_some(value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let slot = self.slot(key);
        let (own, value) = self.slots.get_mut(slot)?.as_mut()?;
        (own == key).then_some(value)
    }

    /// Removes the entry of a key, if its value is accepted.
    pub(super) fn take_if(&mut self, key: &K, accept: impl FnOnce(&V) -> bool) -> Option<V> {
        let slot = self.slot(key);
        let entry = self.slots.get_mut(slot)?;
        entry.take_if(|(own, value)| own == key && accept(value)).map(|(_, value)| value)
    }

    fn slot(&self, key: &K) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "the remainder fits into every `usize`")]
        let slot = (self.hasher.hash_one(key) % SLOTS as u64) as usize;
        slot
    }
}
