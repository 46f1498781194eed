//! Request bodies as documents: JSON, YAML or (from typed clients) protobuf, by their content type.

use http::{HeaderMap, header};
use serde_json::Value;

use crate::{
    api::protobuf,
    http_server::headers,
    model::{
        Status,
        duplicates::{self, Parsed},
    },
};

/// The media type in `Content-Type`, without parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    let text = headers::text(headers, header::CONTENT_TYPE).unwrap_or("");
    text.split(';').next().unwrap_or_default().trim()
}

/// Decodes a body.
pub(crate) fn document_of(headers: &HeaderMap, body: &[u8]) -> Result<Value, Status> {
    parsed_of(headers, body).map(|parsed| parsed.value)
}

/// Decodes a body, and finds its duplicate fields.
pub(crate) fn parsed_of(headers: &HeaderMap, body: &[u8]) -> Result<Parsed, Status> {
    match content_type(headers) {
        "" | "application/json" => parse_json(body),
        "application/yaml" | "application/x-yaml" | "text/yaml" => parse_yaml(body),
        protobuf::MEDIA_TYPE => {
            protobuf::decode(body).map(|value| Parsed { value, duplicates: Vec::new() })
        }
        other => Err(Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format ({other}); accepted media types include: \
             application/json, application/yaml"
        ))),
    }
}

fn parse_json(body: &[u8]) -> Result<Parsed, Status> {
    duplicates::parse_json(body).map_err(|error| {
        Status::bad_request(format!("the request body is not valid JSON: {error}"))
    })
}

/// Decodes YAML. Several documents in one body are an error, as with Kubernetes.
fn parse_yaml(body: &[u8]) -> Result<Parsed, Status> {
    duplicates::parse(serde_yaml::Deserializer::from_slice(body)).map_err(|error| {
        Status::bad_request(format!("the request body is not valid YAML: {error}"))
    })
}
