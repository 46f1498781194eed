//! `namespaces/finalize`: changes only `spec.finalizers`; the last one gone ends a terminating namespace.

use axum::response::Response;
use http::StatusCode;

use crate::{
    api::{Api, request::Form, resources::Request, resources::parsed},
    model::Status,
    registry::Part,
};

pub(crate) async fn serve(api: &Api, request: &Request) -> Result<Response, Status> {
    let key = request.target.key()?;
    let form = Form::negotiate(&request.headers, &request.query)?;
    let document = request.document()?;
    let options = request.query.write_options()?;
    let written = api
        .registry
        .modify(&key, Part::Main, &options, |namespace| {
            let mut namespace = parsed(namespace)?;
            namespace["spec"]["finalizers"] = document["spec"]["finalizers"].clone();
            Ok(namespace)
        })
        .await?;
    api.answer_write(written, form, StatusCode::OK).await
}
