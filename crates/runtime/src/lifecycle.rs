//! Tasks and their shutdown.
//!
//! Owns the only place that spawns tasks, and the order of a shutdown: first *draining* (take on
//! nothing new, finish what runs), then *cutting* (stop at once). It must not know what the tasks
//! do.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;

/// Spawns tasks and tells them when to stop. Clones share one lifecycle.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    draining: CancellationToken,
    cut: CancellationToken,
    /// Where tasks run, once some run elsewhere: whatever those spawn runs here all the same.
    home: Arc<OnceLock<tokio::runtime::Handle>>,
}

/// Threads for some tasks only, which also watch the sockets and the time that those wait for.
/// With this, what still runs there is dropped where it stands.
#[derive(Debug)]
pub struct Threads(Option<Runtime>);

impl Threads {
    /// Starts so many, at least one. Where the system has no more threads, there are none, and
    /// their tasks run with all others.
    pub fn start(name: &str, count: usize) -> Self {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(count.max(1))
            .thread_name(name)
            .enable_all()
            .build();
        match threads {
            Ok(runtime) => Self(Some(runtime)),
            Err(error) => {
                tracing::warn!(%error, name, "no threads could be started for these tasks; they run with all others");
                Self::none()
            }
        }
    }

    /// None.
    pub const fn none() -> Self {
        Self(None)
    }
}

/// Does not wait: the dropping task may be one that must not block.
impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Tasks {
    /// A lifecycle in which nothing runs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A lifecycle whose tasks run on these threads: they react at once, however busy all other
    /// threads are.
    pub fn on(threads: &Threads) -> Self {
        let tasks = Self::default();
        if let Some(runtime) = &threads.0 {
            tasks.home.get_or_init(|| runtime.handle().clone());
        }
        tasks
    }

    /// Runs a task that shutdown waits for. The task itself must end soon after
    /// [`Tasks::cut`] is told.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = self.tracker.track_future(task);
        match self.home.get() {
            Some(home) => home.spawn(task),
            None => tokio::spawn(task),
        }
    }

    /// The same on the caller's threads, for tasks that use a socket which was opened there.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn_here<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tracker.track_future(task))
    }

    /// What comes of work that a later start does as well; none if draining begins first.
    pub async fn unless_draining<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.draining() => None,
            done = work => Some(done),
        }
    }

    /// Runs a task on a thread of its own, so that it never stands in line behind others.
    /// For the few tasks that all others wait for.
    pub fn spawn_apart<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Handle::current();
        self.tracker.spawn_blocking(move || runtime.block_on(task));
    }

    /// Runs tasks on a thread of their own that also watches the sockets which they open: what
    /// arrives on them is not noticed only when those who serve requests have a moment. One
    /// that panics leaves the others alone.
    pub fn spawn_with_sockets<F>(&self, tasks: Vec<F>)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let all = async move {
            let mut running: JoinSet<()> = tasks.into_iter().collect();
            while running.join_next().await.is_some() {}
        };
        let home = self.home.get_or_init(tokio::runtime::Handle::current).clone();
        self.tracker.spawn_blocking(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(own) => own.block_on(all),
                Err(error) => {
                    tracing::warn!(%error, "no thread could be started for these sockets; they are watched with all others");
                    home.block_on(all);
                }
            }
        });
    }

    /// Runs a task that is dropped where it stands when [`Tasks::cut`] is told.
    pub fn spawn_until_cut<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cut = self.cut.clone();
        self.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Tells all tasks to take on nothing new and to finish what runs.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Tells all tasks to stop at once; implies draining.
    pub fn cut(&self) {
        self.draining.cancel();
        self.cut.cancel();
    }

    /// Whether draining has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Whether cutting has begun.
    pub fn is_cutting(&self) -> bool {
        self.cut.is_cancelled()
    }

    /// Completes when draining begins.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Completes when all tasks have to stop.
    pub async fn cutting(&self) {
        self.cut.cancelled().await;
    }

    /// Waits until every task has ended; cuts after `grace`, and waits at most `grace_of_the_cut`
    /// after that. Returns whether everything ended.
    pub async fn ended(&self, clock: &Clock, grace: Duration, grace_of_the_cut: Duration) -> bool {
        self.tracker.close();
        if clock.timeout(grace, self.tracker.wait()).await.is_ok() {
            return true;
        }
        self.cut();
        clock.timeout(grace_of_the_cut, self.tracker.wait()).await.is_ok()
    }
}

/// Completes at the first SIGTERM or SIGINT; each further call at the next one. SIGHUP asks a
/// service to read its files again, and ends none.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    /// Starts listening. From now on these signals no longer end the process by themselves.
    pub fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next request to stop, by its name.
    pub async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => tracing::warn!(
                    "SIGHUP changes nothing: restart the gateway to have its files read again"
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn thread() -> Option<String> {
        std::thread::current().name().map(str::to_owned)
    }

    #[tokio::test]
    async fn tasks_on_their_own_threads_go_on_while_everybody_else_is_busy() {
        let threads = Threads::start("apart", 1);
        let tasks = Tasks::on(&threads);
        let (told, heard) = mpsc::channel();
        let within = tasks.clone();
        tasks.spawn(async move {
            let inner = Tasks::new();
            let beside = inner.spawn_here(async { thread() }).await;
            let spawned = within.spawn(async { thread() }).await;
            Clock::system().sleep(Duration::from_millis(1)).await;
            _ = told.send([thread(), beside.unwrap(), spawned.unwrap()]);
        });
        // The only thread of all others is held here meanwhile.
        let threads = heard.recv_timeout(PATIENCE).unwrap();
        assert_eq!(threads, [const { Some("apart") }; 3].map(|name| name.map(str::to_owned)));
        tasks.drain();
        assert!(tasks.ended(&Clock::system(), PATIENCE, PATIENCE).await);
    }

    #[tokio::test]
    async fn work_that_can_wait_for_a_later_start_ends_with_the_drain() {
        let tasks = Tasks::new();
        assert_eq!(tasks.unless_draining(std::future::ready(1)).await, Some(1));
        let forever = std::future::pending::<()>();
        let mut work = std::pin::pin!(tasks.unless_draining(forever));
        assert_eq!(futures_util::FutureExt::now_or_never(work.as_mut()), None);
        tasks.drain();
        assert_eq!(work.await, None);
    }

    #[tokio::test]
    async fn with_the_threads_goes_what_runs_on_them() {
        let threads = Threads::start("apart", 0);
        let tasks = Tasks::on(&threads);
        let (told, heard) = tokio::sync::oneshot::channel::<()>();
        let own = tasks.clone();
        tasks.spawn(async move {
            let _told = told;
            own.draining().await;
        });
        drop(threads);
        assert!(heard.await.is_err());
    }
}
