//! The size of the portion that is pruned in one commit.
//!
//! Every write waits behind such a commit, and a full disk has little room for its log. So a portion
//! is bounded in rows and in octets, and follows how long the last one took. Pure.

use std::time::Duration;

/// The most operations that one commit frees.
const MOST_ROWS: usize = 500;
/// The fewest that a slow commit leaves.
const FEWEST_ROWS: usize = 16;
/// The most octets of bodies that one commit deletes.
pub const MOST_OCTETS: u64 = 4 * 1024 * 1024;
/// A commit that takes longer than this makes the next one smaller.
const SLOW: Duration = Duration::from_millis(20);
/// A commit that takes less than this makes the next one larger.
const QUICK: Duration = Duration::from_millis(8);

/// The usual time between two rounds.
const INTERVAL: Duration = Duration::from_secs(5);
/// The least time between two rounds.
pub const SHORTEST_REST: Duration = Duration::from_secs(1);

/// How long after a round that freed so many operations the next one comes. Rounds are short and
/// follow one another closely where there is much to free: each group of writes waits behind a commit
/// of the pruner, and half a minute of a high rate in one round would be many seconds of that.
pub const fn rest_after(freed: u64) -> Duration {
    if freed >= MOST_ROWS as u64 { SHORTEST_REST } else { INTERVAL }
}

/// The most that one commit frees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Operations; at least 1.
    pub rows: usize,
    /// Octets of their bodies. One operation is freed however large its bodies are.
    pub octets: u64,
}

impl Default for Portion {
    fn default() -> Self {
        Self { rows: MOST_ROWS, octets: MOST_OCTETS }
    }
}

impl From<usize> for Portion {
    fn from(rows: usize) -> Self {
        Self { rows, ..Self::default() }
    }
}

impl Portion {
    /// What is tried where there is hardly any room.
    pub const SMALL: Self = Self { rows: FEWEST_ROWS, octets: 256 * 1024 };

    /// The next portion, after one that took so long.
    #[must_use]
    pub fn after(self, took: Duration) -> Self {
        let octets = self.octets.saturating_mul(2).min(MOST_OCTETS);
        let rows = match took {
            _ if took > SLOW => (self.rows / 2).max(FEWEST_ROWS),
            _ if took < QUICK => (self.rows * 2).min(MOST_ROWS),
            _ => self.rows,
        };
        Self { rows, octets }
    }

    /// The next portion, after one that failed: half of it.
    #[must_use]
    pub fn after_error(self) -> Self {
        Self { rows: (self.rows / 2).max(1), octets: (self.octets / 2).max(1) }
    }
}

/// Numbers as runs of those that follow one another, each by its first and its last; in order, and
/// each number once.
pub fn runs(numbers: &mut Vec<i64>) -> Vec<(i64, i64)> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers
        .chunk_by(|one, next| one.checked_add(1) == Some(*next))
        .filter_map(|run| Some((*run.first()?, *run.last()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_halves_a_portion_down_to_one_operation() {
        let mut portion = Portion::default();
        let mut rows = Vec::new();
        for _ in 0..12 {
            portion = portion.after_error();
            rows.push(portion.rows);
        }
        assert_eq!(rows, [250, 125, 62, 31, 15, 7, 3, 1, 1, 1, 1, 1]);
        assert_eq!(portion.octets, MOST_OCTETS >> 12);
    }

    #[test]
    fn the_next_round_comes_soon_after_one_that_freed_much() {
        for (freed, seconds) in [(0, 5), (499, 5), (500, 1), (u64::MAX, 1)] {
            assert_eq!(rest_after(freed), Duration::from_secs(seconds), "{freed}");
        }
    }

    #[test]
    fn numbers_that_follow_one_another_are_one_run() {
        for (numbers, expected) in [
            (&[][..], &[][..]),
            (&[7], &[(7, 7)]),
            (&[3, 1, 2, 2, 9, 5, 4], &[(1, 5), (9, 9)]),
            (&[i64::MAX, i64::MIN], &[(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)]),
        ] {
            assert_eq!(runs(&mut numbers.to_vec()), expected, "{numbers:?}");
        }
    }

    #[test]
    fn slow_commits_make_portions_smaller_and_quick_ones_larger() {
        let full = Portion::default();
        for (rows, millis, expected) in
            [(500, 21, 250), (20, 500, 16), (500, 1, 500), (16, 1, 32), (100, 10, 100)]
        {
            let portion = Portion { rows, ..full };
            assert_eq!(portion.after(Duration::from_millis(millis)).rows, expected, "{millis} ms");
        }
        let small = Portion { rows: 1, octets: 1024 };
        assert_eq!(small.after(QUICK), Portion { rows: 1, octets: 2048 });
    }
}
