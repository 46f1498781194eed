//! Rules about the volumes of a pod's claims: they must be bound, or can be where the pod goes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{self as core, PersistentVolume};

use crate::{
    controllers::{
        pod::Pod,
        scheduler::node::{FilterFailure, Node},
        volume_binding::{
            claims::{Claim, class_name, is_delayed},
            is_static,
            matching::{fitting, required},
        },
    },
    model::{Object, ObjectKey, kind},
    registry::View,
};

const CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const IN_USE: &str =
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
const ONE_POD: &str = "ReadWriteOncePod";
const NOTHING_FREE: &str = "node(s) didn't find available persistent volumes to bind";

/// What a pod's claims say, worked out once for all nodes.
#[derive(Default)]
pub(super) struct Volumes {
    /// Why the pod can be nowhere now.
    pub(super) unready: Option<String>,
    /// Claims that are bound when the pod has a node.
    pub(super) unbound: Vec<Arc<Object>>,
    /// Another pod has a claim that is for one pod only.
    is_in_use: bool,
    /// Where the bound volumes can be used.
    bound: Vec<core::NodeSelector>,
    /// For each unbound claim whose volumes are not made on demand, where those that are free can be used.
    free: Vec<Vec<Option<core::NodeSelector>>>,
}

impl Volumes {
    /// `is_used` tells whether a pod that has a node uses a claim.
    pub(super) fn of(
        view: &View,
        pod: &Pod<'_>,
        spec: &core::PodSpec,
        is_used: impl Fn(&ObjectKey) -> bool,
    ) -> Self {
        let mut volumes = Self::default();
        let mut is_immediate = false;
        for volume in spec.volumes.iter().flatten() {
            let Some(name) = claim_name(pod, volume) else { continue };
            match found(view, pod, volume, &name) {
                Err(why) => {
                    volumes.unready = Some(why);
                    return volumes;
                }
                Ok(claim) => {
                    volumes.is_in_use |= is_for_one_pod(claim) && is_used(&claim.key);
                    is_immediate |= !volumes.add(view, claim);
                }
            }
        }
        if is_immediate {
            volumes.unready = Some("pod has unbound immediate PersistentVolumeClaims".to_owned());
        }
        volumes
    }

    /// `false` if the claim must be bound before the pod has a node, and is not.
    fn add(&mut self, view: &View, object: &Arc<Object>) -> bool {
        let claim = Claim::of(object);
        let name = claim.facts.spec.volume_name.as_str();
        if claim.is_bound() {
            let volume = view.get(&ObjectKey::cluster(&kind::PERSISTENT_VOLUME, name));
            let volume = volume.and_then(|volume| volume.parse::<PersistentVolume>().ok());
            let spec = volume.and_then(|volume| volume.spec).unwrap_or_default();
            self.bound.extend(required(&spec).cloned());
            return true;
        }
        if !name.is_empty() || !is_delayed(view, &claim) {
            return false;
        }
        if is_static(view, class_name(&claim).unwrap_or_default()) {
            let free = fitting(view, &claim).into_iter();
            let free = free.map(|(_, volume)| required(&volume.spec.unwrap_or_default()).cloned());
            self.free.push(free.collect());
        }
        self.unbound.push(object.clone());
        true
    }

    /// Why a node cannot have the pod.
    pub(super) fn filter_failure(&self, node: &Node) -> Option<FilterFailure> {
        if self.is_in_use {
            return Some(FilterFailure::resolvable(IN_USE));
        }
        if !self.bound.iter().all(|selector| node.is_selected_by(selector)) {
            return Some(FilterFailure::unresolvable(CONFLICT));
        }
        let is_free = |free: &Vec<Option<core::NodeSelector>>| {
            let mut selectors = free.iter();
            selectors.any(|own| own.as_ref().is_none_or(|own| node.is_selected_by(own)))
        };
        let all = self.free.iter().all(is_free);
        (!all).then(|| FilterFailure::unresolvable(NOTHING_FREE))
    }
}

fn is_for_one_pod(claim: &Object) -> bool {
    Claim::of(claim).facts.spec.access_modes.iter().any(|mode| mode == ONE_POD)
}

fn claim_name(pod: &Pod<'_>, volume: &core::Volume) -> Option<String> {
    let named = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.clone());
    let made = || format!("{}-{}", pod.object.key.name, volume.name);
    named.or_else(|| volume.ephemeral.as_ref().map(|_| made()))
}

/// The claim, or why the pod cannot use it.
fn found<'a>(
    view: &'a View,
    pod: &Pod<'_>,
    volume: &core::Volume,
    name: &str,
) -> Result<&'a Arc<Object>, String> {
    let key = ObjectKey::new(&kind::PERSISTENT_VOLUME_CLAIM, &*pod.object.key.namespace, name);
    let Some(claim) = view.get(&key) else {
        return Err(if volume.ephemeral.is_some() {
            format!(
                "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
            )
        } else {
            format!("persistentvolumeclaim {name:?} not found")
        });
    };
    let facts = Claim::of(claim).facts;
    if facts.status.phase == "Lost" {
        let volume = &facts.spec.volume_name;
        let why = format!(
            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
        );
        return Err(why);
    }
    if claim.is_terminating() {
        return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
    }
    let is_own = claim.metadata.owner_references.iter().any(|o| o.uid == pod.object.metadata.uid);
    if volume.ephemeral.is_some() && !is_own {
        let (namespace, pod) = (&pod.object.key.namespace, &pod.object.key.name);
        let why = format!(
            "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
        );
        return Err(why);
    }
    Ok(claim)
}
