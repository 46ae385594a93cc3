//! How nodes share limits, counts and lanes.

use std::sync::Arc as Shared;

use super::*;
use crate::domain::division::Kind;

fn asked(kind: Kind, limit: u64, holds: u64, needs: u64) -> Asked {
    let of = LimitName { kind, name: Shared::from("orders") };
    Asked { of, limit, holds, needs, used: holds }
}

async fn may(ledger: &Ledger, holds: u64, needs: u64) -> crate::domain::division::Share {
    let asked = asked(Kind::UpstreamInFlight, 5, holds, needs);
    ledger.divide(vec![asked], START).await.unwrap().remove(0).share
}

async fn who_is_alone_has_the_whole_and_what_it_holds_is_free_when_it_leaves(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let share = may(&ledger, 0, 0).await;
    assert!((share.may, share.holds, share.alone) == (5, 5, true), "{share:?}");
    // It asks for several at once, in whatever order.
    let several = vec![
        asked(Kind::UpstreamRate, 7200, 0, 0),
        asked(Kind::UpstreamInFlight, 3, 5, 9),
        asked(Kind::QueueInFlight, 9, 0, 0),
    ];
    let divided = ledger.divide(several, START).await.unwrap();
    let may_be: Vec<_> = divided.iter().map(|it| (it.share.may, it.share.holds)).collect();
    assert_eq!(may_be, [(9, 9), (3, 5), (2, 2)]);
    ledger.leave(START).await.unwrap();
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    assert!(may(&ledger, 0, 1).await.alone);
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            who_is_alone_has_the_whole_and_what_it_holds_is_free_when_it_leaves,
        );
    };
}

on!(sqlite);
on!(postgres);

mod among_several {
    use super::super::cluster::cluster;
    use super::*;
    use crate::domain::reconcile::{Discrepancy, Report};

    struct Two {
        place: Place,
        one: Ledger,
        other: Ledger,
        tasks: [Tasks; 2],
    }

    impl Two {
        async fn open() -> Self {
            let place = Place::postgres();
            let (one, tasks) = place.open(START).await;
            let (other, more_tasks) = place.open(START).await;
            Self { place, one, other, tasks: [tasks, more_tasks] }
        }

        fn url(&self) -> &str {
            let Place::Database(url) = &self.place else { panic!("no database") };
            url
        }

        async fn close(self) {
            let [tasks, more_tasks] = self.tasks;
            close(self.one, tasks).await;
            close(self.other, more_tasks).await;
            drop(self.place);
        }
    }

    #[tokio::test]
    async fn who_joins_is_owed_a_part_and_the_other_hears_of_it_and_gives_it_back() {
        let two = Two::open().await;
        assert_eq!(may(&two.one, 0, 5).await.may, 5);
        let joined = may(&two.other, 0, 5).await;
        assert!(joined.may == 0 && joined.owed && joined.stirs, "{joined:?}");
        two.one.permits_stirred().await;
        let told = may(&two.one, 5, 5).await;
        assert!((told.may, told.holds, told.stirs) == (2, 5, false), "{told:?}");
        assert_eq!(may(&two.other, 0, 5).await.may, 0);
        let given = may(&two.one, 2, 5).await;
        assert!(given.holds == 2 && given.stirs, "{given:?}");
        two.other.permits_stirred().await;
        let got = may(&two.other, 0, 5).await;
        assert!(got.may == 3 && !got.owed, "{got:?}");
        let used = two.one.used_elsewhere().await.unwrap();
        assert_eq!(used, [(asked(Kind::UpstreamInFlight, 5, 0, 0).of, 0)]);
        two.close().await;
    }

    #[tokio::test]
    async fn nodes_that_join_at_once_get_no_more_together_than_there_is() {
        let place = Place::postgres();
        let mut nodes = Vec::new();
        for _ in 0..6 {
            nodes.push(place.open(START).await);
        }
        let joins = nodes.iter().map(|(ledger, _)| may(ledger, 0, 3));
        let shares = futures_util::future::join_all(joins).await;
        let sum: u64 = shares.iter().map(|share| share.holds).sum();
        assert!((3..=5).contains(&sum), "{shares:?}");
        for (ledger, tasks) in nodes {
            close(ledger, tasks).await;
        }
    }

    #[tokio::test]
    async fn what_a_dead_node_held_is_free_once_it_is_dead_and_not_if_it_beats_again() {
        let two = Two::open().await;
        assert_eq!(may(&two.one, 0, 5).await.may, 5);
        let beat = two.one.beat(vitals()).await.unwrap().beat;
        let dead = |beat| vec![Dead { incarnation: two.one.incarnation(), beat: Some(beat) }];
        assert_eq!(may(&two.other, 0, 5).await.may, 0);
        two.other.note_dead(dead(beat - 1));
        assert_eq!(may(&two.other, 0, 5).await.may, 0);
        two.other.note_dead(dead(beat));
        assert_eq!(may(&two.other, 0, 5).await.may, 5);
        // It comes back, and still uses two: nobody gets more before they are back.
        let back = may(&two.one, 2, 5).await;
        assert!((back.may, back.holds) == (0, 2) && back.owed, "{back:?}");
        two.close().await;
    }

