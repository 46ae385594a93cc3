//! `[retention]`: how long results and operations are kept.
//!
//! Its invariant: a result never outlives its operation.

use std::time::Duration;

use super::{
    reader::Section,
    units::{MOMENT, days, hours},
};

/// How long things last after an operation has finished.
#[derive(Clone, Debug, PartialEq)]
pub struct RetentionConfig {
    /// After this, the recorded answer is freed.
    pub result: Duration,
    /// After this, the row and its idempotency key go; at least `result`.
    pub operation: Duration,
}

impl RetentionConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let bounds = MOMENT..=days(3650);
        let result = section.within("result", hours(24), bounds.clone());
        let operation = section.within("operation", days(7), bounds);
        if operation < result {
            let says = "must not be less than retention.result: a result cannot outlive its \
                        operation";
            section.fault_about("operation", says);
        }
        Self { result, operation }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, read};

    #[test]
    fn results_last_a_day_and_operations_a_week_unless_told() {
        let retention = read("").retention;
        assert_eq!(retention.result.as_secs(), 24 * 3600);
        assert_eq!(retention.operation.as_secs(), 7 * 24 * 3600);
    }

    #[test]
    fn a_result_never_outlives_its_operation() {
        let says = faults("[retention]\nresult = \"8d\"");
        assert!(says.contains("retention.operation") && says.contains("retention.result"));
        let says = faults("[retention]\noperation = \"1h\"");
        assert!(says.starts_with("test.toml:2: retention.operation"), "{says}");
        assert!(faults("[retention]\nresult = \"0s\"").contains("retention.result"));
    }
}
