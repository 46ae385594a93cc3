//! Tests of how a batch is cut into transactions.

use tokio::sync::oneshot;

use super::*;
use crate::cluster::Leave;
use crate::cluster::limits::shares::Leaving;
use crate::commit::verb::pending;
use crate::commit::write_queue::Class;
use crate::operations::{Claim, Prune};
use cloakroom_domain::Timestamp;
use cloakroom_domain::pruning::Portion;

const NOW: Timestamp = Timestamp::EPOCH;

fn leave() -> Write {
    let leaving = Leaving { counted: Vec::new(), emptied: Vec::new() };
    Write::Verb(pending(Leave { leaving, now: NOW }, oneshot::channel().0))
}

fn prune() -> Write {
    let prune = Prune { portion: Portion::default(), now: NOW };
    Write::Verb(pending(prune, oneshot::channel().0))
}

fn claim() -> Write {
    Write::Verb(pending(Claim { wants: Vec::new(), now: NOW }, oneshot::channel().0))
}

fn name(write: &Write) -> &'static str {
    match write {
        Write::Verb(verb) => match verb.class() {
            Class::Liveness => "leave",
            Class::Maintenance => "prune",
            _ => "claim",
        },
        _ => "another",
    }
}

#[test]
fn what_says_that_a_node_lives_and_what_can_wait_have_transactions_of_their_own() {
    for (is_shared, expected) in [
        (true, "leave | leave | claim claim | prune | prune"),
        (false, "claim leave leave claim | prune | prune"),
    ] {
        let mut batch = vec![claim(), prune(), leave(), leave(), prune(), claim()];
        let parts = by_octets(&mut batch, is_shared);
        let names = parts.iter().map(|part| part.iter().map(name).collect::<Vec<_>>().join(" "));
        assert_eq!(names.collect::<Vec<_>>().join(" | "), expected, "{is_shared}");
    }
}
