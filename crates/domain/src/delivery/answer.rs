//! What a receiver's answer means: for the delivery, and for what goes out to it next.

use std::time::Duration;

use super::{Attempted, DeliveryError};
use crate::breaker::Sign;
use crate::operation::is_of_a_proxy;

/// What counts of what came of an attempt to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, where there was one.
    pub status: Option<u16>,
    /// What went wrong; nothing on a 2xx.
    pub error: Option<DeliveryError>,
    /// How long the receiver asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Whether it had to be cut off: it was long, slow or endless.
    pub is_cut: bool,
}

impl Answer {
    /// What it means for the delivery.
    pub const fn attempted(self) -> Attempted {
        match (self.status, self.error) {
            (Some(_), None) => Attempted::Taken,
            (Some(410), _) => Attempted::Gone,
            (status, _) => Attempted::Failed { status, retry_after: self.retry_after },
        }
    }

    /// What it says about the receiver, if anything. One that is not heard of within the
    /// time of an attempt counts as not there: each such attempt costs that whole time. One
    /// that fails and does not come to an end with that either costs more than others, too.
    pub const fn sign(self) -> Option<Sign> {
        match (self.status, self.error) {
            (Some(status), _) if is_of_a_proxy(status) => Some(Sign::Fails),
            (Some(503), _) if self.retry_after.is_none() => Some(Sign::Fails),
            (Some(_), Some(_)) if self.is_cut => Some(Sign::Fails),
            (Some(_), _) => Some(Sign::Answers),
            // Nobody was asked.
            (None, Some(DeliveryError::RefusedUrl | DeliveryError::RefusedAddress)) => None,
            (None, _) => Some(Sign::Unreached),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer {
        let error = DeliveryError::of_status(status);
        Answer { status: Some(status), error, retry_after: None, is_cut: false }
    }

    #[test]
    fn a_status_decides_about_the_delivery() {
        assert_eq!(answer(204).attempted(), Attempted::Taken);
        assert_eq!(answer(410).attempted(), Attempted::Gone);
        let failed = Attempted::Failed { status: Some(302), retry_after: None };
        assert_eq!(answer(302).attempted(), failed);
    }

    #[test]
    fn only_who_is_plainly_not_there_counts_against_a_receiver() {
        for (status, sign) in [(200, Sign::Answers), (500, Sign::Answers), (502, Sign::Fails)] {
            assert_eq!(answer(status).sign(), Some(sign));
        }
        assert_eq!(answer(503).sign(), Some(Sign::Fails));
        let patience = Answer { retry_after: Some(Duration::ZERO), ..answer(503) };
        assert_eq!(patience.sign(), Some(Sign::Answers));
        let cut = |status| Answer { is_cut: true, ..answer(status) };
        assert_eq!((cut(500).sign(), cut(200).sign()), (Some(Sign::Fails), Some(Sign::Answers)));
        let broken = |error| Answer { status: None, error: Some(error), ..answer(200) };
        assert_eq!(broken(DeliveryError::Timeout).sign(), Some(Sign::Unreached));
        assert_eq!(broken(DeliveryError::RefusedAddress).sign(), None);
    }
}
