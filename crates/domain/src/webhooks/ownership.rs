//! The owner of a receiver: the one node that sends its deliveries, chosen by rendezvous hashing.
//!
//! Its invariant: nodes that know the same nodes choose alike, and when a node joins or leaves, only
//! its own receivers move.

use super::ReceiverKey;

/// The node that sends to a receiver; none if there are no nodes.
/// Nodes are known by the numbers of their starts, in whatever order.
pub fn owner_of(receiver: ReceiverKey, nodes: &[i64]) -> Option<i64> {
    // The highest bidder has it: a node that leaves changes no other node's bids.
    nodes.iter().copied().max_by_key(|node| (bid(receiver, *node), *node))
}

fn bid(receiver: ReceiverKey, node: i64) -> u64 {
    mixed(mixed(node.cast_unsigned()) ^ receiver.0.cast_unsigned())
}

/// Spreads neighbouring numbers over all 64 bits, each bit depending on every other.
const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn homes(nodes: &[i64]) -> Vec<Option<i64>> {
        (1..=2000).map(|receiver| owner_of(ReceiverKey(receiver), nodes)).collect()
    }

    #[test]
    fn without_nodes_a_receiver_has_no_owner() {
        assert_eq!(owner_of(ReceiverKey(1), &[]), None);
    }

    #[test]
    fn each_node_gets_about_as_much_as_the_others() {
        let nodes = [3, 4, 5, 6];
        for node in nodes {
            let own = homes(&nodes).into_iter().filter(|home| *home == Some(node)).count();
            assert!((400..=600).contains(&own), "{node} has {own} of 2000");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn when_a_node_goes_only_what_was_its_own_moves(
            nodes in prop::collection::btree_set(1i64..1_000_000, 2..12), leaver in any::<prop::sample::Index>()
        ) {
            let all: Vec<i64> = nodes.iter().copied().collect();
            let leaver = *leaver.get(&all);
            let rest: Vec<i64> = all.iter().copied().filter(|node| *node != leaver).collect();
            let (before, after) = (homes(&all), homes(&rest));
            let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
            let mut count = 0;
            for (before, _) in moved {
                prop_assert_eq!(*before, Some(leaver));
                count += 1;
            }
            let share = 2000 / all.len();
            prop_assert!(count < share * 2, "{count} of 2000 moved, with {} nodes", all.len());
        }

        #[test]
        fn the_order_in_which_nodes_are_known_does_not_matter(
            nodes in prop::collection::btree_set(any::<i64>(), 1..12), receiver in any::<i64>()
        ) {
            let (up, down): (Vec<i64>, Vec<i64>) =
                (nodes.iter().copied().collect(), nodes.iter().rev().copied().collect());
            let chosen = owner_of(ReceiverKey(receiver), &up);
            prop_assert_eq!(chosen, owner_of(ReceiverKey(receiver), &down));
            prop_assert!(BTreeSet::from_iter(up).contains(&chosen.unwrap()));
        }
    }
}
