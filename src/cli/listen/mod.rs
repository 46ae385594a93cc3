//! `cloakroom listen`: a webhook receiver for developers.
//!
//! Owns what it is asked for. What answers is in `receiver`, what is thought of a delivery in
//! `book`, how one looks in `show`.

mod received_deliveries;
mod receiver;
mod show;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use http::StatusCode;
use tokio::net::TcpListener;

use super::counts::count;
use super::failure::CommandError;
use super::print;
use super::secret_input;
use super::serve::listen_for_signals;
use crate::config::{environment, listen_secrets};
use cloakroom_domain::webhooks::signature::VerificationKey;
use cloakroom_domain::webhooks::{BadKey, PublicKey, Secret};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;
pub(super) use received_deliveries::ReceivedDelivery;
pub(super) use receiver::{DeliveryObserver, DeliveryResponse, ResponseBehavior, TestReceiver};
pub(super) use show::text as shown;

const EXAMPLES: &str = "\
Examples:
  cloakroom listen --secret-file secret          verify and print what arrives on port 9100
  cloakroom listen --fail 3                      answer 500 to the first three attempts of each
  cloakroom listen --slow 20s                    answer too late, and see the sender hang up
  cloakroom listen --gone                        answer 410, which disables the subscription
  cloakroom listen --max 1 --json                end after one delivery: for scripts
Secrets, one on each line of a file, or in CLOAKROOM_LISTEN_SECRET with blanks between, which is
read where no other is given. The pauses between attempts grow, 5 s, 5 min, 30 min and so on: with
--fail 3 a delivery takes more than half an hour, with --fail 1 some five seconds. The gateway
delivers to loopback only if it is told to: webhooks.allow = [\"127.0.0.0/8\"],
webhooks.allow_http = true, webhooks.ports = [9100].";

/// Ends with 0 where every delivery was to be believed, and with 1 where one was not.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListenArgs {
    /// The port of 127.0.0.1 to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 9100)]
    port: u16,
    /// The secret of the subscription, for verification; may be repeated. All users of this machine
    /// can see it while the command runs: use --secret-file for more than a trial.
    #[arg(long, value_name = "SECRET", value_parser = secret)]
    secret: Vec<Secret>,
    /// A file of secrets, one per line; - for standard input.
    #[arg(long, value_name = "FILE")]
    secret_file: Vec<PathBuf>,
    /// The public key, to verify v1a signatures.
    #[arg(long, value_name = "PUBLIC_KEY", value_parser = public_key)]
    key: Vec<PublicKey>,
    /// Answer 500 to this many attempts of each delivery before accepting it.
    #[arg(long, value_name = "TIMES", allow_negative_numbers = true, conflicts_with_all = ["status", "gone", "drop"])]
    fail: Option<u32>,
    /// Answer with this status.
    #[arg(long, default_value = "204", value_parser = status)]
    status: StatusCode,
    /// Delay each answer, like 20s; the gateway hangs up after 15 s.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    slow: Option<Duration>,
    /// Answer 410, by which the gateway disables the subscription.
    #[arg(long, conflicts_with_all = ["status", "drop"])]
    gone: bool,
    /// Read each delivery and close the connection without an answer.
    #[arg(long, conflicts_with = "status")]
    drop: bool,
    /// Print each delivery as one line of JSON, with its body.
    #[arg(long)]
    json: bool,
    /// Exit after this many deliveries.
    #[arg(long, value_name = "COUNT", value_parser = count::<u64>, allow_negative_numbers = true)]
    max: Option<u64>,
}

fn secret(text: &str) -> Result<Secret, BadKey> {
    Secret::parse(text)
}

/// Secrets that were found in a place; what is none is not repeated.
fn parsed(place: &str, texts: &[String]) -> Result<Vec<Secret>, CommandError> {
    let secrets = texts.iter().map(|text| Secret::parse(text));
    let wrong = |bad: BadKey| CommandError::Usage(format!("{place}: {bad}"));
    secrets.collect::<Result<_, _>>().map_err(wrong)
}

fn public_key(text: &str) -> Result<PublicKey, BadKey> {
    PublicKey::parse(text)
}

fn status(text: &str) -> Result<StatusCode, String> {
    let code = text.parse().ok().filter(|code| (200..=599).contains(code));
    let status = code.and_then(|code| StatusCode::from_u16(code).ok());
    status.ok_or_else(|| "a status is a number from 200 to 599".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let read = text.parse::<jiff::SignedDuration>().ok();
    let says = || format!("`{text}` is not a duration; write one like 500ms or 20s");
    read.and_then(|duration| duration.try_into().ok()).ok_or_else(says)
}

impl ListenArgs {
    /// Listens until it is interrupted, or has had enough.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        let keys = self.keys()?;
        let mut signals = listen_for_signals()?;
        let tasks = Tasks::new();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|error| {
            CommandError::Failed(format!(
                "cannot listen on {address}: {error}; choose another --port"
            ))
        })?;
        let address = listener.local_addr().map_err(|e| CommandError::Failed(e.to_string()))?;
        print::complain(&format!("listening on http://{address}/"))?;
        if keys.is_empty() {
            print::complain("note: nothing is verified; give the secret of the subscription")?;
        }
        let receiver = Arc::new(TestReceiver::new(self.manner(), keys, clock, self.tell()));
        tasks.spawn_until_cut(Arc::clone(&receiver).accept(listener, tasks.clone()));
        tokio::select! {
            () = receiver.has_had_enough() => {}
            _ = signals.next() => {}
        }
        // The last answer still goes out.
        tasks.drain();
        receiver.until_answered(&tasks).await;
        let unbelieved = match receiver.unbelieved() {
            0 => return Ok(()),
            1 => "1 delivery was".to_owned(),
            number => format!("{number} deliveries were"),
        };
        Err(CommandError::Failed(format!("{unbelieved} not to be believed")))
    }

    fn keys(&self) -> Result<Vec<VerificationKey>, CommandError> {
        let mut secrets = self.secret.clone();
        for file in &self.secret_file {
            let place = format!("--secret-file {}", file.display());
            secrets.extend(parsed(&place, &secret_input::secrets(file)?)?);
        }
        if secrets.is_empty() {
            let place = "the environment variable CLOAKROOM_LISTEN_SECRET";
            secrets.extend(parsed(place, &listen_secrets(environment()))?);
        }
        let secrets = secrets.into_iter().map(VerificationKey::Secret);
        Ok(secrets.chain(self.key.iter().cloned().map(VerificationKey::Public)).collect())
    }

    fn manner(&self) -> ResponseBehavior {
        ResponseBehavior {
            fail: self.fail,
            status: if self.gone { StatusCode::GONE } else { self.status },
            slow: self.slow,
            drop: self.drop,
        }
    }

    /// Prints each delivery; ends after the wanted number, or when the reader of the output is gone.
    fn tell(&self) -> DeliveryObserver {
        let (json, most) = (self.json, self.max.unwrap_or(u64::MAX));
        let told_so_far = AtomicU64::new(0);
        Box::new(move |seen, answer| {
            let count = told_so_far.fetch_add(1, Ordering::SeqCst) + 1;
            // Others may be on their way when the last one is told.
            if count > most {
                return false;
            }
            let told = match json {
                true => show::json(seen, answer).to_string(),
                false => show::text(seen, answer),
            };
            print::say(&told).is_ok() && count < most
        })
    }
}
