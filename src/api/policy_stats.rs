//! `policystats`: what the loaded policies did, as `kubectl get policystats` and `snowglobe policy list` show it. Nothing of it
//! is stored. Enter at [`serve`].

use std::sync::Arc;

use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::{
    api::{answer::answer, forms::Form, request::Request, resources::list_answer},
    model::{Object, ObjectKey, Status, kind::extension::POLICY_STATS, object::to_stored},
    policy::library::Info,
};

/// Answers from `all` policies that are loaded.
pub(crate) fn serve(request: &Request, all: &[Info]) -> Result<Response, Status> {
    let descriptor = &request.target.descriptor;
    match (&request.method, &request.target.name) {
        (&Method::GET, None) if !request.query.watch => {
            let form = Form::of_list(&request.headers, &request.query.include_object)?;
            let all = all.iter().map(object).collect::<Result<_, _>>()?;
            Ok(list_answer(descriptor, 0, None, all, form))
        }
        (&Method::GET, Some(name)) => {
            let key = request.target.key()?;
            let info = all.iter().find(|info| info.name == *name);
            let info = info.ok_or_else(|| Status::not_found(&key))?;
            answer(descriptor, &object(info)?, request.form()?, StatusCode::OK, &[])
        }
        _ => Err(Status::method_not_allowed()),
    }
}

fn object(info: &Info) -> Result<Arc<Object>, Status> {
    let key = ObjectKey::cluster(&POLICY_STATS, &info.name);
    Ok(Arc::new(Object::from_stored(key, 0, to_stored(&POLICY_STATS, document(info)))?))
}

fn document(info: &Info) -> Value {
    let failures = info.failures_by_kind.iter();
    let failures: Map<String, Value> =
        failures.map(|(kind, count)| (kind.word().to_owned(), json!(count))).collect();
    let pick_time = info.pick_time.as_ref().map(
        |time| json!({"mean": time.mean_ns.round(), "p50": time.p50_ns.round(), "p99": time.p99_ns.round()}),
    );
    json!({
        "metadata": {"name": info.name},
        "world": info.world,
        "form": if info.component { "component" } else { "core" },
        "digest": info.digest,
        "picks": info.picks,
        "abstentions": info.abstentions,
        "fallbacks": info.fallbacks,
        "failures": failures,
        "reloads": {"succeeded": info.reloads, "failed": info.refusals},
        "compileSeconds": info.compile_time.map(|time| time.as_secs_f64()),
        "pickNanoseconds": pick_time,
        "instances": info.instances,
        "memoryBytes": info.memory_bytes,
        "lastFailure": info.last_failure,
    })
}
