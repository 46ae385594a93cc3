//! What the measuring binaries share: where a server listens, and how it says so.

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
