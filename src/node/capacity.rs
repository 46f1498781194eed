//! Resources that others add to a node's capacity (`example.com/foo`): a kubelet keeps them, and offers them to pods.

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Object, ObjectKey, Status, kind},
    node::parse,
    registry::{Registry, Subresource, WriteOptions, until_written},
};

/// What a node decides itself.
const OWN: [&str; 4] = ["cpu", "memory", "pods", "ephemeral-storage"];

/// Takes over what others added to the capacity of a node's old status, and offers this and nothing else of others.
pub(crate) fn keep_additions(old: &Value, new: &mut Value) {
    for list in ["capacity", "allocatable"] {
        if let Some(resources) = new[list].as_object_mut() {
            resources.retain(|name, _| OWN.contains(&name.as_str()));
        }
        for (name, amount) in additions(old) {
            new[list][name] = amount.clone();
        }
    }
}

/// Makes the nodes of these names offer what others add to their capacity, until cancelled.
pub(crate) async fn follow(registry: Arc<Registry>, nodes: Vec<String>, token: CancellationToken) {
    while !token.is_cancelled() {
        let view = registry.view();
        let mut changes = registry.subscribe(&[&kind::NODE], view.revision());
        loop {
            for name in &nodes {
                let key = ObjectKey::cluster(&kind::NODE, name.as_str());
                let written = until_written(&key, || offer(&registry, &key));
                if let Some(Err(status)) = token.run_until_cancelled(written).await
                    && status.code != 404
                {
                    tracing::warn!(%key, error = %status, "cannot write what a node offers");
                }
            }
            match token.run_until_cancelled(changes.next()).await {
                Some(Ok(_)) => {}
                // Behind, or at the end.
                Some(Err(_)) | None => break,
            }
        }
    }
}

async fn offer(registry: &Registry, key: &ObjectKey) -> Result<(), Status> {
    let offered = |node: &Object| {
        let mut document: Value = parse(node)?;
        let old = document["status"].clone();
        keep_additions(&old, &mut document["status"]);
        Ok(document)
    };
    let node = registry.get(key)?;
    if offered(&node)? == parse::<Value>(&node)? {
        return Ok(());
    }
    registry.modify(key, Subresource::Status, &WriteOptions::default(), offered).await.map(|_| ())
}

fn additions(status: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let capacity = status["capacity"].as_object().into_iter().flatten();
    capacity.filter(|(name, _)| !OWN.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn additions_of_others_are_offered() {
        let old = json!({"capacity": {"cpu": "1", "a.b/c": "2"}, "allocatable": {"a.b/d": "3"}});
        for (mut new, cpu) in
            [(json!({"capacity": {"cpu": "9"}}), json!("9")), (old.clone(), json!("1"))]
        {
            keep_additions(&old, &mut new);
            assert_eq!(new["capacity"], json!({"cpu": cpu, "a.b/c": "2"}));
            assert_eq!(new["allocatable"]["a.b/c"], "2");
            assert_eq!(new["allocatable"].get("a.b/d"), None);
        }
    }
}
