//! A sender as the gateway has one, with names and a clock that the test holds.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cloakroom::webhooks::{
    DeliveryAttemptResult, Resolver, SenderSettings, SigningKeys, SsrfGuard, Target, Trust,
    WebhookMessage, WebhookSender,
};
use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::{DestinationRules, Secret, SigningKey};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;
use http::{HeaderMap, HeaderValue};

use crate::support::{Receiver, time};

/// When the clock of these tests stands still.
pub const NOW: Timestamp = Timestamp::from_micros(1_614_265_330_000_000);
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// What names stand for, one answer after the other; the last one stays.
#[derive(Debug)]
pub struct Names(Mutex<VecDeque<Answer>>);

#[derive(Clone, Debug)]
pub enum Answer {
    Addresses(Vec<IpAddr>),
    Nothing,
    Never,
}

impl Names {
    pub fn loopback() -> Arc<Self> {
        Self::answering([Answer::Addresses(vec![Ipv4Addr::LOCALHOST.into()])])
    }

    pub fn answering(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(answers.into_iter().collect())))
    }
}

pub fn addresses(texts: &[&str]) -> Answer {
    Answer::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
}

#[async_trait]
impl Resolver for Names {
    async fn look_up(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
        let answer = {
            let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let next = answers.front().cloned().unwrap();
            if answers.len() > 1 {
                answers.pop_front();
            }
            next
        };
        match answer {
            Answer::Addresses(found) => Ok(found),
            Answer::Nothing => Err(io::Error::other("no such name")),
            Answer::Never => std::future::pending().await,
        }
    }
}

/// What allows deliveries to receivers of these tests, and nothing else.
pub fn open_to(addresses: &[SocketAddr]) -> DestinationRules {
    DestinationRules {
        allow: vec!["127.0.0.1/32".parse().unwrap()],
        allow_http: true,
        ports: addresses.iter().map(SocketAddr::port).collect(),
        public_url: None,
    }
}

pub struct Outward {
    pub sender: WebhookSender,
    pub clock: Clock,
    tasks: Tasks,
}

impl Drop for Outward {
    fn drop(&mut self) {
        self.tasks.cut();
    }
}

impl Outward {
    /// A sender for one receiver.
    pub fn to(receiver: &Receiver) -> Self {
        Self::new(open_to(&[receiver.address]), &[], Names::loopback(), Vec::new())
    }

    pub fn new(
        rules: DestinationRules,
        listeners: &[SocketAddr],
        names: Arc<Names>,
        roots: Vec<tokio_rustls::rustls::pki_types::CertificateDer<'static>>,
    ) -> Self {
        let (clock, tasks) = (Clock::manual(NOW), Tasks::new());
        let guard = Arc::new(SsrfGuard::new(rules, listeners, names));
        let settings = SenderSettings {
            timeout: TIMEOUT,
            mark: HeaderValue::from_static("cloakroom; id=\"test\""),
            trust: Trust::Only(roots),
        };
        let sender = WebhookSender::new(guard, settings, clock.clone(), &tasks);
        Self { sender, clock, tasks }
    }

    /// One attempt; the clock stands still.
    pub async fn send(&self, url: &str) -> DeliveryAttemptResult {
        let (message, to) = (message(), target(url));
        let attempt = self.sender.send(&message, &to, self.clock.now());
        time::within("an attempt", attempt).await
    }

    /// One attempt with a message that is more than sockets hold by themselves.
    pub async fn send_large(&self, url: &str) -> DeliveryAttemptResult {
        let (message, to) = (big_message(), target(url));
        let attempt = self.sender.send(&message, &to, self.clock.now());
        time::within("an attempt", attempt).await
    }

    /// One attempt during which the clock goes on as fast as it can, once `begun`.
    pub async fn send_while_time_passes(
        &self,
        url: &str,
        begun: impl Fn() -> bool,
    ) -> DeliveryAttemptResult {
        let (sender, to, now) = (self.sender.clone(), target(url), self.clock.now());
        let attempt = time::spawn(async move { sender.send(&big_message(), &to, now).await });
        time::until("the attempt is on its way", || async { begun().then_some(()) }).await;
        time::until("the attempt has ended", || async {
            self.clock.advance(Duration::from_millis(500));
            attempt.is_finished().then_some(())
        })
        .await;
        attempt.await.unwrap()
    }
}

pub fn message() -> WebhookMessage {
    WebhookMessage::new("msg_1", &br#"{"test": 2432232314}"#[..], json()).unwrap()
}

/// More than sockets hold by themselves.
fn big_message() -> WebhookMessage {
    WebhookMessage::new("msg_2", vec![b' '; 8 << 20], json()).unwrap()
}

pub fn json() -> HeaderValue {
    HeaderValue::from_static("application/json; charset=utf-8")
}

pub fn secret() -> Secret {
    Secret::parse(SECRET).unwrap()
}

pub fn target(url: &str) -> Target {
    Target {
        url: url.to_owned(),
        fields: HeaderMap::new(),
        signers: SigningKeys { keys: vec![SigningKey::Secret(secret())], names: Vec::new() },
    }
}
