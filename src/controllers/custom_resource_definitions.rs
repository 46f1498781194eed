//! CustomResourceDefinitions: which names a definition gets, when its kinds are served, and the deletion of its objects
//! with it. The rules are those of apiextensions-apiserver's naming, establishing and finalizing controllers.

use std::collections::BTreeSet;

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, CustomResourceDefinitionCondition as Condition,
        CustomResourceDefinitionNames as Names, CustomResourceDefinitionStatus as Status,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::Value;

use crate::{
    controllers::{Controller, Plan, Step, Trigger, World, document, to_value},
    model::{Object, ObjectKey, kind, well_known::DEFINITION_CLEANUP},
    registry::View,
};

const ACCEPTED: &str = "NamesAccepted";
const ESTABLISHED: &str = "Established";
const TERMINATING: &str = "Terminating";

/// One worker: which of two definitions gets a name must not depend on a race.
pub(crate) static CONTROLLER: Controller = Controller {
    name: "crd-controller",
    workers: 1,
    triggers: &[Trigger { kind: None, keys: concerned }],
    plan,
};

/// All definitions of the group, because a name may be free now; and the definition of a custom resource, if it is ending.
fn concerned(view: &View, object: &Object) -> Vec<ObjectKey> {
    if object.key.kind == kind::CUSTOM_RESOURCE_DEFINITION {
        let group = group_of(&object.key.name);
        let all = view.list(&kind::CUSTOM_RESOURCE_DEFINITION, None).map(|other| &other.key);
        let same_group = all.filter(|key| group_of(&key.name) == group);
        return same_group.chain([&object.key]).cloned().collect();
    }
    if !object.key.kind.is_custom() {
        return Vec::new();
    }
    let name = format!("{}.{}", object.key.kind.plural, object.key.kind.group);
    let key = ObjectKey::cluster(&kind::CUSTOM_RESOURCE_DEFINITION, name);
    let ending = view.get(&key).is_some_and(|definition| definition.is_terminating());
    ending.then_some(key).into_iter().collect()
}

/// A definition's name is `PLURAL.GROUP`.
fn group_of(name: &str) -> &str {
    name.split_once('.').map_or("", |(_, group)| group)
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key) else { return Plan::nothing() };
    let Ok(definition) = object.parse::<CustomResourceDefinition>() else { return Plan::nothing() };
    if object.is_terminating() && object.has_finalizer(DEFINITION_CLEANUP) {
        return clean_up(world, object, definition);
    }
    let mut status = definition.status.clone().unwrap_or_default();
    name(world, &definition, &mut status);
    establish(world, &mut status);
    Step::status(object, &status).into_iter().collect::<Vec<_>>().into()
}

/// Accepts the names that no other definition of the group has.
fn name(world: &World<'_>, definition: &CustomResourceDefinition, status: &mut Status) {
    let taken = Taken::by_others(world.view, definition);
    let wanted = definition.spec.names.clone();
    let accepted = status.accepted_names.get_or_insert_default();
    let mut conflict = None;
    let mut refuse = |reason: &'static str, message: String| conflict = Some((reason, message));
    accept(&wanted.plural, &mut accepted.plural, &taken.resources)
        .unwrap_or_else(|why| refuse("PluralConflict", why));
    let singular = wanted.singular.clone().unwrap_or_default();
    let given = accepted.singular.get_or_insert_default();
    accept(&singular, given, &taken.resources)
        .unwrap_or_else(|why| refuse("SingularConflict", why));
    let short = wanted.short_names.iter().flatten();
    let used: Vec<String> =
        short.filter(|name| taken.resources.contains(*name)).map(|name| in_use(name)).collect();
    match used.as_slice() {
        [] => accepted.short_names = wanted.short_names.clone(),
        [one] => refuse("ShortNamesConflict", one.clone()),
        several => refuse("ShortNamesConflict", format!("[{}]", several.join(", "))),
    }
    accept(&wanted.kind, &mut accepted.kind, &taken.kinds)
        .unwrap_or_else(|why| refuse("KindConflict", why));
    let list_kind = wanted.list_kind.clone().unwrap_or_default();
    let given = accepted.list_kind.get_or_insert_default();
    accept(&list_kind, given, &taken.kinds).unwrap_or_else(|why| refuse("ListKindConflict", why));
    accepted.categories = wanted.categories;
    let (value, reason, message) = match conflict {
        Some((reason, message)) => ("False", reason, message),
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
    };
    set(world, status, ACCEPTED, value, reason, &message);
}

/// Takes over a wanted name, if it is free.
fn accept(wanted: &str, accepted: &mut String, taken: &BTreeSet<String>) -> Result<(), String> {
    if wanted != accepted && taken.contains(wanted) {
        return Err(in_use(wanted));
    }
    wanted.clone_into(accepted);
    Ok(())
}

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

