//! Says in a policy's status, and for a refused module in an Event, what became of a load.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use crate::{
    controllers::policies::COMPONENT,
    model::{
        Object, Status, kind,
        well_known::{POLICY_HEALTHY, POLICY_READY},
    },
    policy::library::{Library, OnFailure, Report},
    registry::{Note, Registry, Subresource, WriteOptions, until_written},
};

/// What is said of a policy that serves everywhere.
pub(super) const IN_USE: &str = "it serves wherever it is named";

/// What is to be said.
pub(super) struct Statement {
    /// The policy, as it was when its module was loaded.
    pub(super) object: Arc<Object>,
    pub(super) on_failure: OnFailure,
    /// What became of the load, or the reason of the refusal in one line.
    pub(super) outcome: Result<Report, String>,
}

impl Statement {
    /// Writes until that works, or until the policy is gone.
    pub(super) async fn say(self, registry: Arc<Registry>, library: Arc<Library>) {
        let key = &self.object.key;
        if let Err(reason) = &self.outcome
            && !self.is_said(reason)
        {
            let note = Note {
                about: key.clone(),
                uid: self.object.metadata.uid.clone(),
                warning: true,
                reason: "ModuleRefused",
                message: reason.clone(),
            };
            registry.record(COMPONENT, &note).await;
        }
        let written = until_written(key, || self.write(&registry, &library));
        if let Err(status) = written.await
            && status.code != 404
        {
            tracing::warn!(policy = %key.name, error = %status, "cannot write a policy's status");
        }
    }

    /// Whether the status says so already: after a restart, an old refusal is no news.
    fn is_said(&self, reason: &str) -> bool {
        let status: Option<Value> = self.object.parse().ok();
        let condition = status.as_ref().and_then(|all| all.pointer("/status/conditions/0"));
        condition.is_some_and(|condition| {
            condition["status"] == "False"
                && condition["observedGeneration"] == self.object.metadata.generation
                && condition["message"].as_str().is_some_and(|message| message.starts_with(reason))
        })
    }

    async fn write(&self, registry: &Registry, library: &Library) -> Result<(), Status> {
        let Self { object, outcome, .. } = self;
        let is_loaded = library.is_loaded(&object.key.name);
        let instead = if is_loaded {
            "the module loaded before stays in use"
        } else if self.on_failure == OnFailure::Reject {
            "connections to Services that name it are reset"
        } else if object.key.kind == kind::TOPOLOGY_POLICY {
            "Services that name it are served as without a topology policy"
        } else {
            "Services that name it use round robin"
        };
        let options = WriteOptions::default();
        let written = registry.modify(&object.key, Subresource::Status, &options, |current| {
            if current.metadata.uid != object.metadata.uid {
                return Err(Status::not_found(&object.key));
            }
            let mut document: Value = current.parse()?;
            let ready = ready_condition(&document, object.metadata.generation, outcome, instead);
            document["status"]["conditions"] = json!([ready]);
            if is_loaded {
                let failure = library.out_of_use().remove(&object.key.name);
                set_healthy(&mut document, object.metadata.generation, failure.as_deref());
            }
            document["status"]["observedGeneration"] = object.metadata.generation.into();
            if let Ok(report) = outcome {
                document["status"]["digest"] = report.digest.as_str().into();
                document["status"]["abi"] = report.abi.as_str().into();
                document["status"]["compileMs"] = report.compile_ms.into();
            }
            Ok(document)
        });
        written.await.map(drop)
    }
}

/// Sets the condition `Healthy`: whether the policy serves everywhere. `failure` is why it does not.
pub(super) fn set_healthy(document: &mut Value, generation: i64, failure: Option<&str>) {
    let said = match failure {
        None => ("True", "InUse", IN_USE.to_owned()),
        Some(why) => ("False", "Disabled", out_of_use(why)),
    };
    let healthy = condition(document, POLICY_HEALTHY, generation, said);
    if let Some(conditions) = document["status"]["conditions"].as_array_mut() {
        conditions.retain(|old| old["type"] != POLICY_HEALTHY);
        conditions.push(json!(healthy));
    }
}

/// What is said of a policy that failed too often.
pub(super) fn out_of_use(failure: &str) -> String {
    format!(
        "it failed again and again at a Service, where it is out of use now and tried once a minute; the last failure: \
         {failure}"
    )
}

fn ready_condition(
    document: &Value,
    generation: i64,
    outcome: &Result<Report, String>,
    instead: &str,
) -> Condition {
    let said = match outcome {
        Ok(_) => ("True", "Loaded", "the module is in use".to_owned()),
        Err(why) => ("False", "Refused", format!("{why}; {instead}")),
    };
    condition(document, POLICY_READY, generation, said)
}

/// A condition that keeps its time if it only says again what the document says.
fn condition(
    document: &Value,
    type_: &str,
    generation: i64,
    (status, reason, message): (&str, &str, String),
) -> Condition {
    let conditions = document["status"]["conditions"].clone();
    let old: Vec<Condition> = serde_json::from_value(conditions).unwrap_or_default();
    let old = old.into_iter().find(|old| old.type_ == type_ && old.status == status);
    let since = old.map_or_else(|| Time(Timestamp::now()), |old| old.last_transition_time);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since,
    }
}
