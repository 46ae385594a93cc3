//! Limits, counts and lanes that nodes share.

use std::sync::Arc as Shared;

use super::*;
use cloakroom_domain::fair_share::LimitKind;

fn asked(kind: LimitKind, limit: u64, holds: u64, needs: u64) -> Asked {
    let of = LimitName { kind, name: Shared::from("orders") };
    Asked { of, limit, holds, needs, used: holds }
}

async fn may(ledger: &Ledger, holds: u64, needs: u64) -> cloakroom_domain::fair_share::FairShare {
    let asked = asked(LimitKind::UpstreamInFlight, 5, holds, needs);
    ledger.divide(vec![asked], START).await.unwrap().remove(0).share
}

async fn who_is_alone_has_the_whole_and_what_it_holds_is_free_when_it_leaves(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let share = may(&ledger, 0, 0).await;
    assert!((share.may, share.holds, share.alone) == (5, 5, true), "{share:?}");
    // It asks for several at once, in whatever order.
    let several = vec![
        asked(LimitKind::UpstreamRate, 7200, 0, 0),
        asked(LimitKind::UpstreamInFlight, 3, 5, 9),
        asked(LimitKind::QueueInFlight, 9, 0, 0),
    ];
    let divided = ledger.divide(several, START).await.unwrap();
    let may_be: Vec<_> = divided.iter().map(|it| (it.share.may, it.share.holds)).collect();
    assert_eq!(may_be, [(9, 9), (3, 5), (2, 2)]);
    ledger.leave(Vec::new(), START).await.unwrap();
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    assert!(may(&ledger, 0, 1).await.alone);
    close(ledger, tasks).await;
}

async fn what_is_left_of_a_rate_is_told_to_the_next_start(place: Place) {
    let of = |kind| asked(kind, 1, 0, 0).of;
    let (rate, other) = (of(LimitKind::UpstreamRate), of(LimitKind::QueueRate));
    let (ledger, tasks) = place.open(START).await;
    let full = ledger.emptied(START).await.unwrap();
    assert_eq!(full.of(&rate), Timestamp::EPOCH, "none was used before the first start");
    let left = START - Duration::from_millis(300);
    ledger.leave(vec![(rate.clone(), left)], START).await.unwrap();
    ledger.leave(vec![(rate.clone(), left - HOUR)], START).await.unwrap();
    close(ledger, tasks).await;
    let later = START + HOUR;
    let (ledger, tasks) = place.open(later).await;
    let emptied = ledger.emptied(later).await.unwrap();
    assert_eq!((emptied.of(&rate), emptied.of(&other)), (left, later));
    // It divides the limit as before.
    assert!(may(&ledger, 0, 1).await.alone);
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            who_is_alone_has_the_whole_and_what_it_holds_is_free_when_it_leaves,
            what_is_left_of_a_rate_is_told_to_the_next_start,
        );
    };
}

on!(sqlite);
on!(postgres);

#[tokio::test]
async fn a_start_on_a_file_that_was_killed_counts_as_having_used_its_rates_up() {
    let place = Place::sqlite();
    let rate = asked(LimitKind::UpstreamRate, 1, 0, 0).of;
    let (ledger, tasks) = place.open(START).await;
    ledger.leave(vec![(rate.clone(), START)], START).await.unwrap();
    close(ledger, tasks).await;
    let (killed, tasks) = place.open(START + HOUR).await;
    close(killed, tasks).await;
    let later = START + 2 * HOUR;
    let (ledger, tasks) = place.open(later).await;
    assert_eq!(ledger.emptied(later).await.unwrap().of(&rate), later);
    close(ledger, tasks).await;
}

