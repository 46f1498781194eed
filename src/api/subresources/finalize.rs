//! `namespaces/finalize`: changes only `spec.finalizers`, whether the namespace is terminating or not; the last one gone
//! ends a terminating one.

use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

use crate::{
    api::{
        Api,
        request::{Request, manager},
    },
    model::{Status, patch::Wanted},
    registry::Subresource,
};

pub(crate) async fn serve(api: &Api, request: &Request) -> Result<Response, Status> {
    let key = request.target.key()?;
    let form = request.form()?;
    let document = request.document()?;
    let options = request.write_options()?;
    let name = request.manager();
    let written = api
        .registry
        .modify(&key, Subresource::Finalize, &options, |old| {
            let mut namespace: Value = old.parse()?;
            namespace["spec"]["finalizers"] = document["spec"]["finalizers"].clone();
            for identity in ["name", "uid", "resourceVersion"] {
                if let Some(value) = document["metadata"].get(identity) {
                    namespace["metadata"][identity] = value.clone();
                }
            }
            Ok(Wanted::updated(namespace, manager(&name, Subresource::Finalize)))
        })
        .await?;
    api.answer_write(&request.target.descriptor, written, form, StatusCode::OK).await
}
