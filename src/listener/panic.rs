//! The layer that answers for a handler that has panicked.
//!
//! Owns the 500 in place of a connection that ends without an answer. The one of tower-http puts each
//! body into a box, that of every accepted request included.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::{CatchUnwind, Either, Map, Ready, ready};
use tower::{Layer, Service};

use crate::api::Problem;

/// Answers 500 where what it is laid around panics.
#[derive(Clone, Copy, Debug)]
pub struct PanicLayer;

/// A service whose panics are answers.
#[derive(Clone, Copy, Debug)]
pub struct PanicGuard<S>(S);

type Answer = Result<Response, Infallible>;
type Caught = Result<Answer, Box<dyn Any + Send>>;

impl<S> Layer<S> for PanicLayer {
    type Service = PanicGuard<S>;

    fn layer(&self, inner: S) -> PanicGuard<S> {
        PanicGuard(inner)
    }
}

impl<S, R> Service<R> for PanicGuard<S>
where
    S: Service<R, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future =
        Either<Map<CatchUnwind<AssertUnwindSafe<S::Future>>, fn(Caught) -> Answer>, Ready<Answer>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        // A request is no state that outlives its panic; what is shared has locks that pass over it.
        let begun = AssertUnwindSafe(|| self.0.call(request));
        match catch_unwind(begun) {
            Ok(answer) => Either::Left(AssertUnwindSafe(answer).catch_unwind().map(answered)),
            Err(_) => Either::Right(ready(Ok(panicked()))),
        }
    }
}

fn answered(caught: Caught) -> Answer {
    caught.unwrap_or_else(|_| Ok(panicked()))
}

/// The panic's own words may hold what a client sent; Rust has written them, with their place, to
/// standard error.
fn panicked() -> Response {
    tracing::error!("answering a request panicked; please report this with the lines above");
    Problem::internal().into_response()
}
