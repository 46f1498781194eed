//! Answers about one object: its form, its status code and its warnings.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    api::{
        Api,
        forms::{Form, Shape, Syntax},
        table::{self, Printer},
    },
    model::{Object, Status},
    registry::{Descriptor, Written},
};

/// The answer that shows one object.
pub(crate) fn answer(
    descriptor: &Arc<Descriptor>,
    object: &Arc<Object>,
    form: Form,
    code: StatusCode,
    warnings: &[String],
) -> Result<Response, Status> {
    let json = match form.shape {
        Shape::Table(rows) => {
            Printer::of(descriptor).render_one(object, Timestamp::now(), rows, true).to_bytes()
        }
        Shape::Metadata(version) | Shape::MetadataList(version) => table::partial(object, version),
        Shape::Whole => object.document(),
    };
    let mut response = in_syntax(json, form.syntax, code)?;
    add_warnings(&mut response, warnings);
    Ok(response)
}

/// The answer to a POST that makes no object of its own.
pub(crate) fn created() -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    (StatusCode::CREATED, axum::Json(body)).into_response()
}

/// The answer that shows a JSON document, as JSON or as YAML.
pub(crate) fn in_syntax(json: Bytes, syntax: Syntax, code: StatusCode) -> Result<Response, Status> {
    let body = if syntax == Syntax::Yaml {
        let value: Value =
            serde_json::from_slice(&json).map_err(|error| Status::internal(error.to_string()))?;
        let yaml =
            serde_yaml::to_string(&value).map_err(|error| Status::internal(error.to_string()))?;
        Body::from(yaml)
    } else {
        Body::from(json)
    };
    let media = HeaderValue::from_static(syntax.media());
    Ok((code, [(header::CONTENT_TYPE, media)], body).into_response())
}

/// Adds `Warning: 299 - "text"` headers. kubectl shows them.
pub(crate) fn add_warnings(response: &mut Response, warnings: &[String]) {
    for warning in warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

impl Api {
    /// Waits until proxy and DNS have applied a write, then answers it.
    pub(crate) async fn answer_write(
        &self,
        descriptor: &Arc<Descriptor>,
        written: Written,
        form: Form,
        code: StatusCode,
    ) -> Result<Response, Status> {
        self.registry.wait_routed(&written.object.key.kind, written.object.revision).await;
        answer(descriptor, &written.object, form, code, &written.warnings)
    }
}
