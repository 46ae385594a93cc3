//! `[shutdown]`: time limits for stopping the process.

use std::time::Duration;

use super::{
    reader::Section,
    units::{hours, seconds},
};

/// How the process ends.
#[derive(Clone, Debug, PartialEq)]
pub struct ShutdownConfig {
    /// How long running attempts may go on after the first signal; zero cuts at once.
    pub grace: Duration,
}

impl ShutdownConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self { grace: section.within("grace", seconds(30), Duration::ZERO..=hours(24)) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, read};

    #[test]
    fn running_attempts_get_half_a_minute_unless_told() {
        assert_eq!(read("").shutdown.grace.as_secs(), 30);
        assert_eq!(read("[shutdown]\ngrace = \"0s\"").shutdown.grace.as_secs(), 0);
        assert!(faults("[shutdown]\ngrace = \"2d\"").contains("shutdown.grace"));
    }
}
