//! The part of a timeline that is kept.
//!
//! Owns which events give way to later ones, so that the timeline of an operation that reports progress
//! all day, or is rescheduled each second, stays bounded. Pure.

use std::ops::RangeInclusive;

/// The first events that stay.
const FIRST: u32 = 100;
/// The last events that stay behind those.
const LAST: u32 = 900;
/// One write may add two events and look only at the second; so a few more numbers are looked at.
const BEHIND: u32 = 7;

/// The numbers of those events that give way to the event with this number, if any do.
pub fn outlived_by(sequence: u32) -> Option<RangeInclusive<u32>> {
    let last = sequence.checked_sub(LAST).filter(|last| *last > FIRST)?;
    Some(last.saturating_sub(BEHIND).max(FIRST + 1)..=last)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn kept_of(total: u32, looks: impl Fn(u32) -> bool) -> BTreeSet<u32> {
        let mut kept = BTreeSet::new();
        for sequence in 1..=total {
            kept.insert(sequence);
            if looks(sequence) {
                let outlived = outlived_by(sequence);
                kept.retain(|kept| outlived.as_ref().is_none_or(|gone| !gone.contains(kept)));
            }
        }
        kept
    }

    #[test]
    fn a_timeline_keeps_its_beginning_and_its_end() {
        assert_eq!(kept_of(1000, |_| true).len(), 1000);
        let kept = kept_of(5000, |_| true);
        let expected: BTreeSet<_> = (1..=FIRST).chain(4101..=5000).collect();
        assert_eq!(kept, expected);
    }

    #[test]
    fn nothing_is_forgotten_where_only_some_events_look() {
        for nth in [2, 3, 8] {
            let kept = kept_of(4800, |sequence| sequence % nth == 0);
            assert_eq!(kept.len(), 1000, "{nth}");
        }
    }
}