mod among_several {
    use super::super::cluster::cluster;
    use super::*;
    use cloakroom_domain::reconcile::{Discrepancy, DiscrepancyReport};

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
        assert_eq!(used, [(asked(LimitKind::UpstreamInFlight, 5, 0, 0).of, 0)]);
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
        // It comes back, and still uses two: no node gets more before they are back.
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
        two.other.leave(Vec::new(), START).await.unwrap();
        two.one.beat(vitals()).await.unwrap();
        assert_eq!(two.one.queue_depth("default"), 1);
        let (third, tasks) = two.place.open(START).await;
        assert_eq!(third.queue_depth("default"), 1);
        close(third, tasks).await;
        two.close().await;
    }

    fn found(report: &DiscrepancyReport) -> Vec<(Discrepancy, u64)> {
        report.findings.iter().map(|finding| (finding.kind, finding.count)).collect()
    }

    #[tokio::test]
    async fn a_node_that_starts_counts_nothing_that_another_has_yet_to_tell() {
        let place = Place::postgres();
        let (one, tasks) = place.open(START).await;
        one.beat(vitals()).await.unwrap();
        one.accept(operation(1, START)).await.unwrap();
        let (other, more_tasks) = place.open(START).await;
        for ledger in [&one, &other, &one] {
            ledger.beat(vitals()).await.unwrap();
        }
        let stored = operation(1, START).work.octets();
        for ledger in [&one, &other] {
            let lanes = ledger.lanes();
            let sum = |of: fn(&LaneDepth) -> u64| lanes.iter().map(of).sum::<u64>();
            assert_eq!((sum(|it| it.depth), sum(|it| it.stored)), (1, stored));
        }
        close(one, tasks).await;
        close(other, more_tasks).await;
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
        // What lies in the lane, and what is stored for it.
        let miscounted = [(Discrepancy::Miscounted, 2)];
        assert_eq!(found(&two.other.reconcile(false, START).await.unwrap()), miscounted);
        let both = tokio::join!(two.other.reconcile(true, START), two.other.reconcile(true, START));
        let both = [found(&both.0.unwrap()), found(&both.1.unwrap())];
        assert!(both.iter().any(|found| *found == miscounted), "{both:?}");
        two.other.beat(brief).await.unwrap();
        assert_eq!(two.other.queue_depth("default"), 4);
        assert_eq!(stored(&two.other), 4 * each());
        assert_eq!(found(&two.other.reconcile(true, START).await.unwrap()), []);
        two.close().await;
    }

    /// Of those that wait for a serial key.
    #[tokio::test]
    async fn what_a_dead_node_had_counted_behind_keys_is_corrected_too() {
        let two = Two::open().await;
        let brief = Vitals { lease: Duration::from_millis(50), ..vitals() };
        two.one.beat(brief.clone()).await.unwrap();
        for number in 1..=4 {
            let key = SerialKey { digest: [7; 16], text: "customer-7".into() };
            let new = NewOperation { serial_key: Some(key), ..operation(number, START) };
            two.one.accept(new).await.unwrap();
        }
        let deep = "INSERT INTO counters (lane, incarnation, depth, started, behind) \
             SELECT lane, 0, 0, 0, 400 FROM lanes WHERE NOT express \
             ON CONFLICT (lane, incarnation) DO UPDATE SET behind = counters.behind + 400";
        cluster().sql(two.url().rsplit('/').next().unwrap(), deep);
        for ledger in [&two.one, &two.other] {
            ledger.beat(brief.clone()).await.unwrap();
        }
        assert_eq!(two.other.queue_depth("default"), 404);
        let miscounted = [(Discrepancy::Miscounted, 1)];
        assert_eq!(found(&two.other.recount_lanes().await.unwrap()), miscounted);
        two.other.beat(brief).await.unwrap();
        assert_eq!(two.other.queue_depth("default"), 4);
        assert_eq!(found(&two.other.reconcile(true, START).await.unwrap()), []);
        two.close().await;
    }

    /// Changes what dead nodes are said to have counted.
    fn miscount(two: &Two, by: i64) {
        let name = two.url().rsplit('/').next().unwrap();
        let sql = format!(
            "INSERT INTO counters SELECT lane, 0, {by}, 0 FROM lanes WHERE express = false \
             ON CONFLICT (lane, incarnation) DO UPDATE SET depth = counters.depth + {by}"
        );
        cluster().sql(name, &sql);
    }

    #[tokio::test]
    async fn nobody_is_refused_as_full_because_of_what_a_dead_node_had_counted() {
        let two = Two::open().await;
        let small = |number| NewOperation { max_depth: 10, ..operation(number, START) };
        two.one.accept(small(1)).await.unwrap();
        miscount(&two, 40);
        two.one.beat(vitals()).await.unwrap();
        assert_eq!(two.one.queue_depth("default"), 41);
        for number in 2..=10 {
            let accepted = two.one.accept(small(number)).await.unwrap();
            assert!(matches!(accepted, Accepted::New(_)), "{number}: {accepted:?}");
        }
        let full = two.one.accept(small(11)).await.unwrap();
        assert_eq!(full, Accepted::QueueFull { depth: 10 });
        two.close().await;
    }

    fn each() -> u64 {
        operation(1, START).work.octets()
    }

    fn stored(ledger: &Ledger) -> u64 {
        ledger.lanes().iter().map(|lane| lane.stored).sum()
    }

    async fn both_beat(two: &Two) {
        for _ in 0..2 {
            two.one.beat(vitals()).await.unwrap();
            two.other.beat(vitals()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_all_nodes_store_counts_on_each_and_stays_when_one_leaves() {
        let two = Two::open().await;
        let among = |number| NewOperation { max_stored: 3 * each(), ..operation(number, START) };
        for (ledger, number) in [(&two.one, 1), (&two.one, 2), (&two.other, 3)] {
            assert!(matches!(ledger.accept(among(number)).await, Ok(Accepted::New(_))));
        }
        both_beat(&two).await;
        for (ledger, number) in [(&two.one, 4), (&two.other, 5)] {
            let full = ledger.accept(among(number)).await.unwrap();
            assert_eq!(full, Accepted::StorageFull { stored: 3 * each() });
        }
        // It ends what the other one stored.
        let leased = claim_one(&two.other, START).await;
        finish(&two.other, leased, START).await;
        both_beat(&two).await;
        assert_eq!((stored(&two.one), stored(&two.other)), (2 * each(), 2 * each()));
        two.other.leave(Vec::new(), START).await.unwrap();
        two.one.beat(vitals()).await.unwrap();
        assert_eq!(stored(&two.one), 2 * each());
        let (third, tasks) = two.place.open(START).await;
        assert_eq!(stored(&third), 2 * each());
        close(third, tasks).await;
        two.close().await;
    }

    #[tokio::test]
    async fn nobody_is_refused_because_of_what_a_dead_node_is_said_to_have_stored() {
        let two = Two::open().await;
        let among = |number| NewOperation { max_stored: 3 * each(), ..operation(number, START) };
        two.one.accept(among(1)).await.unwrap();
        let name = two.url().rsplit('/').next().unwrap().to_owned();
        let sql = "INSERT INTO counters (lane, incarnation, depth, started, stored) \
             SELECT lane, 0, 0, 0, 1000000 FROM lanes WHERE NOT express \
             ON CONFLICT (lane, incarnation) DO UPDATE SET stored = counters.stored + 1000000";
        cluster().sql(&name, sql);
        both_beat(&two).await;
        assert_eq!(stored(&two.one), each() + 1_000_000);
        for number in 2..=3 {
            assert!(matches!(two.one.accept(among(number)).await, Ok(Accepted::New(_))));
        }
        let full = two.one.accept(among(4)).await.unwrap();
        assert_eq!(full, Accepted::StorageFull { stored: 3 * each() });
        two.close().await;
    }

    #[tokio::test]
    async fn a_queue_that_really_is_full_is_counted_no_further_than_that_and_seldom() {
        let place = Place::postgres();
        let (clock, tasks) = (Clock::manual(START), Tasks::new());
        let ledger = Ledger::open(place.opening(), &clock, &tasks).await.unwrap();
        let of = |number, max_depth| NewOperation { max_depth, ..operation(number, START) };
        for number in 1..=6 {
            ledger.accept(of(number, 9)).await.unwrap();
        }
        let full = |depth| Accepted::QueueFull { depth };
        // It has more than that route lets in: how many more does not matter.
        assert_eq!(ledger.accept(of(7, 2)).await.unwrap(), full(6));
        let Place::Database(url) = &place else { panic!("no database") };
        cluster().sql(url.rsplit('/').next().unwrap(), "DELETE FROM ready WHERE seq > 1");
        assert_eq!(ledger.accept(of(8, 2)).await.unwrap(), full(6));
        clock.advance(Duration::from_secs(1));
        assert!(matches!(ledger.accept(of(9, 2)).await.unwrap(), Accepted::New(_)));
        close(ledger, tasks).await;
    }

    /// One node puts in, from that number on, and the other takes out and ends, both beating,
    /// until `done`.
    async fn traffic(
        two: [&Ledger; 2],
        mut number: u32,
        lease: Duration,
        done: impl Future<Output = ()>,
    ) {
        let clock = Clock::system();
        let brief = Vitals { lease, ..vitals() };
        let beating = async {
            loop {
                for ledger in two {
                    ledger.beat(brief.clone()).await.unwrap();
                    clock.sleep(lease / 10).await;
                }
            }
        };
        let coming = async {
            loop {
                number += 1;
                let mut octets = [9; 10];
                // The ones before are not wholly the id's own.
                octets[4..8].copy_from_slice(&number.to_be_bytes());
                let id = OperationId::new(START, 1, octets);
                let new = NewOperation { id, max_depth: 100_000, ..operation(1, START) };
                assert!(matches!(two[0].accept(new).await.unwrap(), Accepted::New(_)));
                clock.sleep(Duration::from_millis(2)).await;
            }
        };
        let going = async {
            loop {
                clock.sleep(Duration::from_millis(12)).await;
                let wants = vec![Want { lane: lane(false), limit: 3 }];
                for leased in two[1].claim(wants, START).await.unwrap().remove(0).leased {
                    finish(two[1], leased, START).await;
                }
            }
        };
        tokio::select! {
            () = done => {}
            () = beating => {}
            () = coming => {}
            () = going => {}
        }
    }

    #[tokio::test]
    async fn a_lane_that_never_rests_is_put_right_while_operations_come_and_go() {
        let place = Place::postgres();
        let lease = Duration::from_millis(1_500);
        let (mut ledgers, mut all) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let tasks = Tasks::new();
            ledgers.push(Ledger::open(place.opening(), &Clock::system(), &tasks).await.unwrap());
            all.push(tasks);
        }
        let other = ledgers.pop().unwrap();
        let two = Two { place, one: ledgers.pop().unwrap(), other, tasks: all.try_into().unwrap() };
        // A beat's worth of what comes and goes is never certain.
        let uncertain = 120;
        for (by, from) in [(-1_000, 0), (1_000, 1 << 24)] {
            miscount(&two, by);
            let recounting = async {
                Clock::system().sleep(lease / 2).await;
                let report = two.one.recount_lanes().await.unwrap();
                // What is stored may seem to be off by those that come and go.
                let found = found(&report);
                assert!(matches!(found[..], [(Discrepancy::Miscounted, 1 | 2)]), "{found:?}");
            };
            Box::pin(traffic([&two.one, &two.other], from, lease, recounting)).await;
            for _ in 0..2 {
                two.other.beat(vitals()).await.unwrap();
                two.one.beat(vitals()).await.unwrap();
            }
            let name = two.url().rsplit('/').next().unwrap();
            let rows = cluster().sql(name, "SELECT count(*) FROM ready");
            let rows: u64 = rows.parse().unwrap();
            let off = two.one.queue_depth("default").abs_diff(rows);
            assert!(off <= uncertain, "off by {off} of {by}, with {rows} there");
        }
        two.close().await;
    }

    #[tokio::test]
    async fn what_nodes_left_that_are_long_gone_is_seen_to_and_what_living_nodes_stash_is_not() {
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
        let left = async |key| two.other.piece(BodyKey(key), 0).await.unwrap().is_some();
        assert_eq!(found(&two.other.reconcile(true, START).await.unwrap()), []);
        assert_eq!((left(7).await, left(-8).await), (true, true));
        // Its own is abandoned by then; the other node may still be at it.
        let unused = (Discrepancy::UnusedPieces, 1);
        assert_eq!(found(&two.other.reconcile(true, START + 2 * HOUR).await.unwrap()), [unused]);
        assert_eq!((left(7).await, left(-8).await), (true, false));
        two.other.note_dead(vec![Dead { incarnation: two.one.incarnation(), beat: Some(1) }]);
        let held = (Discrepancy::HeldByDead, 1);
        assert_eq!(found(&two.other.reconcile(true, now).await.unwrap()), [held]);
        assert_eq!(found(&two.other.reconcile(true, later).await.unwrap()), [held, unused]);
        assert!(!left(7).await);
        // What it had counted stays, in the row of no node.
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
