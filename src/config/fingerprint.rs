//! The fingerprint of a configuration, by which nodes compare theirs.

use super::Config;

/// Digits of a fingerprint.
const DIGITS: usize = 12;

impl Config {
    /// Differs where nodes would treat the same request differently: routes, upstreams,
    /// queues, retention, who a request belongs to, where webhooks may go. What each node has of its own
    /// (addresses, slots, logs, its way to the database) does not count.
    pub fn fingerprint(&self) -> String {
        // Values that are marked as secret are left out of what is shown, and so of this.
        let shown = format!(
            "{:?}",
            (
                (&self.upstreams, &self.fallback_upstream, &self.queues, &self.routes),
                (&self.retention, &self.auth, &self.cors),
                (&self.server.prefix, &self.server.public_url, &self.store.lease),
                (&self.webhooks.allow, self.webhooks.allow_http, &self.webhooks.ports),
                (self.webhooks.max_subscriptions, self.webhooks.timeout),
            )
        );
        let mut digits = blake3::hash(shown.as_bytes()).to_hex().to_string();
        digits.truncate(DIGITS);
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::read;

    #[test]
    fn it_differs_with_what_is_promised_and_not_with_the_machine() {
        let plain = read("").fingerprint();
        assert_eq!(plain.len(), 12);
        assert_eq!(plain, read("[engine]\nslots = 3\n[log]\nformat = \"json\"").fingerprint());
        assert_ne!(plain, read("[queues.reports]").fingerprint());
        assert_ne!(plain, read("[retention]\nresult = \"1h\"").fingerprint());
    }
}
