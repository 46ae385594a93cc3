//! `cloakroom demo`: a whole conversation on real traffic, as a first look at the gateway.

mod conversation;
mod folder;
mod narration;
mod orders;
mod receiver;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use clap::Args;

use super::failure::CommandError;
use super::serve::listen_for_signals;
use crate::app::{App, Options};
use crate::config::{Config, LogConfig, LogFormat};
use crate::telemetry;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::{Signals, Tasks};
use conversation::{DemoClient, DemoLinks};
use folder::Folder;
use receiver::BoundPort;

const EXAMPLES: &str = "\
Examples:
  cloakroom demo          leaves everything running, for you to try more
  cloakroom demo --once   ends after the conversation; fails if it did not go as it should
  cloakroom demo --orders 127.0.0.1:9000
                          only the order service, to put a gateway of your own in front of";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct DemoArgs {
    /// End after the conversation.
    #[arg(long)]
    once: bool,
    /// Start the order service alone, at this address.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "once")]
    orders: Option<SocketAddr>,
}

/// Where the order service listens unless told: a free port of loopback.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl DemoArgs {
    /// Starts an order service, a gateway and a receiver of webhooks, converses, and leaves
    /// them running.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        // The conversation is the output; only what goes wrong may come between.
        let log = LogConfig { filter: "error".to_owned(), format: LogFormat::Text };
        telemetry::start_logging(&log);
        let mut signals = listen_for_signals()?;
        let tasks = Tasks::new();
        let address = self.orders.unwrap_or(ANYWHERE);
        let started = orders::start(clock.clone(), &tasks, address).await;
        let upstream = started.map_err(|error| failed("start the order service", &error))?;
        if self.orders.is_some() {
            narration::explain(&format!("an order service listens on http://{upstream}"))?;
            signals.next().await;
            tasks.cut();
            return Ok(());
        }
        let made = Folder::make();
        let folder = made.map_err(|error| failed("make a temporary folder", &error))?;
        let taken = BoundPort::take().await;
        let place = taken.map_err(|error| failed("take a port for the webhooks", &error))?;
        let config = configuration(&folder, upstream, place.address)?;
        let app = App::start(config, Options { migrate: true }, clock.clone()).await?;
        let ended = tokio::select! {
            ended = self.act(clock, &app, upstream, place, &tasks, &mut signals) => ended,
            () = app.failed() => Err(CommandError::Failed("the ledger's disk failed".to_owned())),
        };
        stop(app, &mut signals).await;
        tasks.cut();
        ended
    }

    async fn act(
        &self,
        clock: Clock,
        app: &App,
        upstream: SocketAddr,
        place: BoundPort,
        tasks: &Tasks,
        signals: &mut Signals,
    ) -> Result<(), CommandError> {
        let (gateway, admin) = addresses(app)?;
        narration::explain(&format!(
            "An order service runs on http://{upstream}, and cloakroom in front of it on \
             http://{gateway}.\nEvery POST is accepted at once and carried out in the background; \
             the service itself was not changed."
        ))?;
        let client = DemoClient::new(clock, gateway)?;
        let conversation = async {
            let (mut hook, subscription) = client.subscribe(admin, place, tasks).await?;
            Ok::<_, CommandError>((client.converse(&mut hook).await?, hook, subscription))
        };
        let (led, mut hook, subscription) = tokio::select! {
            led = conversation => led?,
            _ = signals.next() => return Err(CommandError::Failed("interrupted".to_owned())),
        };
        if self.once {
            return narration::heading(
                "It ended in the created order, and its webhook arrived, as it should.",
            );
        }
        suggest(gateway, admin, &led, &subscription)?;
        tokio::select! {
            shown = hook.show_on() => shown?,
            _ = signals.next() => {}
        }
        narration::explain("\nstopping")
    }
}

