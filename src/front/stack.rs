//! The layers of the public listener, the outermost first.
//!
//! Owns their order. Each hands a request on at once or answers it, so none of them needs a box or a
//! task; limits of time and of octets lie beneath, where the connection is (`listener`).

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use tower::{Service, ServiceBuilder, service_fn};

use super::Front;
use super::cors::CorsLayer;
use super::screen::ScreenLayer;
use crate::listener::{IncomingBody, PanicLayer, TracedBody, request_trace};

impl Front {
    /// The service of the public listener.
    pub fn service(
        self,
    ) -> impl Service<
        Request<IncomingBody>,
        Response = Response<TracedBody>,
        Error = Infallible,
        Future: Send,
    > + Clone {
        let Self(front) = self;
        ServiceBuilder::new()
            // Around everything: its line tells the status that the client gets.
            .layer(request_trace("public"))
            // Around all that reads what clients have sent, and within the span, where a panic is
            // logged.
            .layer(PanicLayer)
            // Around the screening: a page has to be able to read why it was refused.
            .layer(CorsLayer::new(front.cors.clone()))
            // Before any route is looked for: what it refuses is refused on every path.
            .layer(ScreenLayer::new(front.clone()))
            .service(service_fn(move |screened| {
                let front = Arc::clone(&front);
                async move { Ok(front.answer(screened).await) }
            }))
    }
}
