//! Percentiles of measured values.

use std::time::Duration;

/// Durations in microseconds.
#[derive(Debug, Default)]
pub struct Spread(Vec<u64>);

impl Spread {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        self.add_micros(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// One more, in microseconds.
    pub fn add_micros(&mut self, took: u64) {
        self.0.push(took);
    }

    /// All of another one's.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What these shares of them stay within, in milliseconds; 0 where there are none.
    pub fn within<const N: usize>(&mut self, shares: [f64; N]) -> [f64; N] {
        self.0.sort_unstable();
        shares.map(|share| {
            let rank = (share * self.0.len() as f64).ceil() as usize;
            let micros = self.0.get(rank.saturating_sub(1)).or(self.0.last());
            micros.copied().unwrap_or_default() as f64 / 1000.0
        })
    }
}
