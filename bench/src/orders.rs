//! The one order that everybody posts.

use bytes::Bytes;
use hyper::http::request::Builder;
use hyper::{Request, Uri};

use crate::Failure;
use crate::client::{Client, path};

/// The same octets that `post.lua` posts.
const ORDER: &str = concat!(
    r#"{"sku":"A-1042","quantity":3,"customer":"c-000121","currency":"EUR","unitPrice":"19.90","#,
    r#""note":"leave it at the door, ring twice, and mind the dog","#,
    r#""address":{"city":"Bremen","zip":"28195"}}"#,
);
const _: () = assert!(ORDER.len() == 190);

/// How many connections an order book is filled over.
pub const CONNECTIONS: u32 = 64;

/// The order as a body.
pub fn order() -> Bytes {
    Bytes::from_static(ORDER.as_bytes())
}

/// A request that posts it there.
pub fn posted(path: &str) -> Builder {
    Request::post(path).header("content-type", "application/json")
}

/// Posts so many, as fast as they are taken, to these targets in turn.
pub async fn fill(targets: &[Uri], count: u32) -> Result<(), Failure> {
    let mut clients = Vec::new();
    for number in 0..CONNECTIONS {
        let more = u32::from(number < count % CONNECTIONS);
        let target = &targets[number as usize % targets.len()];
        let connection = Client::connect(target).await?;
        let mut targets = targets.to_vec();
        // Not all of them to the same one at the same time.
        let first = number as usize % targets.len();
        targets.rotate_left(first);
        clients.push(tokio::spawn(post(connection, targets, count / CONNECTIONS + more)));
    }
    for client in clients {
        client.await??;
    }
    Ok(())
}

async fn post(mut connection: Client, targets: Vec<Uri>, count: u32) -> Result<(), Failure> {
    for target in targets.iter().cycle().take(count as usize) {
        let answer = connection.send(posted(path(target)), order()).await?;
        if answer.status().as_u16() != 202 {
            return Err(format!("refused: {answer:?}").into());
        }
    }
    Ok(())
}