/// Where clients are listened to, and where operators.
fn addresses(app: &App) -> Result<(SocketAddr, SocketAddr), CommandError> {
    let nowhere = || CommandError::Failed("the gateway listens nowhere".to_owned());
    app.public_address().zip(app.admin_address()).ok_or_else(nowhere)
}

/// A running attempt may take its time to stop; a further signal does not wait for it.
async fn stop(app: App, signals: &mut Signals) {
    tokio::select! {
        () = app.stop() => {}
        _ = signals.next() => {}
    }
}

fn configuration(
    folder: &Folder,
    upstream: SocketAddr,
    receiver: SocketAddr,
) -> Result<Config, CommandError> {
    let store = format!("sqlite:{}", folder.file("cloakroom.db").display());
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [store]\nurl = {store:?}\n[shutdown]\ngrace = \"2s\"\n\
         [upstreams.orders]\nurl = \"http://{upstream}\"\n\
         [webhooks]\nallow = [\"127.0.0.0/8\"]\nallow_http = true\nports = [{}]\n",
        receiver.port()
    );
    Ok(Config::from_toml(&text)?)
}

fn suggest(
    gateway: SocketAddr,
    admin: SocketAddr,
    led: &DemoLinks,
    subscription: &str,
) -> Result<(), CommandError> {
    let json = "-H 'Content-Type: application/json'";
    let order = format!("curl -i http://{gateway}/orders {json} -d '{{\"sku\":\"B-2\"}}'");
    let DemoLinks { order: created, payment } = led;
    let called = std::env::args_os().next().unwrap_or_default();
    let program = program(Path::new(&called), std::env::current_exe().ok().as_deref());
    narration::heading("All of it goes on running. Try, in another terminal:")?;
    narration::explain(&format!(
        "\n  an order of your own; its webhook arrives here, and its Location is for curl -i\n    \
         {order}\n\
         \n  the same, if you would rather wait for the answer\n    \
         {order} -H 'Operation-Expect: 201-created'\n\
         \n  the same, sent twice, makes one order (run it twice)\n    \
         {order} -H 'Idempotency-Key: \"mine\"'\n\
         \n  the order that was created, and what happened to the payment\n    curl {created}\n    \
         curl {payment}/events\n\
         \n  every operation, and every webhook, as an operator sees them\n    \
         {program} ops list --admin http://{admin}\n    \
         {program} webhooks deliveries {subscription} --admin http://{admin}"
    ))?;
    narration::explain("\nCtrl-C ends everything and leaves nothing behind.")
}

/// What to type for this program in another terminal: its name where it was found by that, else
/// where it lies, because the other terminal may be in another folder.
fn program(called: &Path, lies_at: Option<&Path>) -> String {
    let by_name = called.components().count() == 1;
    let path = lies_at.filter(|_| !by_name).unwrap_or(called).display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

fn failed(what: &str, error: &std::io::Error) -> CommandError {
    CommandError::Failed(format!("cannot {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_has_a_configuration_that_can_be_used() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let folder = Folder::make().unwrap();
        let config = configuration(&folder, at(9), at(9100)).unwrap();
        assert_eq!(config.store.url.path(), Some(&*folder.file("cloakroom.db")));
        assert_eq!(config.fallback_upstream.as_deref(), Some("orders"));
        assert_eq!(config.webhooks.ports, [9100]);
    }

    #[test]
    fn what_to_type_is_the_name_or_where_the_program_lies() {
        let lies_at = Some(Path::new("/src/target/release/cloakroom"));
        let typed = |called: &str, lies_at| program(Path::new(called), lies_at);
        assert_eq!(typed("cloakroom", lies_at), "cloakroom");
        assert_eq!(typed("target/release/cloakroom", lies_at), "/src/target/release/cloakroom");
        assert_eq!(typed("./cloakroom", None), "./cloakroom");
        assert_eq!(typed("./c", Some(Path::new("/my o'/c"))), r"'/my o'\''/c'");
    }
}
