//! DNS lookups for requests that wait for the answer.
//!
//! Owns the limits on concurrent lookups and on their duration. Its invariants: a lookup keeps its
//! slot until it has ended, even when no request waits for it any more, because a call to the
//! system's resolver cannot be canceled; and one principal gets a quarter of the slots, so that its
//! slow names leave room for others. Results are cached for a moment, so that a request that was
//! refused finds them when it is repeated.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::resolver::Resolver;
use super::ssrf_guard::GuardRefusal;
use cloakroom_domain::{Principal, Timestamp};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// Lookups at once.
pub(super) const MOST: usize = 64;
/// Those among them for one principal, where there are several.
pub(super) const MOST_OF_ONE: usize = MOST / 4;
/// How long a lookup is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How long the result of a lookup is cached, failures included.
const REMEMBERED: Duration = Duration::from_secs(30);
/// So many names are remembered.
const MOST_REMEMBERED: usize = 1000;

/// The addresses of a name, or the error of the lookup.
type LookupResult = Result<Vec<IpAddr>, Arc<str>>;

/// Lookups for those who wait. Clones share their places.
#[derive(Clone)]
pub struct DnsLookups(Arc<LookupState>);

struct LookupState {
    resolver: Arc<dyn Resolver>,
    clock: Clock,
    tasks: Tasks,
    names: Mutex<NameTable>,
}

#[derive(Default)]
struct NameTable {
    known: HashMap<String, (LookupResult, Timestamp)>,
    running: HashMap<String, watch::Receiver<Option<LookupResult>>>,
    by_principal: HashMap<Principal, usize>,
}

impl DnsLookups {
    /// Lookups by `resolver`, none of which outlives `tasks`.
    pub fn new(resolver: Arc<dyn Resolver>, clock: Clock, tasks: Tasks) -> Self {
        Self(Arc::new(LookupState { resolver, clock, tasks, names: Mutex::default() }))
    }

    /// The addresses of a name, looked up for `principal`.
    pub(super) async fn look_up(
        &self,
        name: &str,
        principal: &Principal,
    ) -> Result<Vec<IpAddr>, GuardRefusal> {
        let found = match self.begun(name, principal)? {
            LookupProgress::Known(found) => found,
            LookupProgress::Running(mut running) => {
                let told = self.0.clock.timeout(PATIENCE, running.wait_for(Option::is_some)).await;
                let told = told.map_err(|_| GuardRefusal::Slow)?;
                // It ends without a word only with the gateway.
                told.ok().and_then(|found| found.clone()).ok_or(GuardRefusal::Slow)?
            }
        };
        found.map_err(|why| GuardRefusal::Unresolvable(why.to_string()))
    }

    fn begun(&self, name: &str, principal: &Principal) -> Result<LookupProgress, GuardRefusal> {
        let now = self.0.clock.now();
        let mut names = self.0.names();
        match names.known.get(name) {
            Some((found, at)) if now.since(*at) < REMEMBERED => {
                return Ok(LookupProgress::Known(found.clone()));
            }
            _ => {}
        }
        if let Some(running) = names.running.get(name) {
            return Ok(LookupProgress::Running(running.clone()));
        }
        if !names.has_place_for(principal) {
            return Err(GuardRefusal::Busy);
        }
        let (tell, running) = watch::channel(None);
        names.running.insert(name.to_owned(), running.clone());
        *names.by_principal.entry(principal.clone()).or_default() += 1;
        drop(names);
        let place = LookupSlot {
            parts: Arc::clone(&self.0),
            name: name.to_owned(),
            whose: principal.clone(),
        };
        self.0.tasks.spawn_until_cut(place.look_up(tell));
        Ok(LookupProgress::Running(running))
    }
}

impl fmt::Debug for DnsLookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsLookups").field("resolver", &self.0.resolver).finish_non_exhaustive()
    }
}

impl LookupState {
    fn names(&self) -> MutexGuard<'_, NameTable> {
        // Each change leaves it whole.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NameTable {
    fn has_place_for(&self, principal: &Principal) -> bool {
        let own = self.by_principal.get(principal).copied().unwrap_or_default();
        // Where nothing tells callers apart there are no others to leave room for.
        let most = if *principal == Principal::everyone() { MOST } else { MOST_OF_ONE };
        self.running.len() < MOST && own < most
    }

    fn keep(&mut self, name: &str, found: LookupResult, now: Timestamp) {
        if self.known.len() >= MOST_REMEMBERED {
            self.known.retain(|_, (_, at)| now.since(*at) < REMEMBERED);
        }
        if self.known.len() >= MOST_REMEMBERED {
            self.known.clear();
        }
        self.known.insert(name.to_owned(), (found, now));
    }
}

enum LookupProgress {
    Known(LookupResult),
    Running(watch::Receiver<Option<LookupResult>>),
}

/// The place that a lookup takes up.
struct LookupSlot {
    parts: Arc<LookupState>,
    name: String,
    whose: Principal,
}

impl LookupSlot {
    async fn look_up(self, tell: watch::Sender<Option<LookupResult>>) {
        let found = self.parts.resolver.look_up(&self.name).await;
        let found = found.map_err(|error| Arc::from(error.to_string()));
        self.parts.names().keep(&self.name, found.clone(), self.parts.clock.now());
        tell.send_replace(Some(found));
    }
}

impl Drop for LookupSlot {
    fn drop(&mut self) {
        let mut names = self.parts.names();
        names.running.remove(&self.name);
        if let Some(own) = names.by_principal.get_mut(&self.whose) {
            *own -= 1;
            if *own == 0 {
                names.by_principal.remove(&self.whose);
            }
        }
    }
}
