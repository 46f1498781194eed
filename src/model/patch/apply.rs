//! Server-side apply: a client states the fields that it wants, the server remembers whose they are, merges them
//! and removes those that the client no longer states (`applied`: whose they are then). The rules are those of Kubernetes' field management.

use serde_json::{Value, json};

use crate::model::{
    Kind, Status, go_json,
    patch::{
        applied::Applied,
        managers::{self, Entry, FieldManager},
        ownership::{Ownership, Wanted},
        paths::Paths,
        place::{Place, Resource},
        walk::{self, Problem},
    },
    well_known::LAST_APPLIED_ANNOTATION,
};

const KUBECTL: &str = "kubectl";
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Applies a configuration to the live object, or makes the first version of one. The result has no `managedFields`
/// yet.
///
/// # Errors
/// 400 for a configuration of another version or with `managedFields`, 500 for keyed lists with duplicate or missing
/// keys and for fields that a custom kind does not have, as kube-apiserver. Conflicts show when the ownership is settled.
pub fn apply<'a>(
    resource: Resource<'_>,
    live: Option<&Value>,
    config: &Value,
    manager: &FieldManager<'_>,
    force: bool,
) -> Result<Wanted<'a>, Status> {
    let sent = config;
    let Resource { kind, root: place } = resource;
    let config = checked(resource, config)?;
    let mut others = live.map_or_else(Vec::new, |live| managers::decode(kind, live));
    let base = live.map_or_else(|| json!({}), managers::without_managers);
    if let (true, Some(_)) = (others.is_empty(), live) {
        let first = FieldManager { name: BEFORE_FIRST_APPLY, ..*manager };
        let change =
            managers::difference(resource, manager.subresource, &managers::skeleton(kind), &base);
        others = managers::moved(kind, Vec::new(), change, &first);
    }

    let mut own = Entry::new(kind, manager, true);
    let last = others.iter().position(|e| e.is_same(&own)).map(|at| others.swap_remove(at));
    let wanted = managers::in_reach(kind, manager.subresource, walk::field_set(&config, place));

    let merged = walk::merge(Some(&base), Some(&config), place).unwrap_or_else(|| json!({}));
    let mut merged = match &last {
        Some(last) => pruned(&merged, &last.paths, &wanted, &others, place),
        None => merged,
    };
    let change = managers::difference(resource, manager.subresource, &base, &merged);
    own.paths = managers::without_system(&wanted);
    if let Some(last) = last
        && merged == base
    {
        own.time = last.time;
    }
    let mut free = None;
    // A scale has no annotations.
    if manager.name == KUBECTL && manager.subresource != "scale" {
        free = last_applied(kind, &base, place);
        renew_last_applied(&mut merged, sent);
    }
    let subresource = manager.subresource.to_owned();
    let applied = Applied { subresource, force, base, change, others, own, free };
    Ok(Wanted { ownership: Ownership::Applied(Box::new(applied)), ..merged.into() })
}

/// The configuration, if it is one for this kind, without what belongs to the server or is never stored.
fn checked(resource: Resource<'_>, config: &Value) -> Result<Value, Status> {
    let kind = resource.kind;
    let text = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
    if !config.is_object() {
        return Err(Status::bad_request(
            "error decoding patch: the configuration is not an object",
        ));
    }
    let expected = kind.api_version();
    if (text("apiVersion"), text("kind")) != (&*expected, &*kind.kind) {
        let (group, version) =
            text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        let sent = format!("{group}/{version}, Kind={}", text("kind"));
        return Err(Status::bad_request(format!("invalid object type: {sent}")));
    }
    let mut config = config.clone();
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
        if metadata.get("managedFields").is_some_and(|fields| !fields.is_null()) {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        // Manifests made from Go structs carry `creationTimestamp: null`.
        metadata.retain(|_, value| !value.is_null());
    }
    let problems = walk::check(&config, resource.root);
    if !problems.is_empty() {
        return Err(untyped(kind, &config, &problems));
    }
    resource.prune(&mut config);
    Ok(config)
}

/// 500 for a configuration that has not the types of its kind.
fn untyped(kind: &Kind, config: &Value, problems: &[Problem]) -> Status {
    let told: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.path, problem.detail)).collect();
    let told = match told.as_slice() {
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    Status::internal(format!(
        "failed to create typed patch object ({}/{}; {}, Kind={}): {told}",
        config.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default(),
        config.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default(),
        kind.api_version(),
        kind.kind,
    ))
}

/// Removes what the manager applied last time, does not apply now, and nobody else owns.
fn pruned(
    merged: &Value,
    last: &Paths,
    wanted: &Paths,
    others: &[Entry],
    place: Place<'_>,
) -> Value {
    let without = |paths: &Paths| {
        walk::remove(merged, paths, place).unwrap_or_else(|| Value::Object(<_>::default()))
    };
    let fields = |value: &Value| walk::field_set(value, place).with_parents();
    let all = fields(merged);
    let last = last.with_parents();
    let owned = others.iter().fold(wanted.clone(), |all, entry| all.union(&entry.paths));
    let kept = fields(&without(&last)).union(&owned.with_parents());
    let owned_or_foreign = fields(&without(&all.difference(&kept)));
    without(&all.difference(&owned_or_foreign).intersection(&last))
}

/// The fields that kubectl's client-side apply set and that still have its values: its server-side apply may take
/// them over.
fn last_applied(kind: &Kind, live: &Value, place: Place<'_>) -> Option<Paths> {
    let text = annotation(live)?.as_str()?;
    let config: Value = serde_json::from_str(text).ok()?;
    if config.get("apiVersion")?.as_str()? != kind.api_version() {
        return None;
    }
    let change = walk::compare(&config, live, place);
    Some(
        walk::field_set(&config, place)
            .difference(&change.modified)
            .difference(&change.added)
            .difference(&change.removed),
    )
}

fn annotation(document: &Value) -> Option<&Value> {
    document.get("metadata")?.get("annotations")?.get(LAST_APPLIED_ANNOTATION)
}

/// Keeps kubectl's own memory in step, so that one may go back to client-side apply.
fn renew_last_applied(merged: &mut Value, config: &Value) {
    if annotation(merged).and_then(Value::as_str).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) =
        config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
    {
        annotations.shift_remove(LAST_APPLIED_ANNOTATION);
    }
    config.sort_all_objects();
    // With the end of line that Go's encoder writes.
    let text = format!("{}\n", String::from_utf8_lossy(&go_json::to_bytes(&config)));
    merged["metadata"]["annotations"][LAST_APPLIED_ANNOTATION] = text.into();
}
