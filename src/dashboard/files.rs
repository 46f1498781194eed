//! The files of `web/`, embedded in the binary: the page needs no build step and no file beside the executable.

use std::fmt::Write as _;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::http_server::headers;

/// The page itself.
const INDEX: &str = "index.html";
/// Where the state goes in it.
const STATE: &str = "<!-- state -->";

#[derive(rust_embed::Embed)]
#[folder = "web/"]
struct Files;

/// The page with a JSON document inside, in a script element that browsers do not run.
pub(crate) fn index(state: &str) -> Response {
    let page = Files::get(INDEX).map(|file| file.data).unwrap_or_default();
    // In a script element only `<` can begin anything that HTML would see.
    let state = state.replace('<', "\\u003c");
    let script = format!("<script type=\"application/json\" id=\"state\">{state}</script>");
    let page = String::from_utf8_lossy(&page).replacen(STATE, &script, 1);
    let headers =
        [(header::CONTENT_TYPE, content_type(INDEX)), (header::CACHE_CONTROL, "no-store")];
    (headers, page).into_response()
}

/// One file; 304 when the client has it already. Clients ask each time (`no-cache`), so that a page never mixes
/// the files of two versions.
pub(crate) fn serve(path: &str, headers: &HeaderMap) -> Response {
    let Some(file) = Files::get(path) else {
        return (StatusCode::NOT_FOUND, "There is no such file in the dashboard.\n")
            .into_response();
    };
    let tag = tag(&file.metadata.sha256_hash());
    let caching = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    let known = headers::text(headers, header::IF_NONE_MATCH);
    if known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag)) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, content_type(path))];
    (caching, content_type, Body::from(file.data.into_owned())).into_response()
}

fn tag(hash: &[u8; 32]) -> String {
    let mut tag = String::from("\"");
    for byte in &hash[..16] {
        write!(tag, "{byte:02x}").expect("writing to a string cannot fail");
    }
    tag.push('"');
    tag
}

/// Browsers are told not to guess (`nosniff`), so a script without its type would not run.
fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// Every file as text.
#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = (String, String)> {
    Files::iter().filter_map(|name| {
        let body = String::from_utf8(Files::get(&name)?.data.into_owned()).ok()?;
        Some((name.into_owned(), body))
    })
}
