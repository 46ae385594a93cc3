//! Tests of permits: slots, tokens and the order of waiting.

use std::time::Duration;

use super::*;
use crate::engine::{QueueLimits, UpstreamLimits};
use cloakroom_domain::fair_share::FairShare;
use cloakroom_ledger::{Asked, Emptied};
use futures_util::FutureExt;

const NOW: Timestamp = Timestamp::EPOCH;

fn settings(slots: usize, upstreams: &[(&str, u32)]) -> EngineSettings {
    let limits = |limit| UpstreamLimits { max_in_flight: limit, rate: None, max_response: 1 };
    let upstreams = upstreams.iter().map(|(name, limit)| (Arc::from(*name), limits(*limit)));
    EngineSettings { slots, upstreams: upstreams.collect(), ..EngineSettings::default() }
}

fn permits(slots: usize, upstreams: &[(&str, u32)]) -> Permits {
    Permits::new(&settings(slots, upstreams), false, NOW)
}

fn lane(upstream: &str) -> Lane {
    Lane { queue: "default".into(), upstream: upstream.into(), express: false, quarantine: false }
}

impl Permits {
    fn all_for(&self, upstream: &str, purpose: PermitPurpose) -> Vec<Permit> {
        self.take_up_to(99, &lane(upstream), purpose, NOW).0
    }
}

#[test]
fn one_upstream_alone_may_have_every_slot_up_to_its_own_limit() {
    let alone = permits(10, &[("a", 64)]);
    assert_eq!(alone.all_for("a", PermitPurpose::Handoff).len(), 10);
    let limited = permits(10, &[("a", 3)]);
    assert_eq!(limited.all_for("a", PermitPurpose::Handoff).len(), 3);
    let unknown = limited.take(&lane("b"), PermitPurpose::Handoff, NOW);
    assert_eq!(unknown.err(), Some(PermitRefusal::Unknown));
}

#[test]
fn of_several_upstreams_none_gets_more_than_its_share() {
    let shared = permits(10, &[("a", 64), ("b", 64), ("c", 64)]);
    let a = shared.all_for("a", PermitPurpose::Handoff);
    assert_eq!(a.len(), 5);
    let b = shared.all_for("b", PermitPurpose::Handoff);
    assert_eq!((b.len(), shared.taken()), (5, 10));
    assert_eq!(shared.take(&lane("c"), PermitPurpose::Claim, NOW).err(), Some(PermitRefusal::Full));
    drop(a);
    assert_eq!(shared.all_for("c", PermitPurpose::Claim).len(), 5);
    let third = EngineSettings { max_share: 30, ..settings(10, &[("a", 64), ("b", 64)]) };
    assert_eq!(Permits::new(&third, false, NOW).all_for("a", PermitPurpose::Handoff).len(), 3);
}

#[test]
fn what_has_ended_keeps_only_its_slot_until_it_is_written_down() {
    let limited = permits(3, &[("a", 1)]);
    let take = || limited.take(&lane("a"), PermitPurpose::Claim, NOW);
    let mut out = Vec::new();
    for _ in 0..3 {
        limited.expect_release();
        let mut permit = take().unwrap();
        permit.is_first_attempt();
        assert_eq!(take().err(), Some(PermitRefusal::Full), "one at a time");
        limited.expect_release();
        permit.ended(None, NOW);
        assert!(limited.freed().now_or_never().is_some(), "who waits is told");
        out.push(permit);
    }
    assert_eq!((take().err(), limited.taken()), (Some(PermitRefusal::Full), 3));
    let (in_use, _) = limited.of_upstream("a").unwrap();
    assert_eq!((in_use.running, in_use.limit), (0, 1));
    out.pop();
    limited.expect_release();
    assert!(take().is_ok());
}

#[test]
fn what_is_not_written_down_counts_for_its_upstreams_share() {
    let shared = permits(10, &[("a", 64), ("b", 64)]);
    let mut a = shared.all_for("a", PermitPurpose::Handoff);
    a.iter_mut().for_each(|permit| permit.ended(None, NOW));
    assert_eq!((a.len(), shared.all_for("a", PermitPurpose::Handoff).len()), (5, 0));
    assert_eq!(shared.all_for("b", PermitPurpose::Handoff).len(), 5);
    drop(a);
    shared.expect_release();
    assert_eq!(shared.all_for("a", PermitPurpose::Handoff).len(), 5);
}

