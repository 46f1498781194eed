//! Headers as text.

use http::{HeaderMap, HeaderName};

/// The first value of a header; `None` as well when it is not text.
pub(crate) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
