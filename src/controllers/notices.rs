//! Writes what proxy and policies report ([`Notice`]) as Events on the objects concerned.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Kind, ObjectKey, kind},
    registry::{Note, Registry},
    route::{NamespacedName, Notice, notice::PolicyKind},
};

const COMPONENT: &str = "kube-proxy";

/// Reads notices until cancelled.
pub async fn run(
    registry: Arc<Registry>,
    mut notices: mpsc::Receiver<Notice>,
    token: CancellationToken,
) {
    loop {
        let notice = tokio::select! {
            () = token.cancelled() => return,
            notice = notices.recv() => notice,
        };
        let Some(notice) = notice else { return };
        let mut note = note_of(notice);
        // An object that is gone needs no Event.
        if let Some(object) = registry.view().get(&note.about) {
            note.uid.clone_from(&object.metadata.uid);
            registry.record(COMPONENT, &note).await;
        }
    }
}

fn note_of(notice: Notice) -> Note {
    match notice {
        Notice::PortNotBound { route, address, reason } => note(
            service(&route.service),
            true,
            "PortNotBound",
            format!(
                "port {}/{} cannot be served at {address}: {reason}",
                route.port, route.protocol
            ),
        ),
        Notice::ProtocolNotCarried { service: name, protocol } => note(
            service(&name),
            true,
            "ProtocolNotCarried",
            format!("{protocol} traffic is not carried; the port is answered by DNS only"),
        ),
        Notice::SourceRefused { route, source } => note(
            service(&route.service),
            true,
            "SourceRefused",
            format!("client {} is outside loadBalancerSourceRanges and was reset", source.ip()),
        ),
        Notice::PolicyFailed { kind, policy, route, reason } => note(
            cluster(object_kind(kind), policy),
            true,
            "PolicyFailed",
            format!("the policy failed for service {}: {reason}", route.service),
        ),
        Notice::PolicyMissing { kind, policy, route } => note(
            service(&route.service),
            true,
            "PolicyMissing",
            match kind {
                PolicyKind::LoadBalancer => {
                    format!("load-balancer policy {policy:?} is not loaded; round robin is used")
                }
                PolicyKind::Topology => format!(
                    "topology policy {policy:?} is not loaded; the Service is served as without one"
                ),
            },
        ),
        Notice::PolicyLog { kind, policy, code, value } => note(
            cluster(object_kind(kind), policy),
            false,
            "PolicyLog",
            format!("the module logged code {code}, value {value}"),
        ),
    }
}

fn object_kind(kind: PolicyKind) -> &'static Kind {
    match kind {
        PolicyKind::LoadBalancer => &kind::LOAD_BALANCER_POLICY,
        PolicyKind::Topology => &kind::TOPOLOGY_POLICY,
    }
}

fn note(about: ObjectKey, warning: bool, reason: &'static str, message: String) -> Note {
    Note { about, uid: String::new(), warning, reason, message }
}

fn service(name: &NamespacedName) -> ObjectKey {
    ObjectKey::new(&kind::SERVICE, &*name.namespace, &*name.name)
}

fn cluster(kind: &Kind, name: String) -> ObjectKey {
    ObjectKey::cluster(kind, name)
}
