//! Secrets of type `kubernetes.io/service-account-token` get a token of the ServiceAccount that they name, the cluster's
//! certificate authority and their namespace; without that account they are deleted.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    controllers::{Controller, Plan, Step, Trigger, WORKERS, World, document, itself},
    model::{
        Object, ObjectKey, kind,
        well_known::{ACCOUNT_NAME_ANNOTATION, ACCOUNT_TOKEN_SECRET},
    },
    registry::View,
};

const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

pub(crate) static CONTROLLER: Controller = Controller {
    name: "serviceaccount-token-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::SECRET), keys: itself },
        Trigger { kind: Some(&kind::SERVICE_ACCOUNT), keys: secrets_of },
    ],
    plan,
};

fn annotation<'a>(secret: &'a Object, name: &str) -> &'a str {
    secret.metadata.annotations.get(name).map(String::as_str).unwrap_or_default()
}

fn secrets_of(view: &View, account: &Object) -> Vec<ObjectKey> {
    view.list(&kind::SECRET, Some(&account.key.namespace))
        .filter(|secret| annotation(secret, ACCOUNT_NAME_ANNOTATION) == account.key.name)
        .map(|secret| secret.key.clone())
        .collect()
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(secret) = world.view.get(key).filter(|secret| !secret.is_terminating()) else {
        return Plan::nothing();
    };
    // Most Secrets are not of this type; their documents are not read for it.
    let name = annotation(secret, ACCOUNT_NAME_ANNOTATION);
    if name.is_empty() {
        return Plan::nothing();
    }
    let mut document = document(secret);
    if document["type"] != ACCOUNT_TOKEN_SECRET {
        return Plan::nothing();
    }
    let account = world.view.get(&ObjectKey::new(&kind::SERVICE_ACCOUNT, &*key.namespace, name));
    let uid = annotation(secret, ACCOUNT_UID);
    let Some(account) = account.filter(|account| uid.is_empty() || uid == account.metadata.uid)
    else {
        return vec![Step::delete(secret)].into();
    };
    let before = document.clone();
    document["metadata"]["annotations"][ACCOUNT_UID] = account.metadata.uid.as_str().into();
    let mut fill = |field: &str, text: &str| {
        document["data"][field] = Value::String(STANDARD.encode(text));
    };
    fill("ca.crt", &world.options.cluster_ca);
    fill("namespace", &key.namespace);
    if before["data"]["token"].as_str().is_none_or(str::is_empty) {
        fill("token", &world.options.secret_token.sign(key, account));
    }
    if document == before {
        return Plan::nothing();
    }
    vec![Step::Update(key.clone(), document)].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::Cluster;

    const ACCOUNT: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web}\n";
    const SECRET: &str = "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\nmetadata:\n  name: token\n  annotations: {kubernetes.io/service-account.name: web}\n";

    fn key() -> ObjectKey {
        ObjectKey::new(&kind::SECRET, "default", "token")
    }

    fn data(secret: &Value, field: &str) -> String {
        let bytes = STANDARD.decode(secret["data"][field].as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn secrets_are_filled_once() {
        let mut cluster = Cluster::of(&format!("{ACCOUNT}---\n{SECRET}"));
        cluster.settle(&[&CONTROLLER], |_| {});
        let secret = cluster.get(&key());
        let uid = cluster.uid(&ObjectKey::new(&kind::SERVICE_ACCOUNT, "default", "web"));
        assert_eq!(data(&secret, "token"), format!("token of web {uid}"));
        assert_eq!(data(&secret, "ca.crt"), "PEM");
        assert_eq!(data(&secret, "namespace"), "default");
        assert_eq!(secret["metadata"]["annotations"][ACCOUNT_UID], uid);
        assert_eq!(cluster.plan(&CONTROLLER, &key()), Plan::nothing());
        cluster.edit(&key(), |secret| secret["data"]["ca.crt"] = "".into());
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(data(&cluster.get(&key()), "ca.crt"), "PEM");
    }

    #[test]
    fn secrets_go_with_their_account() {
        let mut cluster = Cluster::of(SECRET);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.get(&key()), Value::Null, "there is no such account");
        let other =
            SECRET.replace("name: web}", "name: web, kubernetes.io/service-account.uid: old}");
        let mut cluster = Cluster::of(&format!("{ACCOUNT}---\n{other}"));
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.get(&key()), Value::Null, "the account is another one of that name");
        let other = SECRET.replace("kubernetes.io/service-account-token", "Opaque");
        let mut cluster = Cluster::of(&other);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.get(&key())["type"], "Opaque", "others are left alone");
    }
}
