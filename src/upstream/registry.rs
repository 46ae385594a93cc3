//! The upstreams of a configuration, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::client::Upstream;

/// The upstreams of a configuration. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(Arc<BTreeMap<Arc<str>, Upstream>>);

impl Upstreams {
    /// The upstream of that name.
    pub fn get(&self, name: &str) -> Option<&Upstream> {
        self.0.get(name)
    }

    /// The only upstream, if there is only one.
    pub fn sole(&self) -> Option<&Upstream> {
        let mut all = self.0.values();
        all.next().filter(|_| all.next().is_none())
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Upstream> {
        self.0.values()
    }
}

impl FromIterator<Upstream> for Upstreams {
    fn from_iter<I: IntoIterator<Item = Upstream>>(upstreams: I) -> Self {
        let by_name = upstreams.into_iter().map(|upstream| (upstream.name().clone(), upstream));
        Self(Arc::new(by_name.collect()))
    }
}
