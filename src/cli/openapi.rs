//! `cloakroom openapi`: prints the `OpenAPI` document.

use super::failure::CommandError;
use super::print;

pub(super) const EXAMPLES: &str = "\
Examples:
  cloakroom openapi > cloakroom.json";

/// Prints it, whole lines of JSON.
pub(super) fn run(description: &str) -> Result<(), CommandError> {
    print::say(description.trim_end())
}
