//! The clock as hyper's timer.
//!
//! Owns how hyper's servers and clients wait: by the gateway's clock, so that a test can move it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cloakroom_runtime::clock::{Clock, Sleeper};

/// A timer for hyper that waits by a clock.
#[derive(Clone, Debug)]
pub struct HyperTimer(pub Clock);

impl hyper::rt::Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(HyperSleep(self.0.sleeper(duration)))
    }

    #[expect(clippy::disallowed_methods, reason = "hyper names deadlines by the monotonic clock")]
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        hyper::rt::Timer::sleep(self, deadline.saturating_duration_since(Instant::now()))
    }
}

struct HyperSleep(Sleeper);

impl Future for HyperSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl hyper::rt::Sleep for HyperSleep {}
