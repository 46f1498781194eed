//! `pods/log`: what a pod's runtime kept of its output.

use axum::response::{IntoResponse, Response};
use http::header;

use crate::{
    api::{Api, request::is_true, resources::Request},
    model::Status,
};

pub(crate) fn serve(api: &Api, request: &Request) -> Result<Response, Status> {
    let pod = api.registry.get(&request.target.key()?)?;
    if is_true(&request.query.follow) {
        return Err(Status::bad_request(
            "following logs (--follow) is not supported: leave it out",
        ));
    }
    let lines = (api.logs)(&pod.metadata.uid).unwrap_or_default();
    let skip = request.query.tail_lines.map_or(0, |tail| lines.len().saturating_sub(tail));
    let text: String = lines.iter().skip(skip).flat_map(|line| [line.as_str(), "\n"]).collect();
    Ok(([(header::CONTENT_TYPE, "text/plain")], text).into_response())
}
