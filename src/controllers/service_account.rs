//! What every namespace has from its first moment: ServiceAccount `default` and ConfigMap `kube-root-ca.crt`.

use serde_json::{Value, json};

use crate::{
    controllers::{Controller, Plan, Step, Trigger, WORKERS, World, document, itself},
    model::{Object, ObjectKey, kind},
    registry::View,
};

const ACCOUNT: &str = "default";
const CA_MAP: &str = "kube-root-ca.crt";
const CA_KEY: &str = "ca.crt";

pub(crate) static CONTROLLER: Controller = Controller {
    name: "service-account-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::NAMESPACE), keys: itself },
        Trigger { kind: Some(&kind::SERVICE_ACCOUNT), keys: namespace_of },
        Trigger { kind: Some(&kind::CONFIG_MAP), keys: namespace_of },
    ],
    plan,
};

fn namespace_of(_: &View, object: &Object) -> Vec<ObjectKey> {
    let ours = matches!(object.key.name.as_str(), ACCOUNT | CA_MAP);
    let namespace = ObjectKey::cluster(&kind::NAMESPACE, object.key.namespace.as_str());
    ours.then_some(namespace).into_iter().collect()
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    if world.view.get(key).is_none_or(|namespace| namespace.is_terminating()) {
        return Plan::nothing();
    }
    let mut steps = Vec::new();
    if world.view.get(&ObjectKey::new(&kind::SERVICE_ACCOUNT, &*key.name, ACCOUNT)).is_none() {
        let document = json!({"apiVersion": "v1", "kind": "ServiceAccount",
                              "metadata": {"name": ACCOUNT, "namespace": key.name}});
        steps.push(Step::Create(kind::SERVICE_ACCOUNT.clone(), document));
    }
    let data = json!({CA_KEY: world.options.cluster_ca});
    let map = ObjectKey::new(&kind::CONFIG_MAP, &*key.name, CA_MAP);
    match world.view.get(&map) {
        None => {
            let document = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
                                  "metadata": {"name": CA_MAP, "namespace": key.name}});
            steps.push(Step::Create(kind::CONFIG_MAP.clone(), document));
        }
        Some(object) => {
            let mut document: Value = document(object);
            if document["data"] != data {
                document["data"] = data;
                steps.push(Step::Update(map, document));
            }
        }
    }
    Plan::all(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::Cluster;

    #[test]
    fn every_namespace_gets_its_two() {
        let mut cluster = Cluster::of("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.list(&kind::SERVICE_ACCOUNT).len(), 1);
        let key = ObjectKey::new(&kind::CONFIG_MAP, "shop", CA_MAP);
        assert_eq!(cluster.get(&key)["data"][CA_KEY], "PEM");
        cluster.edit(&key, |map| map["data"][CA_KEY] = "forged".into());
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.get(&key)["data"][CA_KEY], "PEM");
    }
}
