//! The webhook receiver of the demo, on loopback.
//!
//! Owns the wait for a delivery, which is bounded. Its invariant: what it shows was verified
//! with the secret of its own subscription; anything else is a failure of the demo.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::super::failure::CommandError;
use super::super::listen::{
    DeliveryResponse, ReceivedDelivery, ResponseBehavior, TestReceiver, shown,
};
use super::{ANYWHERE, narration};
use cloakroom_domain::webhooks::Secret;
use cloakroom_domain::webhooks::signature::{VerificationError, VerificationKey};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// How long a webhook may take: its first attempt is made at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// A bound port, so that its address can be written into the configuration. Connections wait
/// until there is a secret to verify with.
#[derive(Debug)]
pub(super) struct BoundPort {
    listener: TcpListener,
    /// Where it is.
    pub(super) address: SocketAddr,
}

/// The receiver at work.
pub(super) struct DemoReceiver {
    clock: Clock,
    arrived: mpsc::UnboundedReceiver<DemoDelivery>,
}

/// What arrived, as it is shown and as it is judged.
#[derive(Debug)]
struct DemoDelivery {
    shown: String,
    event: Value,
    trust: Result<(), VerificationError>,
}

impl DemoDelivery {
    fn of(seen: &ReceivedDelivery, answer: DeliveryResponse) -> Self {
        Self {
            shown: shown(seen, answer),
            event: seen.event.clone().unwrap_or_default(),
            trust: seen.trust.as_ref().map(|_| ()).map_err(Clone::clone),
        }
    }

    fn show(&self) -> Result<(), CommandError> {
        narration::delivery(&self.shown, &self.event["data"])
    }
}

impl BoundPort {
    /// Takes a free port of loopback.
    pub(super) async fn take() -> std::io::Result<Self> {
        let listener = TcpListener::bind(ANYWHERE).await?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// Receives there until `tasks` are cut, what this secret has signed.
    pub(super) fn receive(self, secret: Secret, clock: Clock, tasks: &Tasks) -> DemoReceiver {
        let (told, arrived) = mpsc::unbounded_channel();
        let tell = move |seen: &ReceivedDelivery, answer| {
            told.send(DemoDelivery::of(seen, answer)).is_ok()
        };
        let keys = vec![VerificationKey::Secret(secret)];
        let receiver =
            TestReceiver::new(ResponseBehavior::default(), keys, clock.clone(), Box::new(tell));
        tasks.spawn_until_cut(Arc::new(receiver).accept(self.listener, tasks.clone()));
        DemoReceiver { clock, arrived }
    }
}

impl DemoReceiver {
    /// Waits for the webhook of that type whose `data` has this member, and shows it.
    pub(super) async fn told(
        &mut self,
        topic: &str,
        pointer: &str,
        value: &str,
    ) -> Result<(), CommandError> {
        let clock = self.clock.clone();
        let wanted = async {
            while let Some(delivery) = self.arrived.recv().await {
                delivery.trust.as_ref().map_err(unbelieved)?;
                let told = delivery.event["data"].pointer(pointer);
                if delivery.event["type"] == topic && told.is_some_and(|told| told == value) {
                    return Ok(delivery);
                }
            }
            Err(CommandError::Failed("the receiver of the webhooks has ended".to_owned()))
        };
        let waited = clock.timeout(PATIENCE, wanted).await;
        waited.map_err(|_| never(topic))??.show()
    }

    /// Shows whatever else comes, for as long as it is asked.
    pub(super) async fn show_on(&mut self) -> Result<(), CommandError> {
        while let Some(delivery) = self.arrived.recv().await {
            delivery.show()?;
        }
        Ok(())
    }
}

fn unbelieved(why: &VerificationError) -> CommandError {
    CommandError::Failed(format!("a webhook arrived that is not to be believed: {why}"))
}

fn never(topic: &str) -> CommandError {
    CommandError::Failed(format!(
        "the webhook {topic} did not arrive within {} s; please report this with what is printed \
         above",
        PATIENCE.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::Timestamp;
    use serde_json::json;

    fn hook(clock: &Clock) -> (mpsc::UnboundedSender<DemoDelivery>, DemoReceiver) {
        let (told, arrived) = mpsc::unbounded_channel();
        (told, DemoReceiver { clock: clock.clone(), arrived })
    }

    fn delivery(topic: &str, order: &str, trust: Result<(), VerificationError>) -> DemoDelivery {
        let event = json!({ "type": topic, "data": { "createdLocation": order } });
        DemoDelivery { shown: String::new(), event, trust }
    }

    async fn told(hook: &mut DemoReceiver) -> Result<(), CommandError> {
        hook.told("operation.succeeded", "/createdLocation", "/orders/1").await
    }

    #[tokio::test]
    async fn the_webhook_that_is_waited_for_is_that_of_this_order() {
        let (tell, mut hook) = hook(&Clock::system());
        for (topic, order) in [
            ("operation.succeeded", "/orders/2"),
            ("operation.failed", "/orders/1"),
            ("operation.succeeded", "/orders/1"),
            ("operation.succeeded", "/orders/3"),
        ] {
            tell.send(delivery(topic, order, Ok(()))).unwrap();
        }
        told(&mut hook).await.unwrap();
        assert_eq!(hook.arrived.len(), 1, "the last one has not been looked at");
    }

    #[tokio::test]
    async fn one_that_does_not_verify_is_a_failure() {
        let (tell, mut hook) = hook(&Clock::system());
        let forged = delivery("operation.succeeded", "/orders/1", Err(VerificationError::Wrong));
        tell.send(forged).unwrap();
        let failure = told(&mut hook).await.unwrap_err().to_string();
        assert!(failure.contains("not to be believed"), "{failure}");
    }

    #[tokio::test]
    async fn one_that_never_comes_is_not_waited_for_for_ever() {
        let clock = Clock::manual(Timestamp::EPOCH);
        let (_tell, mut hook) = hook(&clock);
        let tasks = Tasks::new();
        let waiting = tasks.spawn(async move { told(&mut hook).await });
        while !waiting.is_finished() {
            clock.advance(PATIENCE);
            tokio::task::yield_now().await;
        }
        let failure = waiting.await.unwrap().unwrap_err().to_string();
        assert!(failure.contains("operation.succeeded did not arrive within 30 s"), "{failure}");
    }
}
