//! `cloakroom openapi`: the description of the HTTP API.

use super::failure::Failure;
use super::print;

/// Prints it, whole lines of JSON.
pub(super) fn run(description: &str) -> Result<(), Failure> {
    print::say(description.trim_end())
}
