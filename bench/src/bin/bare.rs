//! The measure of all shares: a handler that reads the body and answers 202.

use axum::Router;
use axum::http::StatusCode;
use bytes::Bytes;

#[tokio::main]
async fn main() -> Result<(), cloakroom_bench::Failure> {
    cloakroom_bench::serve(Router::new().fallback(accept)).await
}

/// Taking `Bytes` reads the body to its end.
async fn accept(_body: Bytes) -> StatusCode {
    StatusCode::ACCEPTED
}
