//! A fast order service: reads the order and answers 201 with where it is.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;

static ORDERS: AtomicU64 = AtomicU64::new(0);

#[tokio::main]
async fn main() -> Result<(), cloakroom_bench::Failure> {
    cloakroom_bench::serve(Router::new().fallback(create)).await
}

async fn create(_body: Bytes) -> impl IntoResponse {
    let number = ORDERS.fetch_add(1, Ordering::Relaxed) + 1;
    let location = [
        (header::LOCATION, format!("/orders/{number}")),
        (header::CONTENT_TYPE, "application/json".to_owned()),
    ];
    (StatusCode::CREATED, location, format!("{{\"order\":{number}}}"))
}
