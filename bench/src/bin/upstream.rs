//! A fast order service: reads the order and answers 201 with where it is.
//!
//! A request that says when it was offered (`Offered-At`, microseconds since the Unix
//! epoch) is remembered for `GET /arrivals`, which tells how long they took to come, and
//! forgets them. `POST /after/{milliseconds}` answers that much later, and says when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use cloakroom_bench::micros;
use cloakroom_bench::spread::Spread;
use tokio::time::sleep;

static ORDERS: AtomicU64 = AtomicU64::new(0);
static ARRIVALS: Mutex<Option<Spread>> = Mutex::new(None);

#[tokio::main]
async fn main() -> Result<(), cloakroom_bench::Failure> {
    let router = Router::new()
        .route("/arrivals", get(told))
        .route("/after/{milliseconds}", post(create_after))
        .fallback(create);
    cloakroom_bench::serve(router).await
}

async fn create(fields: HeaderMap, _body: Bytes) -> impl IntoResponse {
    let offered = fields.get("offered-at").and_then(|at| at.to_str().ok()?.parse().ok());
    if let Some(offered) = offered {
        let took = micros().saturating_sub(offered);
        arrivals().get_or_insert_default().add_micros(took);
    }
    let number = ORDERS.fetch_add(1, Ordering::Relaxed) + 1;
    created(number, format!("{{\"order\":{number}}}"))
}

async fn create_after(Path(milliseconds): Path<u64>, _body: Bytes) -> impl IntoResponse {
    let number = ORDERS.fetch_add(1, Ordering::Relaxed) + 1;
    sleep(Duration::from_millis(milliseconds)).await;
    created(number, format!("{{\"order\":{number},\"answeredAt\":{}}}", micros()))
}

fn created(number: u64, document: String) -> impl IntoResponse {
    let location = [
        (header::LOCATION, format!("/orders/{number}")),
        (header::CONTENT_TYPE, "application/json".to_owned()),
    ];
    (StatusCode::CREATED, location, document)
}

async fn told() -> String {
    let mut spread = arrivals().take().unwrap_or_default();
    let [half, most] = spread.within([0.5, 0.99]);
    format!("arrived={} arrive_p50_ms={half:.1} arrive_p99_ms={most:.1}", spread.count())
}

fn arrivals() -> MutexGuard<'static, Option<Spread>> {
    // Each change leaves it whole.
    ARRIVALS.lock().unwrap_or_else(PoisonError::into_inner)
}
