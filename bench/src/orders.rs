//! The one order that everybody posts.

use bytes::Bytes;
use hyper::Request;
use hyper::http::request::Builder;

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
