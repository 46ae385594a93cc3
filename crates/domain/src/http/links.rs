//! The URLs of one operation.
//!
//! Owns the paths of the gateway's own resources (contract section 1). All URLs are absolute. It must
//! not know which of them exist for which client.

use std::fmt::Display;

/// Builds the absolute URLs of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    monitor: String,
}

impl Links {
    /// The links of the operation that `ticket` names. `base` is the public origin, with
    /// a path or without, and `prefix` where the gateway's own resources live (`/-`).
    pub fn new(base: &str, prefix: &str, ticket: impl Display) -> Self {
        let (base, prefix) = (base.trim_end_matches('/'), prefix.trim_end_matches('/'));
        Self { monitor: format!("{base}{prefix}/operations/{ticket}") }
    }

    /// The monitor: 202 while pending, 303 when finished.
    pub fn monitor(&self) -> &str {
        &self.monitor
    }

    /// The operation document.
    pub fn status(&self) -> String {
        self.beneath("status")
    }

    /// The recorded answer.
    pub fn result(&self) -> String {
        self.beneath("result")
    }

    /// The timeline.
    pub fn events(&self) -> String {
        self.beneath("events")
    }

    /// Where a POST cancels.
    pub fn cancel(&self) -> String {
        self.beneath("cancel")
    }

    /// The operations that this one gave rise to.
    pub fn tree(&self) -> String {
        self.beneath("tree")
    }

    /// Where the upstream reports progress during the attempt that `token` was made for.
    pub fn progress(&self, token: impl Display) -> String {
        self.beneath(&format!("progress/{token}"))
    }

    fn beneath(&self, resource: &str) -> String {
        [&self.monitor, "/", resource].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_has_its_absolute_url() {
        let links = Links::new("https://api.example.com/base", "/-", "T");
        let monitor = "https://api.example.com/base/-/operations/T";
        assert_eq!(links.monitor(), monitor);
        assert_eq!(links.status(), format!("{monitor}/status"));
        assert_eq!(links.result(), format!("{monitor}/result"));
        assert_eq!(links.events(), format!("{monitor}/events"));
        assert_eq!(links.cancel(), format!("{monitor}/cancel"));
        assert_eq!(links.tree(), format!("{monitor}/tree"));
        assert_eq!(links.progress("1-ab"), format!("{monitor}/progress/1-ab"));
    }

    #[test]
    fn a_slash_at_the_end_of_base_or_prefix_is_not_doubled() {
        let links = Links::new("http://a/", "/gate/", "T");
        assert_eq!(links.monitor(), "http://a/gate/operations/T");
    }
}
