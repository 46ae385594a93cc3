//! Posts orders as fast as they are taken: `fill COUNT TARGET…`, to the targets in turn.

use cloakroom_bench::Failure;
use cloakroom_bench::orders::fill;
use hyper::Uri;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().ok_or("usage: fill COUNT TARGET…")?.parse()?;
    let targets: Vec<Uri> = arguments.map(|it| it.parse()).collect::<Result<_, _>>()?;
    if targets.is_empty() {
        return Err("usage: fill COUNT TARGET…".into());
    }
    fill(&targets, count).await
}
