//! `namespaces/finalize`: changes only `spec.finalizers`, whether the namespace is terminating or not; the last one gone
//! ends a terminating one.

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
        .modify(&key, Part::Finalizers, &options, |old| {
            let old = parsed(old)?;
            let mut namespace = old.clone();
            namespace["spec"]["finalizers"] = document["spec"]["finalizers"].clone();
            for identity in ["name", "uid", "resourceVersion"] {
                if let Some(value) = document["metadata"].get(identity) {
                    namespace["metadata"][identity] = value.clone();
                }
            }
            request.track(Some(&old), &mut namespace, Part::Finalizers);
            Ok(namespace)
        })
        .await?;
    api.answer_write(written, form, StatusCode::OK).await
}