/// The kinds are served as soon as their names are accepted, and from then on.
fn establish(world: &World<'_>, status: &mut Status) {
    let holds = |kind: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.any(|condition| condition.type_ == kind && condition.status == "True")
    };
    if holds(ESTABLISHED) {
        return;
    }
    let (value, reason, message) = match holds(ACCEPTED) {
        true => ("True", "InitialNamesAccepted", "the initial names have been accepted"),
        false => ("False", "NotAccepted", "not all names are accepted"),
    };
    set(world, status, ESTABLISHED, value, reason, message);
}

/// The names of other definitions in the group.
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    fn by_others(view: &View, definition: &CustomResourceDefinition) -> Self {
        let own = definition.metadata.name.as_deref().unwrap_or_default();
        let mut taken = Self { resources: BTreeSet::new(), kinds: BTreeSet::new() };
        let others = view.list(&kind::CUSTOM_RESOURCE_DEFINITION, None);
        let others = others.filter(|other| {
            other.key.name != own && group_of(&other.key.name) == definition.spec.group
        });
        for other in others {
            let Some(names) = accepted_names(other) else { continue };
            let Names { plural, singular, short_names, kind, list_kind, .. } = names;
            taken.resources.insert(plural);
            taken.resources.extend(singular);
            taken.resources.extend(short_names.into_iter().flatten());
            taken.kinds.insert(kind);
            taken.kinds.extend(list_kind);
        }
        taken
    }
}

fn accepted_names(definition: &Object) -> Option<Names> {
    let mut document: Value = definition.parse().ok()?;
    serde_json::from_value(document["status"]["acceptedNames"].take()).ok()
}

fn set(
    world: &World<'_>,
    status: &mut Status,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
) {
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter().position(|condition| condition.type_ == kind);
    let since = old.filter(|at| conditions[*at].status == value);
    let since = since.and_then(|at| conditions[at].last_transition_time.clone());
    let condition = Condition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: since.or(Some(Time(world.now))),
        ..Condition::default()
    };
    match old {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// Deletes the objects of an ending definition; once they are gone, its finalizer.
fn clean_up(world: &World<'_>, object: &Object, definition: CustomResourceDefinition) -> Plan {
    let mut status = definition.status.unwrap_or_default();
    let spec = &definition.spec;
    let served = world.view.kinds().by_resource(&spec.group, &spec.names.plural);
    let overlaps = served.is_some_and(|kind| !kind.is_custom());
    let objects = served.filter(|kind| kind.is_custom()).into_iter();
    let objects: Vec<_> = objects.flat_map(|kind| world.view.list(kind, None)).collect();
    if !objects.is_empty() {
        let message = "CustomResource deletion is in progress";
        set(world, &mut status, TERMINATING, "True", "InstanceDeletionInProgress", message);
        let deletable = objects.iter().filter(|object| !object.is_terminating());
        let mut steps: Vec<Step> = Step::status(object, &status).into_iter().collect();
        steps.extend(Plan::all(deletable.map(|object| Step::delete(object)).collect()).steps);
        return steps.into();
    }
    let mut document = document(object);
    let (reason, message) = match served {
        _ if overlaps => {
            ("OverlappingBuiltInResource", "instances overlap with built-in resources in storage")
        }
        Some(_) => ("InstanceDeletionCompleted", "removed all instances"),
        None => ("NeverEstablished", "resource was never established"),
    };
    set(world, &mut status, TERMINATING, "False", reason, message);
    document["status"] = to_value(&status);
    if let Some(finalizers) = document["metadata"]["finalizers"].as_array_mut() {
        finalizers.retain(|finalizer| finalizer != DEFINITION_CLEANUP);
    }
    vec![Step::UpdateStatus(object.key.clone(), document)].into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::testing::Cluster;

    fn definition(plural: &str, kind: &str, short: &str) -> Value {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"plural": plural, "kind": kind, "shortNames": [short]},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
    }

    fn conditions(cluster: &Cluster, name: &str) -> Vec<String> {
        let key = ObjectKey::cluster(&kind::CUSTOM_RESOURCE_DEFINITION, name);
        let document = cluster.get(&key);
        let conditions = document["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let line = |c: &Value| {
            format!(
                "{} {} {}: {}",
                text(&c["type"]),
                text(&c["status"]),
                text(&c["reason"]),
                text(&c["message"])
            )
        };
        conditions.iter().map(line).collect()
    }

    #[test]
    fn names_are_accepted_once() {
        let mut cluster = Cluster::default();
        cluster.insert(&definition("lamps", "Lamp", "la"));
        cluster.settle(&[&CONTROLLER], |_| {});
        cluster.insert(&definition("ovens", "Lamp", "la"));
        cluster.settle(&[&CONTROLLER], |_| {});
        let good = [
            "NamesAccepted True NoConflicts: no conflicts found",
            "Established True InitialNamesAccepted: the initial names have been accepted",
        ];
        assert_eq!(conditions(&cluster, "lamps.example.com"), good);
        assert_eq!(
            conditions(&cluster, "ovens.example.com"),
            [
                "NamesAccepted False ListKindConflict: \"LampList\" is already in use",
                "Established False NotAccepted: not all names are accepted"
            ]
        );
    }
}
