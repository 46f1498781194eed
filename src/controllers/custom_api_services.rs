//! An APIService for each group version that CustomResourceDefinitions bring, as kube-apiserver's registration of them:
//! it comes and goes with the version.

use serde_json::{Value, json};

use crate::{
    controllers::{Controller, Plan, Step, Trigger, World},
    model::{
        Object, ObjectKey,
        kind::{self, extension::API_SERVICE},
        well_known::{AUTOMANAGED_LABEL, CUSTOM_GROUP_PRIORITY, CUSTOM_VERSION_PRIORITY},
    },
    registry::View,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "crd-registration-controller",
    workers: 1,
    triggers: &[
        Trigger { kind: Some(&kind::CUSTOM_RESOURCE_DEFINITION), keys: group_versions },
        Trigger { kind: Some(&API_SERVICE), keys: managed },
    ],
    plan,
};

/// Those of the definition, and those of its group that may be left from before.
fn group_versions(view: &View, definition: &Object) -> Vec<ObjectKey> {
    let Ok(document) = definition.parse::<Value>() else { return Vec::new() };
    let spec = &document["spec"];
    let group = spec["group"].as_str().unwrap_or_default();
    let versions = spec["versions"].as_array().into_iter().flatten();
    let names =
        versions.filter_map(|version| Some(format!("{}.{group}", version["name"].as_str()?)));
    let present = view.list(&API_SERVICE, None).filter(|service| is_managed(service));
    let present = present.filter(|service| group_version(&service.key).0 == group);
    let mut keys: Vec<_> = names.map(|name| ObjectKey::cluster(&API_SERVICE, name)).collect();
    keys.extend(present.map(|service| service.key.clone()));
    keys
}

fn managed(_: &View, service: &Object) -> Vec<ObjectKey> {
    is_managed(service).then(|| service.key.clone()).into_iter().collect()
}

fn is_managed(service: &Object) -> bool {
    service.metadata.labels.get(AUTOMANAGED_LABEL).is_some_and(|value| value == "true")
}

/// The name of an APIService is `VERSION.GROUP`.
fn group_version(key: &ObjectKey) -> (&str, &str) {
    key.name.split_once('.').map_or(("", ""), |(version, group)| (group, version))
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let (group, version) = group_version(key);
    let is_served = world.view.kinds().served_in(group).any(|kind| kind.version == version);
    match (world.view.get(key), is_served) {
        (Some(service), false) if is_managed(service) => vec![Step::delete(service)].into(),
        (None, true) => {
            let spec = json!({"group": group, "version": version,
                "groupPriorityMinimum": CUSTOM_GROUP_PRIORITY, "versionPriority": CUSTOM_VERSION_PRIORITY});
            let metadata = json!({"name": key.name, "labels": {AUTOMANAGED_LABEL: "true"}});
            let document = json!({"metadata": metadata, "spec": spec});
            vec![Step::Create(API_SERVICE.clone(), document)].into()
        }
        _ => Plan::nothing(),
    }
}
