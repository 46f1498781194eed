//! `componentstatuses`: the health of the scheduler, the controllers and the store, as `kubectl get cs` shows it. All of
//! them are this process, so whoever gets an answer gets a good one. Enter at [`serve`].

use std::sync::Arc;

use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::json;

use crate::{
    api::{answer::answer, forms::Form, request::Request, resources::list_answer},
    model::{Object, ObjectKey, Status, kind::extension::COMPONENT_STATUS, object::to_stored},
};

/// The warning of kube-apiserver.
pub(crate) const DEPRECATED: &str = "v1 ComponentStatus is deprecated in v1.19+";
/// In the order of a list.
const COMPONENTS: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];

pub(crate) fn serve(request: &Request) -> Result<Response, Status> {
    let descriptor = &request.target.descriptor;
    match (&request.method, &request.target.name) {
        (&Method::GET, None) if !request.query.watch => {
            let form = Form::of_list(&request.headers, &request.query.include_object)?;
            let all = COMPONENTS.into_iter().map(status).collect::<Result<_, _>>()?;
            Ok(list_answer(descriptor, 0, None, all, form))
        }
        (&Method::GET, Some(name)) => {
            let key = request.target.key()?;
            let component = COMPONENTS.into_iter().find(|component| component == name);
            let component = component.ok_or_else(|| Status::not_found(&key))?;
            answer(descriptor, &status(component)?, request.form()?, StatusCode::OK, &[])
        }
        _ => Err(Status::method_not_allowed()),
    }
}

fn status(component: &str) -> Result<Arc<Object>, Status> {
    let document = json!({"metadata": {"name": component},
        "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]});
    let key = ObjectKey::cluster(&COMPONENT_STATUS, component);
    Ok(Arc::new(Object::from_stored(key, 0, to_stored(&COMPONENT_STATUS, document))?))
}
