//! Says in a policy's status, and for a refused module in an Event, what became of a load.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use crate::{
    controllers::policies::COMPONENT,
    model::{Object, Status, kind, well_known::POLICY_READY},
    policy::library::{Library, OnFailure, Report},
    registry::{Note, Registry, Subresource, WriteOptions, until_written},
};

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
        let written = until_written(key, || self.write(&registry, library.is_loaded(&key.name)));
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

    async fn write(&self, registry: &Registry, is_loaded: bool) -> Result<(), Status> {
        let Self { object, outcome, .. } = self;
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
            let old: Option<Condition> =
                serde_json::from_value(document["status"]["conditions"][0].clone()).ok();
            let condition = ready_condition(old, object.metadata.generation, outcome, instead);
            document["status"]["conditions"] = json!([condition]);
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

fn ready_condition(
    old: Option<Condition>,
    generation: i64,
    outcome: &Result<Report, String>,
    instead: &str,
) -> Condition {
    let (status, reason, message) = match outcome {
        Ok(_) => ("True", "Loaded", "the module is in use".to_owned()),
        Err(why) => ("False", "Refused", format!("{why}; {instead}")),
    };
    let since = old
        .filter(|old| old.status == status)
        .map_or_else(|| Time(Timestamp::now()), |old| old.last_transition_time);
    Condition {
        type_: POLICY_READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since,
    }
}