    #[tokio::test]
    async fn a_queue_is_as_full_as_all_nodes_have_made_it() {
        let two = Two::open().await;
        let small = |number| NewOperation { max_depth: 3, ..operation(number, START) };
        for number in 1..=2 {
            assert!(matches!(two.one.accept(small(number)).await, Ok(Accepted::New(_))));
        }
        assert!(matches!(two.other.accept(small(3)).await, Ok(Accepted::New(_))));
        for _ in 0..2 {
            two.one.beat(vitals()).await.unwrap();
            two.other.beat(vitals()).await.unwrap();
        }
        for (ledger, number) in [(&two.one, 4), (&two.other, 5)] {
            let full = ledger.accept(small(number)).await.unwrap();
            assert_eq!(full, Accepted::QueueFull { depth: 3 });
        }
        // The other takes two out, one of which it did not put in.
        let wants = vec![Want { lane: lane(false), limit: 2 }];
        assert_eq!(two.other.claim(wants, START).await.unwrap()[0].leased.len(), 2);
        two.other.beat(vitals()).await.unwrap();
        two.one.beat(vitals()).await.unwrap();
        assert_eq!(two.one.queue_depth("default"), 1);
        // What who leaves has counted stays, and who comes reads it.
        two.other.leave(START).await.unwrap();
        two.one.beat(vitals()).await.unwrap();
        assert_eq!(two.one.queue_depth("default"), 1);
        let (third, tasks) = two.place.open(START).await;
        assert_eq!(third.queue_depth("default"), 1);
        close(third, tasks).await;
        two.close().await;
    }

    fn found(report: &Report) -> Vec<(Discrepancy, u64)> {
        report.findings.iter().map(|finding| (finding.kind, finding.count)).collect()
    }

    #[tokio::test]
    async fn what_a_node_never_told_that_died_is_counted_and_corrected_once() {
        let two = Two::open().await;
        let brief = Vitals { lease: Duration::from_millis(50), ..vitals() };
        two.one.beat(brief.clone()).await.unwrap();
        for number in 1..=3 {
            two.one.accept(operation(number, START)).await.unwrap();
        }
        two.other.accept(operation(4, START)).await.unwrap();
        two.other.beat(brief.clone()).await.unwrap();
        let miscounted = [(Discrepancy::Miscounted, 1)];
        assert_eq!(found(&two.other.reconcile(false, START).await.unwrap()), miscounted);
        let both = tokio::join!(two.other.reconcile(true, START), two.other.reconcile(true, START));
        let both = [found(&both.0.unwrap()), found(&both.1.unwrap())];
        assert!(both.iter().any(|found| *found == miscounted), "{both:?}");
        two.other.beat(brief).await.unwrap();
        assert_eq!(two.other.queue_depth("default"), 4);
        assert_eq!(found(&two.other.reconcile(true, START).await.unwrap()), []);
        two.close().await;
    }

    #[tokio::test]
    async fn what_nodes_left_that_are_long_gone_is_seen_to_and_what_others_stash_is_not() {
        let two = Two::open().await;
        let brief = Vitals { lease: Duration::from_millis(50), ..vitals() };
        two.one.accept(operation(1, START)).await.unwrap();
        claim_one(&two.one, START).await;
        two.one.beat(brief.clone()).await.unwrap();
        two.other.beat(brief.clone()).await.unwrap();
        may(&two.one, 0, 1).await;
        for (ledger, body) in [(&two.one, 7), (&two.other, -8)] {
            let octets = Bytes::from_static(b"piece");
            let piece = Piece { body: BodyKey(body), number: 0, octets };
            ledger.stash(vec![piece]).await.unwrap();
        }
        let (now, later) = (Clock::system().now(), Clock::system().now() + 2 * HOUR);
        assert_eq!(found(&two.other.reconcile(true, later).await.unwrap()), []);
        two.other.note_dead(vec![Dead { incarnation: two.one.incarnation(), beat: Some(1) }]);
        let held = (Discrepancy::HeldByDead, 1);
        assert_eq!(found(&two.other.reconcile(true, now).await.unwrap()), [held]);
        let left = [held, (Discrepancy::UnusedPieces, 1)];
        assert_eq!(found(&two.other.reconcile(true, later).await.unwrap()), left);
        assert_eq!(two.other.piece(BodyKey(7), 0).await.unwrap(), None);
        assert!(two.other.piece(BodyKey(-8), 0).await.unwrap().is_some());
        // What it had counted stays, in nobody's name.
        let name = two.url().rsplit('/').next().unwrap().to_owned();
        let of = |table| format!("SELECT count(*) FROM {table} WHERE incarnation = 1");
        let rows = ["counters", "permits"].map(|table| cluster().sql(&name, &of(table)));
        assert_eq!(rows, ["0", "0"]);
        two.other.beat(brief).await.unwrap();
        assert_eq!(two.other.queue_depth("default"), 0);
        two.close().await;
    }

    #[tokio::test]
    async fn lanes_that_another_node_makes_are_learnt_while_this_one_runs() {
        let two = Two::open().await;
        let new = Lane { queue: "new".into(), ..lane(false) };
        let mut opening = two.place.opening();
        opening.lanes.push(new.clone());
        let tasks = Tasks::new();
        let third = Ledger::open(opening, &Clock::manual(START), &tasks).await.unwrap();
        third.accept(NewOperation { lane: new.clone(), ..operation(1, START) }).await.unwrap();
        loop {
            two.one.work_came().await;
            let known = two.one.lanes();
            if known.iter().any(|known| known.lane == new && known.oldest_due.is_some()) {
                break;
            }
        }
        let wants = vec![Want { lane: new, limit: 1 }];
        assert_eq!(two.one.claim(wants, START).await.unwrap()[0].leased.len(), 1);
        close(third, tasks).await;
        two.close().await;
    }
}
