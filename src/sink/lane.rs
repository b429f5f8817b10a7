//! One value for each lane. A lane is a 256th of the hash range, numbered by the first byte of the hash.
//! Every `u8` is a lane, so no look-up can fail.

use std::ops::{Index, IndexMut};

/// Number of lanes: one for each first byte of the hash.
const LANES: usize = 1 << u8::BITS;

/// A value for each lane.
#[derive(Clone, Debug)]
pub(super) struct PerLane<T>(Box<[T; LANES]>);

impl<T: Default> Default for PerLane<T> {
    fn default() -> Self {
        Self(Box::new(std::array::from_fn(|_| T::default())))
    }
}

impl<T: Copy> PerLane<T> {
    /// The same value for all lanes.
    pub(super) fn all(value: T) -> Self {
        Self(Box::new([value; LANES]))
    }
}

impl<T> PerLane<T> {
    /// All lanes and their values, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, &T)> {
        (0..=u8::MAX).zip(self.0.iter())
    }
}

#[expect(clippy::indexing_slicing, reason = "there is a value for every u8")]
impl<T> Index<u8> for PerLane<T> {
    type Output = T;

    fn index(&self, lane: u8) -> &T {
        &self.0[usize::from(lane)]
    }
}

#[expect(clippy::indexing_slicing, reason = "there is a value for every u8")]
impl<T> IndexMut<u8> for PerLane<T> {
    fn index_mut(&mut self, lane: u8) -> &mut T {
        &mut self.0[usize::from(lane)]
    }
}
