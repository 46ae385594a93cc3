//! Slow DNS lookups of hosts that clients name.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cloakroom::webhooks::{DnsLookups, GuardRefusal, Resolver, SsrfGuard};
use cloakroom_domain::Principal;
use cloakroom_domain::webhooks::DestinationRules;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;
use tokio::sync::watch;

use super::outward::NOW;
use crate::support::time;

/// Lookups at once, and those of one principal among them.
const MOST: usize = 64;
const OF_ONE: usize = 16;

/// Knows every name, once it may say so.
#[derive(Debug)]
struct Slow {
    may_answer: watch::Receiver<bool>,
    asked: AtomicUsize,
    names: Mutex<HashSet<String>>,
}

#[async_trait]
impl Resolver for Slow {
    async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.names.lock().unwrap().insert(name.to_owned());
        self.may_answer.clone().wait_for(|may| *may).await.map_err(io::Error::other)?;
        Ok(vec!["93.184.215.14".parse().unwrap()])
    }
}

struct Desk {
    guard: Arc<SsrfGuard>,
    lookups: DnsLookups,
    slow: Arc<Slow>,
    answers: watch::Sender<bool>,
    clock: Clock,
}

impl Desk {
    fn open() -> Self {
        let (answers, may_answer) = watch::channel(false);
        let slow = Slow { may_answer, asked: AtomicUsize::new(0), names: Mutex::default() };
        let (slow, clock) = (Arc::new(slow), Clock::manual(NOW));
        let rules = DestinationRules { ports: vec![443], ..DestinationRules::default() };
        Self {
            guard: Arc::new(SsrfGuard::new(rules, &[], Arc::clone(&slow) as _)),
            lookups: DnsLookups::new(Arc::clone(&slow) as _, clock.clone(), Tasks::new()),
            slow,
            answers,
            clock,
        }
    }

    async fn check(&self, name: &str, whose: &Principal) -> Result<(), GuardRefusal> {
        let url = format!("https://{name}.example/");
        let checked = self.guard.check_url(&url, whose, &self.lookups);
        time::within("a judgement", checked).await.map(drop)
    }

    /// The same for one that is not looked up in time.
    async fn check_in_vain(&self, name: &str, whose: &Principal) {
        let (guard, lookups) = (Arc::clone(&self.guard), self.lookups.clone());
        let (url, whose) = (format!("https://{name}.example/"), whose.clone());
        let checked =
            time::spawn(async move { guard.check_url(&url, &whose, &lookups).await.map(drop) });
        time::until("it was given up on", || async {
            self.clock.advance(Duration::from_millis(500));
            checked.is_finished().then_some(())
        })
        .await;
        assert_eq!(checked.await.unwrap(), Err(GuardRefusal::Slow));
    }

    fn asked(&self) -> usize {
        self.slow.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn who_waits_for_a_slow_name_is_put_off_and_finds_what_came_of_it_later() {
    let (desk, everyone) = (Desk::open(), Principal::everyone());
    desk.check_in_vain("slow", &everyone).await;
    // It is still being looked up, and once only.
    desk.check_in_vain("slow", &everyone).await;
    assert_eq!(desk.asked(), 1);
    desk.answers.send_replace(true);
    assert_eq!(desk.check("slow", &everyone).await, Ok(()));
    assert_eq!(desk.check("slow", &everyone).await, Ok(()));
    assert_eq!(desk.asked(), 1, "it is remembered");
    desk.clock.advance(Duration::from_secs(31));
    assert_eq!(desk.check("slow", &everyone).await, Ok(()));
    assert_eq!(desk.asked(), 2, "for a moment");
}

#[tokio::test]
async fn no_more_names_are_looked_up_at_once_than_may_be_though_nobody_waits_for_them() {
    let (desk, everyone) = (Desk::open(), Principal::everyone());
    let names: Vec<_> = (0..MOST).map(|number| format!("slow-{number}")).collect();
    for name in &names {
        desk.check_in_vain(name, &everyone).await;
    }
    assert_eq!(desk.check("other", &everyone).await, Err(GuardRefusal::Busy));
    assert_eq!(desk.asked(), MOST);
    desk.check_in_vain(&names[0], &everyone).await;
    desk.answers.send_replace(true);
    assert_eq!(desk.check(&names[0], &everyone).await, Ok(()));
    let looked_up = || async { desk.check("other", &everyone).await.ok() };
    time::until("there is a place again", looked_up).await;
}

#[tokio::test]
async fn the_slow_names_of_one_leave_room_for_those_of_others() {
    let desk = Desk::open();
    let (ann, bob) = (Principal::named("ann"), Principal::named("bob"));
    for number in 0..OF_ONE {
        desk.check_in_vain(&format!("anns-{number}"), &ann).await;
    }
    assert_eq!(desk.check("anns-last", &ann).await, Err(GuardRefusal::Busy));
    desk.check_in_vain("bobs", &bob).await;
    assert!(desk.slow.names.lock().unwrap().contains("bobs.example"));
}