#[test]
fn retries_leave_a_part_to_first_attempts() {
    let shared = permits(10, &[("a", 64)]);
    let mut retries = shared.all_for("a", PermitPurpose::Claim);
    assert_eq!(retries.len(), 8);
    let first = shared.all_for("a", PermitPurpose::Express);
    assert_eq!(first.len(), 2);
    // Three of the claimed were none: as many retries may follow once there are slots.
    retries.iter_mut().take(3).for_each(Permit::is_first_attempt);
    drop(first);
    assert_eq!(shared.all_for("a", PermitPurpose::Claim).len(), 2);
    drop(retries);
    assert_eq!((shared.taken(), shared.0.retries.taken()), (0, 0));
}

#[test]
fn a_single_slot_serves_retries_too() {
    let single = permits(1, &[("a", 1), ("b", 1)]);
    assert!(single.take(&lane("a"), PermitPurpose::Claim, NOW).is_ok());
    let kept = EngineSettings { first_attempts: 90, ..settings(1, &[("a", 1)]) };
    assert!(Permits::new(&kept, false, NOW).take(&lane("a"), PermitPurpose::Claim, NOW).is_ok());
}

#[test]
fn a_queue_has_a_limit_of_its_own_over_all_upstreams() {
    let mut settings = settings(10, &[("a", 64), ("b", 64)]);
    let limits = QueueLimits { max_in_flight: Some(3), ..QueueLimits::default() };
    settings.queues.insert("default".into(), limits);
    let permits = Permits::new(&settings, false, NOW);
    let a = permits.take_up_to(2, &lane("a"), PermitPurpose::Claim, NOW).0;
    let b = permits.all_for("b", PermitPurpose::Express);
    assert_eq!((a.len(), b.len()), (2, 1));
    assert_eq!(permits.of_queue("default"), Some(LimitUsage { running: 3, limit: 3 }));
    let other = Lane { queue: "unheard-of".into(), ..lane("b") };
    assert!(permits.take(&other, PermitPurpose::Claim, NOW).is_ok());
}

#[test]
fn a_rate_says_when_to_ask_again_and_counts_only_what_began() {
    let mut settings = settings(10, &[("a", 64)]);
    let rate = "2/s".parse().ok();
    settings.queues.insert("default".into(), QueueLimits { rate, ..QueueLimits::default() });
    let permits = Permits::new(&settings, false, NOW);
    let (unused, refusal) = permits.take_up_to(9, &lane("a"), PermitPurpose::Claim, NOW);
    let next = NOW + Duration::from_millis(500);
    assert_eq!((unused.len(), refusal), (2, Some(PermitRefusal::Until(next))));
    drop(unused);
    permits.expect_release();
    let mut began = permits.all_for("a", PermitPurpose::Claim);
    assert_eq!(began.len(), 2);
    began.iter_mut().for_each(Permit::begins);
    drop(began);
    assert!(permits.all_for("a", PermitPurpose::Claim).is_empty());
    assert_eq!(permits.taken(), 0, "what was refused holds nothing");
}

#[test]
fn while_an_upstream_is_down_one_at_a_time_finds_out_and_others_go_on() {
    let permits = permits(10, &[("a", 64), ("b", 64)]);
    for _ in 0..5 {
        let mut permit = permits.take(&lane("a"), PermitPurpose::Handoff, NOW).unwrap();
        permit.ended(Some(HealthSignal::Unreached), NOW);
    }
    let Err(PermitRefusal::Until(over)) = permits.take(&lane("a"), PermitPurpose::Handoff, NOW)
    else {
        panic!("open")
    };
    let one = permits.take_up_to(9, &lane("a"), PermitPurpose::Claim, over).0;
    assert_eq!(one.len(), 1);
    assert_eq!(permits.all_for("b", PermitPurpose::Claim).len(), 5);
    for mut probe in one {
        probe.ended(Some(HealthSignal::Answers), over);
    }
    assert_eq!(permits.take_up_to(9, &lane("a"), PermitPurpose::Claim, over).0.len(), 5);
}

