//! A set-associative table: a look-up touches one set of four entries, and a new entry replaces the oldest of its set.
//!
//! For what is looked up with every record: all entries lie in one allocation, and none refers to another. A cache by last
//! use (`lru`) follows pointers to the neighbours of an entry with each access, which under load are out of the CPU's cache.

use std::{
    array,
    hash::{BuildHasher as _, Hash},
};

// Not `fast`: with some seeds its low bits, which choose the set, are alike for most keys that are small numbers.
use foldhash::quality::RandomState;

/// Entries of a set.
const WAYS: usize = 4;

/// Table of at most `ENTRIES` entries, a power of two and no less than four. It has no memory before the first insertion.
pub(crate) struct SetTable<K, V, const ENTRIES: usize> {
    sets: Vec<Set<K, V>>,
    hasher: RandomState,
    /// Number of insertions, which wraps.
    insertions: u32,
}

struct Set<K, V> {
    /// Part of the hash of each key: most keys that differ are not compared.
    tags: [u32; WAYS],
    /// [`SetTable::insertions`] at the insertion of each entry.
    inserted: [u32; WAYS],
    entries: [Option<(K, V)>; WAYS],
}

impl<K, V> Default for Set<K, V> {
    fn default() -> Self {
        Self { tags: [0; WAYS], inserted: [0; WAYS], entries: array::from_fn(|_| None) }
    }
}

impl<K: Eq, V> Set<K, V> {
    fn way_of(&self, key: &K, tag: u32) -> Option<usize> {
        let is_key = |entry: &Option<(K, V)>| entry.as_ref().is_some_and(|(own, _)| own == key);
        (0..WAYS)
            .zip(&self.entries)
            .zip(&self.tags)
            .find(|&((_, entry), &own)| own == tag && is_key(entry))
            .map(|((way, _), _)| way)
    }

    /// The way for a new entry: a free one, or that of the oldest entry.
    fn way_to_fill(&self, insertions: u32) -> usize {
        let age = |&way: &usize| match (self.entries.get(way), self.inserted.get(way)) {
            (Some(Some(_)), Some(inserted)) => insertions.wrapping_sub(*inserted),
            _ => u32::MAX,
        };
        (0..WAYS).max_by_key(age).unwrap_or(0)
    }
}

impl<K, V, const ENTRIES: usize> Default for SetTable<K, V, ENTRIES> {
    fn default() -> Self {
        const { assert!(ENTRIES.is_power_of_two() && ENTRIES >= WAYS) };
        Self { sets: Vec::new(), hasher: RandomState::default(), insertions: 0 }
    }
}

impl<K: Hash + Eq, V, const ENTRIES: usize> SetTable<K, V, ENTRIES> {
    /// Inserts an entry. Returns the value that the key had before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.sets.is_empty() {
            self.sets.resize_with(ENTRIES / WAYS, Set::default);
        }
        self.insertions = self.insertions.wrapping_add(1);
        let (set, tag) = self.place(&key);
        let (insertions, set) = (self.insertions, self.sets.get_mut(set)?);
        let way = set.way_of(&key, tag).unwrap_or_else(|| set.way_to_fill(insertions));
        let (entry, own_tag, inserted) =
            (set.entries.get_mut(way)?, set.tags.get_mut(way)?, set.inserted.get_mut(way)?);
        let earlier = entry.take().filter(|(own, _)| *own == key);
        (*entry, *own_tag, *inserted) = (Some((key, value)), tag, insertions);
        earlier.map(|(_, value)| value)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let (set, tag) = self.place(key);
        let set = self.sets.get(set)?;
        set.entries.get(set.way_of(key, tag)?)?.as_ref().map(|(_, value)| value)
    }

    /// The value of a key, to be changed.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entry(key)?.as_mut().map(|(_, value)| value)
    }

    /// Removes the entry of a key, if its value is accepted.
    pub(crate) fn take_if(&mut self, key: &K, accept: impl FnOnce(&V) -> bool) -> Option<V> {
        self.entry(key)?.take_if(|(_, value)| accept(value)).map(|(_, value)| value)
    }

    fn entry(&mut self, key: &K) -> Option<&mut Option<(K, V)>> {
        let (set, tag) = self.place(key);
        let set = self.sets.get_mut(set)?;
        let way = set.way_of(key, tag)?;
        set.entries.get_mut(way)
    }

    /// Set and tag of a key.
    fn place(&self, key: &K) -> (usize, u32) {
        let hash = self.hasher.hash_one(key);
        #[expect(clippy::cast_possible_truncation, reason = "the parts that are kept")]
        let place = (hash as usize % (ENTRIES / WAYS), (hash >> 32) as u32);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_of_a_set_goes_first() {
        // One set.
        let mut table = SetTable::<u32, u32, WAYS>::default();
        assert_eq!(table.get_mut(&1), None);
        for key in 1..=4 {
            assert_eq!(table.insert(key, key * 10), None);
        }
        // Inserted again, it is the newest.
        assert_eq!(table.insert(1, 11), Some(10));
        assert_eq!(table.insert(5, 50), None);
        assert_eq!(
            [1, 2, 3, 4, 5].map(|key| table.get_mut(&key).copied()),
            [Some(11), None, Some(30), Some(40), Some(50)]
        );
    }

    #[test]
    fn ages_survive_the_wrap_of_the_counter() {
        let mut table = SetTable::<u32, u32, WAYS> { insertions: u32::MAX - 2, ..SetTable::default() };
        for key in 1..=5 {
            table.insert(key, key);
        }
        assert_eq!([1, 2, 3, 4, 5].map(|key| table.get_mut(&key).is_some()), [false, true, true, true, true]);
    }

    #[test]
    fn a_taken_entry_is_gone() {
        let mut table = SetTable::<u32, u32, 64>::default();
        assert_eq!(table.take_if(&1, |_| true), None);
        table.insert(1, 10);
        assert_eq!(table.take_if(&1, |&value| value != 10), None);
        *table.get_mut(&1).expect("it is there") += 1;
        assert_eq!(table.take_if(&1, |&value| value == 11), Some(11));
        assert_eq!(table.get_mut(&1), None);
        assert_eq!(table.get_mut(&2), None);
    }

    #[test]
    fn half_as_many_entries_as_there_is_room_for_lose_few() {
        // Each table has a seed of its own.
        for _ in 0..100 {
            let mut table = SetTable::<u32, u32, 1024>::default();
            for key in 0..512 {
                table.insert(key, key);
            }
            let kept = (0..512).filter(|&key| table.get_mut(&key).is_some_and(|value| *value == key)).count();
            assert!(kept > 440, "{kept}");
        }
    }
}
