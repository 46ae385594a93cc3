//! Pages of rows, some of which may be unreadable.
//!
//! Owns what becomes of a row that cannot be read where many are listed: it is passed over, counted
//! and logged, and the page goes on behind it. Its invariant: a page goes on at the place of the last
//! row that was looked at, whether that one could be read or not.

use std::ops::Deref;

use crate::error::LedgerError;
use crate::state::Shared;

/// A page of what is listed; read as the list of all that could be read.
#[derive(Clone, Debug)]
pub struct Listed<T, C> {
    items: Vec<T>,
    seen: Option<C>,
    is_full: bool,
    pub(crate) unread: Vec<String>,
}

impl<T, C: Copy> Listed<T, C> {
    /// Where the next page goes on; none at the end.
    pub fn next(&self) -> Option<C> {
        self.seen.filter(|_| self.is_full)
    }

    /// The place of the last row of this page, also where it could not be read.
    pub const fn seen(&self) -> Option<C> {
        self.seen
    }
}

impl<T, C> Listed<T, C> {
    /// Reads rows, of which at most `limit` were asked for.
    pub(crate) fn of<R>(
        rows: &[R],
        limit: usize,
        place: impl Fn(&R) -> Result<C, LedgerError>,
        read: impl Fn(&R) -> Result<T, LedgerError>,
    ) -> Result<Self, LedgerError> {
        let (items, unread) = readable(rows, read)?;
        let seen = rows.last().map(place).transpose()?;
        Ok(Self { items, seen, is_full: rows.len() >= limit, unread })
    }

    /// Nothing, because there is nothing.
    pub(crate) const fn none() -> Self {
        Self { items: Vec::new(), seen: None, is_full: false, unread: Vec::new() }
    }

    /// With one more before all others, which has a place of its own.
    pub(crate) fn behind(mut self, first: T, place: C) -> Self {
        self.items.insert(0, first);
        self.seen.get_or_insert(place);
        self
    }
}

impl<T, C> Deref for Listed<T, C> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

/// What can be read of these rows, and why each of the others cannot.
pub(crate) fn readable<R, T>(
    rows: &[R],
    read: impl Fn(&R) -> Result<T, LedgerError>,
) -> Result<(Vec<T>, Vec<String>), LedgerError> {
    let (mut items, mut unread) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        match read(row) {
            Ok(item) => items.push(item),
            Err(error) if error.is_about_a_row() => unread.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok((items, unread))
}

/// Tells of rows that a list passed over.
pub(crate) fn tell(shared: &Shared, list: &'static str, unread: &[String]) {
    for why in unread {
        metrics::counter!("cloakroom_unlisted_rows_total", "list" => list).increment(1);
        if let Some(times) = shared.strange.due(&shared.clock) {
            tracing::warn!(
                list,
                why,
                times,
                "a list passed over a row that cannot be read; where it is sealed, give this node \
                 the key or the release that wrote it"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: &[i64], limit: usize) -> Listed<i64, i64> {
        let read = |row: &i64| match row % 3 {
            0 => Err(LedgerError::Damaged("three".to_owned())),
            1 => Err(LedgerError::Sealed("one".to_owned())),
            _ => Ok(*row),
        };
        Listed::of(rows, limit, |row| Ok(*row), read).unwrap()
    }

    #[test]
    fn a_page_goes_on_behind_its_last_row_whether_that_was_read_or_not() {
        let full = page(&[2, 3, 4], 3);
        assert_eq!((&*full, full.next(), full.unread.len()), (&[2][..], Some(4), 2));
        let all_unread = page(&[3, 4], 2);
        assert_eq!((all_unread.is_empty(), all_unread.next()), (true, Some(4)));
        let last = page(&[3, 4], 3);
        assert_eq!((last.next(), last.seen()), (None, Some(4)));
        let first = page(&[], 0).behind(7, 1);
        assert_eq!((&*first, first.next()), (&[7][..], Some(1)));
    }

    #[test]
    fn what_is_no_row_s_own_fault_is_an_error() {
        let away = |_: &i64| Err::<(), _>(LedgerError::Unavailable("away".to_owned()));
        assert!(readable(&[1], away).is_err());
    }
}
