//! The description of the public interface, OpenAPI 3.1.

use std::sync::LazyLock;

use utoipa::OpenApi;

use super::document::{Document, DocumentError, DocumentLinks, DocumentRequest};
use super::events::{EventDocument, Timeline};
use super::list::List;
use super::tree::Tree;

#[derive(OpenApi)]
#[openapi(
    info(title = "cloakroom", description = "An HTTP async-request gateway."),
    components(schemas(
        Document,
        DocumentRequest,
        DocumentError,
        DocumentLinks,
        EventDocument,
        Timeline,
        List,
        Tree
    ))
)]
struct Described;

/// The description as JSON, indented, with a line end behind it.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        // Schemas are made of strings and maps with text keys: they serialize.
        let mut text = serde_json::to_string_pretty(&Described::openapi()).unwrap_or_default();
        text.push('\n');
        text
    });
    &TEXT
}
