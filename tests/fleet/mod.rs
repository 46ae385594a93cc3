//! Several nodes on one database: their division of work, and the death of one.

mod clocks;
mod new_subscriptions;
mod node_loss;
mod nodes;
mod permits;
mod roles;

use crate::support::gateway::Process;
use crate::support::postgres::cluster;
use crate::support::{Setup, Upstream};

/// The lease of these tests, in seconds.
const LEASE: u64 = 2;

/// A fleet's database and the configuration that its nodes share.
struct Fleet {
    setup: Setup,
}

impl Fleet {
    fn before(upstream: &Upstream) -> Self {
        Self::on(&cluster().database(), upstream)
    }

    fn on(database: &str, upstream: &Upstream) -> Self {
        let setup = Setup::before(upstream)
            .on(database)
            .set("store", &format!("lease = \"{LEASE}s\""))
            .set("queues.reports", "")
            .route("POST /once", "delivery = \"at-most-once\"")
            .route("POST /again", "delivery = \"at-least-once\"\nretry = { min = \"1ms\" }")
            .route("POST /poison", "delivery = \"at-least-once\"\nretry = { min = \"1ms\" }")
            .route("POST /reports", "delivery = \"at-least-once\"\nqueue = \"reports\"");
        Self { setup }
    }

    async fn both(&self) -> Process {
        self.setup.clone().spawn().await
    }

    async fn front(&self) -> Process {
        self.setup.clone().spawn_as(&["serve", "--role", "front"]).await
    }

    async fn worker(&self, flags: &[&str]) -> Process {
        self.setup.clone().spawn_as(&[&["worker"], flags].concat()).await
    }
}
