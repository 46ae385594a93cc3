//! The meaning of a receiver's answer: for its delivery, and for the scheduling of that receiver.

use std::time::Duration;

use super::{DeliveryError, SendResult};
use crate::breaker::HealthSignal;
use crate::operation::is_of_a_proxy;

/// The parts of an attempt's result that the decision needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverAnswer {
    /// The status, where there was one.
    pub status: Option<u16>,
    /// What went wrong; nothing on a 2xx.
    pub error: Option<DeliveryError>,
    /// How long the receiver asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Whether it had to be cut off: it was long, slow or endless.
    pub is_cut: bool,
}

impl ReceiverAnswer {
    /// Its meaning for the delivery.
    pub const fn attempted(self) -> SendResult {
        match (self.status, self.error) {
            (Some(_), None) => SendResult::Taken,
            (Some(410), _) => SendResult::Gone,
            (status, _) => SendResult::Failed { status, retry_after: self.retry_after },
        }
    }

    /// What it says about the receiver, if anything. One that is not heard of within the
    /// time of an attempt counts as not there: each such attempt costs that whole time. One
    /// that fails and does not come to an end with that either costs more than others, too.
    pub const fn sign(self) -> Option<HealthSignal> {
        match (self.status, self.error) {
            (Some(status), _) if is_of_a_proxy(status) => Some(HealthSignal::Fails),
            (Some(503), _) if self.retry_after.is_none() => Some(HealthSignal::Fails),
            (Some(_), Some(_)) if self.is_cut => Some(HealthSignal::Fails),
            (Some(_), _) => Some(HealthSignal::Answers),
            // No request was sent.
            (None, Some(DeliveryError::RefusedUrl | DeliveryError::RefusedAddress)) => None,
            (None, _) => Some(HealthSignal::Unreached),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> ReceiverAnswer {
        let error = DeliveryError::of_status(status);
        ReceiverAnswer { status: Some(status), error, retry_after: None, is_cut: false }
    }

    #[test]
    fn a_status_decides_about_the_delivery() {
        assert_eq!(answer(204).attempted(), SendResult::Taken);
        assert_eq!(answer(410).attempted(), SendResult::Gone);
        let failed = SendResult::Failed { status: Some(302), retry_after: None };
        assert_eq!(answer(302).attempted(), failed);
    }

    #[test]
    fn only_who_is_plainly_not_there_counts_against_a_receiver() {
        for (status, sign) in
            [(200, HealthSignal::Answers), (500, HealthSignal::Answers), (502, HealthSignal::Fails)]
        {
            assert_eq!(answer(status).sign(), Some(sign));
        }
        assert_eq!(answer(503).sign(), Some(HealthSignal::Fails));
        let patience = ReceiverAnswer { retry_after: Some(Duration::ZERO), ..answer(503) };
        assert_eq!(patience.sign(), Some(HealthSignal::Answers));
        let cut = |status| ReceiverAnswer { is_cut: true, ..answer(status) };
        assert_eq!(
            (cut(500).sign(), cut(200).sign()),
            (Some(HealthSignal::Fails), Some(HealthSignal::Answers))
        );
        let broken = |error| ReceiverAnswer { status: None, error: Some(error), ..answer(200) };
        assert_eq!(broken(DeliveryError::Timeout).sign(), Some(HealthSignal::Unreached));
        assert_eq!(broken(DeliveryError::RefusedAddress).sign(), None);
    }
}
