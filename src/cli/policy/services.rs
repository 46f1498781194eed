//! Which Services name which policies: the annotations of Services.

use anyhow::Context;
use http::Method;
use serde_json::{Value, json};

use crate::{
    cli::{
        client::{self, Cluster},
        policy::{World, text},
    },
    model::kind,
};

/// A Service and the policy that it names.
pub(super) struct Naming {
    /// `NAMESPACE/NAME`.
    pub(super) service: String,
    pub(super) policy: String,
}

/// All Services that name a policy of a world.
pub(super) async fn namings(cluster: &Cluster, world: World) -> anyhow::Result<Vec<Naming>> {
    let path = client::path(&kind::SERVICE, None, None);
    let list = cluster.request(Method::GET, &path, &[], Vec::new()).await?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let naming = |service: &Value| {
        let policy = service["metadata"]["annotations"][world.annotation()].as_str()?.to_owned();
        let (namespace, name) =
            (text(service, "/metadata/namespace"), text(service, "/metadata/name"));
        Some(Naming { service: format!("{namespace}/{name}"), policy })
    };
    Ok(items.iter().filter_map(naming).collect())
}

/// Those that name this policy.
pub(super) async fn users(
    cluster: &Cluster,
    world: World,
    policy: &str,
) -> anyhow::Result<Vec<String>> {
    let namings = namings(cluster, world).await?;
    let users = namings.into_iter().filter(|naming| naming.policy == policy);
    Ok(users.map(|naming| naming.service).collect())
}

/// Makes a Service (`NAMESPACE/NAME`, or `NAME` in the namespace of the context) name a policy. Gives the Service in full.
pub(super) async fn choose(
    cluster: &Cluster,
    service: &str,
    world: World,
    policy: &str,
) -> anyhow::Result<String> {
    let (namespace, name) = service.split_once('/').unwrap_or((&cluster.namespace, service));
    let path = client::path(&kind::SERVICE, Some(namespace), Some(name));
    let patch = json!({"metadata": {"annotations": {world.annotation(): policy}}});
    let headers = [("content-type", "application/merge-patch+json")];
    let patched = cluster.request(Method::PATCH, &path, &headers, patch.to_string().into_bytes());
    patched.await.with_context(|| format!("cannot make the Service {namespace}/{name} use it"))?;
    Ok(format!("{namespace}/{name}"))
}
