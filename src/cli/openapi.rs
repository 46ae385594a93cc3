//! `cloakroom openapi`: the description of the HTTP API.

use super::failure::Failure;
use super::print;

/// Prints it.
pub(super) fn run() -> Result<(), Failure> {
    print::say("{}")
}