#[test]
fn who_has_just_come_does_not_overtake_who_waits() {
    let single = permits(1, &[("a", 1)]);
    let taken = single.take(&lane("a"), PermitPurpose::Handoff, NOW).unwrap();
    single.expect_release();
    assert!(single.take(&lane("a"), PermitPurpose::Claim, NOW).is_err());
    drop(taken);
    assert!(single.take(&lane("a"), PermitPurpose::Handoff, NOW).is_err());
    assert!(single.take(&lane("a"), PermitPurpose::Express, NOW).is_ok());
    single.expect_release();
    assert!(single.take(&lane("a"), PermitPurpose::Handoff, NOW).is_ok());
}

#[test]
fn only_who_wants_a_permit_is_told_of_one() {
    let shared = permits(1, &[("a", 1)]);
    drop(shared.take(&lane("a"), PermitPurpose::Handoff, NOW));
    assert!(shared.freed().now_or_never().is_none());
    let taken = shared.take(&lane("a"), PermitPurpose::Handoff, NOW);
    shared.expect_release();
    drop(taken);
    assert!(shared.freed().now_or_never().is_some());
}

/// The answer of a ledger that grants every node so many parts of each limit.
fn divided(demand: &LimitDemand, may: u64) -> Vec<Divided> {
    let share = |asked: &Asked| FairShare {
        limit: asked.limit,
        may,
        holds: may,
        since: NOW,
        owed: false,
        stirs: false,
        alone: false,
    };
    let one = |asked: &Asked| Divided { of: asked.of.clone(), share: share(asked) };
    demand.asked.iter().map(one).collect()
}

#[test]
fn what_nodes_share_is_there_once_it_is_granted_and_as_much_of_it() {
    let permits = Permits::new(&settings(10, &[("a", 64)]), true, NOW);
    permits.expect_release();
    assert!(permits.all_for("a", PermitPurpose::Claim).is_empty());
    assert!(permits.short().now_or_never().is_some());
    let demand = permits.demand(NOW);
    let [asked] = &demand.asked[..] else { panic!("{demand:?}") };
    assert_eq!((asked.limit, asked.holds, asked.needs), (64, 0, 10));
    permits.grant(&demand, &divided(&demand, 3), Some(&Emptied::default()), NOW);
    assert!(permits.freed().now_or_never().is_some(), "the waiting caller is woken");
    let three = permits.all_for("a", PermitPurpose::Claim);
    assert_eq!((three.len(), permits.is_whole()), (3, false));
    // It may use one from now on, and still uses three.
    let demand = permits.demand(NOW);
    permits.grant(&demand, &divided(&demand, 1), None, NOW);
    assert_eq!(permits.demand(NOW).asked[0].holds, 3);
    drop(three);
    assert_eq!(permits.demand(NOW).asked[0].holds, 1);
}

#[test]
fn what_was_granted_to_a_node_that_others_took_for_dead_is_void() {
    let permits = Permits::new(&settings(10, &[("a", 64)]), true, NOW);
    let demand = permits.demand(NOW);
    permits.suspend(NOW);
    permits.grant(&demand, &divided(&demand, 9), Some(&Emptied::default()), NOW);
    assert!(permits.all_for("a", PermitPurpose::Claim).is_empty());
    let demand = permits.demand(NOW);
    permits.grant(&demand, &divided(&demand, 9), None, NOW);
    assert_eq!(permits.all_for("a", PermitPurpose::Express).len(), 9);
}

#[test]
fn a_node_that_does_not_work_on_a_queue_takes_no_part_of_its_limit() {
    let mut settings = settings(10, &[("a", 64)]);
    for queue in ["mine", "others"] {
        settings.queues.insert(queue.into(), QueueLimits::default());
    }
    settings.works_on = ["mine".into()].into();
    let demand = Permits::new(&settings, true, NOW).demand(NOW);
    let mut names: Vec<_> = demand.asked.iter().map(|asked| &*asked.of.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "mine"]);
    assert!(Permits::new(&settings, false, NOW).demand(NOW).asked.is_empty());
}

#[test]
fn who_runs_alone_takes_a_seat_of_its_upstream_and_no_slot() {
    let permits = permits(1, &[("a", 1)]);
    let alone = permits.take(&lane("a"), PermitPurpose::Quarantine, NOW).unwrap();
    assert_eq!(permits.taken(), 0);
    assert_eq!(
        permits.take(&lane("a"), PermitPurpose::Express, NOW).err(),
        Some(PermitRefusal::Full)
    );
    drop(alone);
    assert!(permits.take(&lane("a"), PermitPurpose::Express, NOW).is_ok());
}
