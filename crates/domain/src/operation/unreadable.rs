//! The end of an operation whose row cannot be read.
//!
//! Owns how such an operation ends, judged by the columns that can still be read. Pure.

use super::{
    Counts, DeliveryGuarantee, Effect, ErrorCode, EventKind, Failure, NextState, OnFailure,
    Transition, UpstreamContact,
};

/// What can still be read of an operation.
#[derive(Clone, Copy, Debug)]
pub struct ReadableParts {
    /// How often the upstream may see it, where that can be read.
    pub delivery: Option<DeliveryGuarantee>,
    /// What becomes of its serial key; the usual where that cannot be read.
    pub on_failure: OnFailure,
    /// What was counted.
    pub counts: Counts,
    /// Whether it ran or was followed, so that the upstream may have acted.
    pub ran: bool,
}

impl ReadableParts {
    /// How it ends: as failed. Where the upstream may have acted and no repeat is allowed, or no
    /// one knows whether it is, the outcome is unknown.
    pub fn end(self) -> Transition {
        let Self { delivery, on_failure, counts, ran } = self;
        let contact = if ran { counts.contact.max(UpstreamContact::Lost) } else { counts.contact };
        let repeats = delivery == Some(DeliveryGuarantee::AtLeastOnce);
        let failure = match contact {
            UpstreamContact::Lost if !repeats => {
                Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::Unreadable)
            }
            _ => Failure::of(ErrorCode::Unreadable),
        };
        let code = Some(failure.code);
        let mut effects = vec![
            Effect::Announce { kind: EventKind::Failed, code, status: None },
            Effect::EraseCredentials,
            match on_failure {
                OnFailure::Block => Effect::BlockSerialKey,
                OnFailure::Skip => Effect::PromoteSerialKey,
            },
        ];
        if contact == UpstreamContact::Nothing {
            effects.push(Effect::FreeKey);
        }
        Transition {
            next: NextState::Failed(failure),
            counts: Counts { contact, ..counts },
            effects,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_sent_and_may_not_be_repeated_is_unknown() {
        use UpstreamContact::{Answered, Lost, Nothing};
        let (once, least) =
            (Some(DeliveryGuarantee::AtMostOnce), Some(DeliveryGuarantee::AtLeastOnce));
        let cases = [
            (once, Nothing, false, "unreadable", true),
            (once, Answered, false, "unreadable", false),
            (once, Lost, false, "outcome-unknown", false),
            (once, Nothing, true, "outcome-unknown", false),
            (None, Nothing, true, "outcome-unknown", false),
            (least, Nothing, true, "unreadable", false),
            (least, Nothing, false, "unreadable", true),
        ];
        for (delivery, contact, ran, code, frees) in cases {
            let counts = Counts { contact, ..Counts::default() };
            let remains = ReadableParts { delivery, on_failure: OnFailure::Skip, counts, ran };
            let end = remains.end();
            let NextState::Failed(failure) = &end.next else { panic!("{end:?}") };
            assert_eq!(failure.code.as_str(), code, "{remains:?}");
            assert_eq!(end.effects.contains(&Effect::FreeKey), frees, "{remains:?}");
        }
    }
}
