//! Chance, from a seed: a permuted congruential generator whose output is the same on every
//! machine, and draws in whole numbers only.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

use crate::model::Span;

/// A seeded source of chance.
#[derive(Clone, Debug)]
pub struct Random(Pcg64Mcg);

impl Random {
    /// The same seed draws the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }
    /// A number below `n`; 0 for 0. The bias of the remainder is below 2⁻⁴⁰ for every `n` used
    /// here.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.0.next_u64() % n }
    }
    /// From `least` to `most`, both included.
    pub fn span(&mut self, least: Span, most: Span) -> Span {
        Span(least.0 + self.below(most.0.saturating_sub(least.0) + 1))
    }
    /// True in so many of a thousand cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }
    /// Around `typical`: mostly three quarters to five quarters of it, one in 64 up to four times,
    /// one in 1,024 up to 16.
    pub fn delay(&mut self, typical: Span) -> Span {
        let spread = Span(typical.0 * 3 / 4 + self.below(typical.0 / 2 + 1));
        match self.below(1_024) {
            0 => Span(spread.0 * (4 + self.below(12))),
            1..=16 => Span(spread.0 * (1 + self.below(3))),
            _ => spread,
        }
    }
    /// One of them; `None` of none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let index = usize::try_from(self.below(from.len() as u64)).unwrap_or(0);
        from.get(index)
    }
}
