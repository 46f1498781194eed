//! `pods/eviction`: what `kubectl drain` asks for. Deletes the pod if its PodDisruptionBudget allows that now.

use axum::response::Response;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

use crate::{
    api::{
        Api,
        answer::created,
        query::Query,
        request::{Request, delete_options},
    },
    model::{
        Cause, LabelSelector, Object, ObjectKey, Status,
        conditions::put_condition,
        kind,
        time::time_text,
        well_known::{DISRUPTION_TARGET, POD_READY},
    },
    registry::{Subresource, View, WriteOptions},
};

const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const TOO_MANY_BUDGETS: &str = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not \
     support.";
/// When to ask again about a budget that the controller has not looked at yet.
const RETRY_SECONDS: u32 = 10;
/// Evictions that a budget can have under way, as in Kubernetes.
const DISRUPTED_MAX: usize = 2000;

pub(crate) async fn serve(api: &Api, request: &Request) -> Result<Response, Status> {
    let key = request.target.key()?;
    let mut eviction = request.document()?;
    if eviction["metadata"]["name"].as_str().is_some_and(|name| name != key.name) {
        let text = "name in URL does not match name in Eviction object";
        return Err(Status::bad_request(text));
    }
    let query = Query { dry_run: request.query.dry_run.clone(), ..Query::default() };
    let document = eviction.get_mut("deleteOptions").map(Value::take).unwrap_or_default();
    let mut options = delete_options(document, &query)?;
    let view = api.registry.view();
    let pod = view.get(&key).ok_or_else(|| Status::not_found(&key))?;
    // Before anything is taken from a budget.
    options.preconditions.check_delete(&key, pod)?;
    let typed: Pod = pod.parse().map_err(|_damaged| Status::internal("the pod is damaged"))?;
    if !goes_freely(pod, &typed)
        && let Some(budget) = budget_of(&view, pod)?
    {
        grant(api, &budget, &key, &typed, options.dry_run).await?;
        if !options.dry_run {
            tell_disruption(api, &key).await?;
            // Held until here.
            options.preconditions.resource_version = None;
        }
    }
    api.registry.delete(&key, &options).await?;
    Ok(created())
}

/// Pods that serve nobody yet, or no more, are no budget's business.
fn goes_freely(pod: &Object, typed: &Pod) -> bool {
    let phase = typed.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.is_terminating() || matches!(phase, Some("Succeeded" | "Failed" | "Pending"))
}

/// The one budget that selects a pod.
fn budget_of(view: &View, pod: &Object) -> Result<Option<ObjectKey>, Status> {
    let selects = |object: &&std::sync::Arc<Object>| {
        let budget = object.parse::<PodDisruptionBudget>().ok();
        let selector = budget.and_then(|budget| budget.spec?.selector);
        let selector = selector.and_then(|selector| LabelSelector::from_object(&selector).ok());
        selector.is_some_and(|selector| selector.matches(&pod.metadata.labels))
    };
    let budgets = view.list(&kind::POD_DISRUPTION_BUDGET, Some(&pod.key.namespace));
    let mut budgets = budgets.filter(selects);
    match (budgets.next(), budgets.next()) {
        (_, Some(_)) => Err(Status::internal(TOO_MANY_BUDGETS)),
        (first, None) => Ok(first.map(|budget| budget.key.clone())),
    }
}

/// Takes one disruption from a budget, or says why not.
async fn grant(
    api: &Api,
    budget: &ObjectKey,
    pod: &ObjectKey,
    typed: &Pod,
    dry_run: bool,
) -> Result<(), Status> {
    let options = WriteOptions { dry_run, ..WriteOptions::default() };
    let taken = api
        .registry
        .modify(budget, Subresource::Status, &options, |object| {
            let mut document: Value = object.parse()?;
            let budget: PodDisruptionBudget =
                object.parse().map_err(|_damaged| Status::internal("the budget is damaged"))?;
            document["status"] = json!(taken_from(object, &budget, pod, typed)?);
            Ok(document)
        })
        .await;
    match taken {
        // A budget that is gone limits nothing.
        Err(status) if status.code == 404 => Ok(()),
        other => other.map(|_| ()),
    }
}

/// The budget's status after the eviction.
fn taken_from(
    object: &Object,
    budget: &PodDisruptionBudget,
    pod: &ObjectKey,
    typed: &Pod,
) -> Result<PodDisruptionBudgetStatus, Status> {
    let mut status = budget.status.clone().unwrap_or_default();
    let name = &object.key.name;
    let (desired, healthy) =
        (status.desired_healthy.unwrap_or(0), status.current_healthy.unwrap_or(0));
    if !is_ready(typed) {
        let policy = budget.spec.as_ref().and_then(|s| s.unhealthy_pod_eviction_policy.as_deref());
        if policy == Some("AlwaysAllow") || desired > 0 && healthy >= desired {
            return Ok(status);
        }
    }
    if status.observed_generation.unwrap_or(0) < object.metadata.generation {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refusal(why, Some(RETRY_SECONDS)));
    }
    let disrupted = status.disrupted_pods.get_or_insert_default();
    if disrupted.len() > DISRUPTED_MAX {
        let text = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(&object.key, text));
    }
    let allowed = status.disruptions_allowed.unwrap_or(0);
    if allowed <= 0 {
        let mut conditions = status.conditions.iter().flatten();
        let failed = conditions.find(|c| c.reason == "SyncFailed" && c.status == "False");
        let why = match failed {
            Some(condition) => format!(
                "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
                condition.message
            ),
            None => format!(
                "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
            ),
        };
        return Err(refusal(why, None));
    }
    disrupted.insert(pod.name.clone(), Time(Timestamp::now()));
    status.disruptions_allowed = Some(allowed - 1);
    Ok(status)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = |name: &str| {
        conditions.into_iter().flatten().any(|c| c.type_ == name && c.status == "True")
    };
    ready(POD_READY)
}

/// 429; clients try again by themselves only when told when.
fn refusal(why: String, retry_after_seconds: Option<u32>) -> Status {
    let mut status = Status::too_many_requests(REFUSED, RETRY_SECONDS);
    status.retry_after_seconds = retry_after_seconds;
    let (reason, field) = ("DisruptionBudget", String::new());
    status.causes = vec![Cause { reason, field, message: why }];
    status
}

/// Tells on the pod why it goes.
async fn tell_disruption(api: &Api, key: &ObjectKey) -> Result<(), Status> {
    let now = time_text(Timestamp::now());
    let condition = json!({"type": DISRUPTION_TARGET, "status": "True", "lastTransitionTime": now,
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"});
    let options = WriteOptions::default();
    let told = api.registry.modify(key, Subresource::Status, &options, |pod| {
        let mut document: Value = pod.parse()?;
        put_condition(&mut document, condition.clone());
        Ok(document)
    });
    told.await.map(|_| ())
}
