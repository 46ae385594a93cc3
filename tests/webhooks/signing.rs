//! Signatures, judged by the reference libraries of Standard Webhooks and, where those know
//! nothing, by an independent one.

use cloakroom_domain::webhooks::{KeyPair, Secret, SigningKey, signature};
use cloakroom_runtime::clock::Clock;
use ed25519_dalek::{Signature, VerifyingKey};
use http::HeaderMap;

use super::example;
use super::judges::{GUIDE, Judge, decoded};
use super::outward::secret;

const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";

/// A message as it is sent while a secret is being rotated.
struct Rotated {
    current: Secret,
    earlier: Secret,
    seconds: i64,
    body: Vec<u8>,
    signature: String,
}

fn rotated() -> Rotated {
    let (current, earlier) = (Secret::new([5; 32]), secret());
    let seconds = Clock::system().now().as_micros() / 1_000_000;
    let body = r#"{"type":"operation.succeeded","data":{"text":"gr\u00fc\u00dfe ☂"}}"#.into();
    let keys = [
        SigningKey::Secret(current.clone()),
        SigningKey::Secret(earlier.clone()),
        SigningKey::Pair(KeyPair::new([9; 32]).unwrap()),
    ];
    let body: Vec<u8> = body;
    let signature = signature::sign(&keys, ID, seconds, &body);
    Rotated { current, earlier, seconds, body, signature }
}

fn fields(rotated: &Rotated) -> [(&'static str, String); 3] {
    [
        ("webhook-id", ID.to_owned()),
        ("webhook-timestamp", rotated.seconds.to_string()),
        ("webhook-signature", rotated.signature.clone()),
    ]
}

#[test]
fn the_reference_library_for_rust_believes_every_live_secret_and_no_other() {
    let rotated = rotated();
    let headers: HeaderMap = fields(&rotated)
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
    let verified =
        |secret: &Secret, body: &[u8]| example::verified(&secret.reveal(), &headers, body);
    assert!(verified(&rotated.current, &rotated.body));
    assert!(verified(&rotated.earlier, &rotated.body));
    assert!(!verified(&Secret::new([6; 32]), &rotated.body));
    assert!(!verified(&rotated.current, b"{}"));
}

#[test]
fn the_guide_shows_what_is_tested() {
    assert!(GUIDE.contains(&format!("```rust\n{}```", include_str!("example.rs"))));
}

#[test]
fn the_reference_libraries_for_python_and_javascript_believe_every_live_secret_and_no_other() {
    let rotated = rotated();
    for judge in [Judge::python(), Judge::javascript()] {
        let believes = |secret: &Secret, body: &[u8]| {
            judge.believes(&secret.reveal(), &fields(&rotated), body)
        };
        assert!(believes(&rotated.current, &rotated.body), "{judge:?}");
        assert!(believes(&rotated.earlier, &rotated.body), "{judge:?}");
        assert!(!believes(&Secret::new([6; 32]), &rotated.body), "{judge:?}");
        assert!(!believes(&rotated.current, b"{}"), "{judge:?}");
    }
}

#[test]
fn another_library_for_ed25519_believes_the_public_key_and_no_other() {
    let rotated = rotated();
    let token = rotated.signature.split(' ').find_map(|token| token.strip_prefix("v1a,")).unwrap();
    let signature = Signature::from_slice(&decoded(token)).unwrap();
    let message = [format!("{ID}.{}.", rotated.seconds).as_bytes(), &rotated.body].concat();
    let verified = |pair: KeyPair, message: &[u8]| {
        let written = pair.public().to_string();
        let octets = decoded(written.strip_prefix("whpk_").unwrap());
        let key = VerifyingKey::from_bytes(&octets.try_into().unwrap()).unwrap();
        key.verify_strict(message, &signature).is_ok()
    };
    assert!(verified(KeyPair::new([9; 32]).unwrap(), &message));
    assert!(!verified(KeyPair::new([8; 32]).unwrap(), &message));
    assert!(!verified(KeyPair::new([9; 32]).unwrap(), b"other"));
}
