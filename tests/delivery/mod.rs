//! Contract section 5: what the upstream sees, and how often.

mod at_least_once;
mod at_most_once;
mod damaged;
mod fields;
mod following;
mod framing;
mod limits;
mod odd_answers;
mod outcomes;
mod over_tls;
mod progress;
mod promises;
mod recheck;
mod redirects;
