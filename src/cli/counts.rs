//! Counts as command line arguments.

/// A count of things to print or to wait for, from 1.
pub(super) fn count<N: TryFrom<u32>>(given: &str) -> Result<N, String> {
    let number = given.parse().ok().filter(|number| *number > 0).map(N::try_from);
    number
        .and_then(Result::ok)
        .ok_or_else(|| format!("write a whole number from 1 to {}", u32::MAX))
}
