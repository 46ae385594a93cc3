//! Parts that the measuring programs share: servers and clients on the loopback, the gateway's counts,
//! and medians.

pub mod client;
pub mod counted;
pub mod orders;
pub mod receivers;
pub mod spread;

use std::time::SystemTime;

use axum::Router;
use tokio::net::TcpListener;

/// What an error of a measuring binary is: something to print before it ends.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Serves on a free port of the loopback and prints which, until the process is ended.
pub async fn serve(router: Router) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

/// Microseconds since the Unix epoch, by the clock that all processes of a machine share.
pub fn micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
