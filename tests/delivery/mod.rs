//! Contract section 5: the requests that the upstream sees, and their number.

mod at_least_once;
mod at_most_once;
mod damaged_bodies;
mod fields;
mod fixed_policy;
mod following;
mod following_deadlines;
mod framing;
mod gateways_in_a_row;
mod limits;
mod odd_answers;
mod outcomes;
mod over_tls;
mod progress;
mod recheck;
mod redirects;
mod status_documents;
