//! `[webhooks]`: allowed destinations of deliveries, and limits on sending.
//!
//! Owns what an operator opens. Its invariant: unless something is opened here, deliveries
//! go to public addresses over TLS.

use std::time::Duration;

use ipnet::IpNet;

use super::raw_value::RawValue;
use super::reader::Section;
use super::setting::Setting;
use super::units::{Percent, minutes, seconds};
use cloakroom_domain::limit::Rate;

/// Where deliveries may go, and how many go at once.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhooksConfig {
    /// Ranges that may be dialled though they are not public.
    pub allow: Vec<IpNet>,
    /// Whether plain http may be used.
    pub allow_http: bool,
    /// The ports that may be dialled.
    pub ports: Vec<u16>,
    /// How many subscriptions a principal may have.
    pub max_subscriptions: usize,
    /// How many deliveries may be on their way to one receiver at once.
    pub concurrency: u32,
    /// How many may begin in a time to one receiver; as many as come where there is none.
    pub rate: Option<Rate>,
    /// How many deliveries may take up a slot of this node at once. Up to twice as many go on
    /// beside them, which are first contacts that were not answered within a second.
    pub slots: usize,
    /// The share of the slots that is kept for first attempts, in percent.
    pub first_attempts: u8,
    /// How long one attempt may take as a whole.
    pub timeout: Duration,
}

impl WebhooksConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let usual = vec![DialledPort(443), DialledPort(80)];
        let ports = section.checked("ports", usual, |ports| match ports.is_empty() {
            true => Err("name the ports that may be dialled, like [443, 80]".to_owned()),
            false => Ok(()),
        });
        let first = Percent(0)..=Percent(90);
        Self {
            allow: section.get("allow", Vec::new()),
            allow_http: section.get("allow_http", false),
            ports: ports.into_iter().map(|port| port.0).collect(),
            max_subscriptions: section.within("max_subscriptions", 20, 0..=100_000),
            concurrency: section.within("concurrency", 4, 1..=1024),
            rate: section.get("rate", None),
            slots: section.within("slots", 64, 1..=4096),
            first_attempts: section.within("first_attempts", Percent(20), first).0,
            timeout: section.within("timeout", seconds(15), seconds(1)..=minutes(1)),
        }
    }
}

/// A port that can be dialled.
struct DialledPort(u16);

impl Setting for DialledPort {
    fn read(given: &RawValue) -> Result<Self, String> {
        u16::read_within(given, &(1..=u16::MAX)).map(Self)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, load_with, read};

    #[test]
    fn nothing_is_open_unless_set() {
        let webhooks = read("").webhooks;
        assert!(webhooks.allow.is_empty() && !webhooks.allow_http);
        assert_eq!(webhooks.ports, [443, 80]);
        assert_eq!((webhooks.max_subscriptions, webhooks.concurrency, webhooks.slots), (20, 4, 64));
        assert_eq!((webhooks.timeout.as_secs(), webhooks.first_attempts), (15, 20));
        assert_eq!(webhooks.rate, None);
    }

    #[test]
    fn ranges_and_ports_are_opened_by_name() {
        let text =
            "[webhooks]\nallow = [\"10.0.0.0/8\", \"::1\"]\nports = [443, 9100]\nrate = \"5/s\"";
        let webhooks = read(text).webhooks;
        assert_eq!((webhooks.allow.len(), &*webhooks.ports), (2, &[443, 9100][..]));
        assert_eq!(webhooks.rate.unwrap().to_string(), "5/s");
        let variable = [("CLOAKROOM_WEBHOOKS_PORTS", "443,8443")];
        assert_eq!(load_with("", &variable).unwrap().config.webhooks.ports, [443, 8443]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert!(faults("[webhooks]\nports = []").contains("webhooks.ports: name the ports"));
        for port in [0, -1, 65536] {
            let says = faults(&format!("[webhooks]\nports = [{port}]"));
            assert!(says.contains("webhooks.ports") && says.contains("from 1 to 65535"), "{says}");
        }
        assert!(faults("[webhooks]\nports = [70000]").contains("70000 is out of bounds"));
        assert!(faults("[webhooks]\nallow = [\"10.0.0.0/33\"]").contains("webhooks.allow"));
        assert!(faults("[webhooks]\ntimeout = \"2m\"").contains("webhooks.timeout"));
        assert!(faults("[webhooks]\nslots = 0").contains("webhooks.slots"));
    }
}
