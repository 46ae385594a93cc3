//! Tests of how a batch is cut into transactions.

use tokio::sync::oneshot;

use super::*;
use cloakroom_domain::Timestamp;

const NOW: Timestamp = Timestamp::EPOCH;

fn leave() -> Write {
    let leaving = Leaving { counted: Vec::new(), emptied: Vec::new() };
    Write::Leave(Box::new(leaving), NOW, oneshot::channel().0)
}

fn prune() -> Write {
    Write::Prune(Portion::default(), NOW, oneshot::channel().0)
}

fn claim() -> Write {
    Write::Claim(Vec::new(), NOW, oneshot::channel().0)
}

fn name(write: &Write) -> &'static str {
    match write {
        Write::Leave(..) => "leave",
        Write::Prune(..) => "prune",
        _ => "claim",
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
