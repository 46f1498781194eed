//! Who owns the replica count of a workload. The `scale` subresource shows the count as a [`SCALE`], so field management of
//! that subresource works on entries about the Scale. Before a write, [`to_scale`] translates the entries of the workload;
//! after it, [`to_workload`] translates them back. The rules are those of `ScaleHandler` in apimachinery.

use std::{borrow::Cow::Borrowed, collections::BTreeMap};

use serde_json::Value;

use crate::model::{
    Kind,
    kind::Identity,
    patch::{
        managers::{Entry, decode, encode},
        paths::{Paths, Step},
    },
};

/// Where a Scale and all built-in workloads have the replica count.
const REPLICAS: &[&str] = &["spec", "replicas"];

/// The kind of the `scale` subresource. It is not a stored kind.
pub static SCALE: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("autoscaling"),
    version: Borrowed("v1"),
    kind: Borrowed("Scale"),
    plural: Borrowed("scales"),
    singular: Borrowed("scale"),
    list_kind: Borrowed(""),
    short_names: Borrowed(&[]),
    categories: Borrowed(&[]),
    namespaced: true,
    has_status: false,
    has_scale: false,
    has_generation: false,
    kept_by_status: None,
    stored_as: None,
});

/// Where a kind has the replica count.
#[derive(Debug)]
pub struct Count {
    own: Paths,
    by_version: BTreeMap<String, Paths>,
}

impl Count {
    /// In these fields, one in the other.
    pub fn at(names: &[&str]) -> Self {
        Self { own: path(names), by_version: BTreeMap::new() }
    }

    /// Where built-in kinds have it.
    pub fn of_workload() -> Self {
        Self::at(REPLICAS)
    }

    /// The same, for a version of the kind that has it elsewhere.
    #[must_use]
    pub fn with_version(mut self, api_version: String, names: &[&str]) -> Self {
        self.by_version.insert(api_version, path(names));
        self
    }

    /// In the version of the entry.
    fn of(&self, entry: &Entry) -> &Paths {
        self.by_version.get(&entry.api_version).unwrap_or(&self.own)
    }

    fn is_owned(&self, entry: &Entry) -> bool {
        !entry.paths.intersection(self.of(entry)).is_empty()
    }
}

/// Puts `managedFields` into a scale: one entry for each manager that owns the replica count of the workload.
pub fn to_scale(kind: &Kind, count: &Count, workload: &Value, scale: &mut Value) {
    let owners = decode(kind, workload).into_iter().filter(|entry| count.is_owned(entry));
    let entries = owners.map(|entry| Entry {
        api_version: SCALE.api_version(),
        paths: path(REPLICAS),
        ..entry
    });
    encode(scale, entries.collect());
}

/// Puts `managedFields` into a workload whose scale was written. A manager that owns the replica count of the workload but
/// not that of the scale loses it. A new owner gets an entry without a time, as with kube-apiserver.
///
/// kube-apiserver compares entries of updates with their versions, `apps/v1` and `autoscaling/v1`, and so finds none again:
/// it writes two entries for one manager, and loses one of them at the next read. Here the manager keeps its entry.
pub fn to_workload(kind: &Kind, count: &Count, workload: &mut Value, scale: &Value) {
    let of_scale = Count::of_workload();
    let mut new_owners = decode(&SCALE, scale);
    new_owners.retain(|entry| of_scale.is_owned(entry));
    let mut entries = decode(kind, workload);
    for entry in entries.iter_mut().filter(|entry| count.is_owned(entry)) {
        match new_owners.iter().position(|owner| is_same_manager(owner, entry)) {
            Some(kept) => drop(new_owners.swap_remove(kept)),
            None => entry.paths = entry.paths.difference(count.of(entry)),
        }
    }
    entries.extend(new_owners.into_iter().map(|owner| Entry {
        api_version: kind.api_version(),
        paths: count.own.clone(),
        time: None,
        ..owner
    }));
    encode(workload, entries);
}

fn path(names: &[&str]) -> Paths {
    let steps: Vec<Step> = names.iter().map(|name| Step::Field((*name).to_owned())).collect();
    let mut paths = Paths::default();
    paths.insert(&steps);
    paths
}

fn is_same_manager(a: &Entry, b: &Entry) -> bool {
    (&a.manager, a.applied, &a.subresource) == (&b.manager, b.applied, &b.subresource)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::kind;

    const SOME_TIME: &str = "2026-01-01T00:00:00Z";

    /// The `managedFields` of a text with a line for each entry: manager, operation, fields, and subresource and time if it
    /// has them.
    fn document(api_version: &str, lines: &str) -> Value {
        let entry = |line: &str| {
            let mut words = line.split_whitespace();
            let mut word = || words.next().unwrap_or_default().to_owned();
            let (manager, operation, names) = (word(), word(), word());
            let mut entry = json!({"manager": manager, "operation": operation, "apiVersion": api_version,
                "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}});
            for name in names.split(',') {
                entry["fieldsV1"]["f:spec"][format!("f:{name}")] = json!({});
            }
            for word in words {
                let is_time = word == "timed";
                let (field, value) =
                    if is_time { ("time", SOME_TIME) } else { ("subresource", word) };
                entry[field] = value.into();
            }
            entry
        };
        let lines: Vec<&str> = lines.split(';').map(str::trim).filter(|l| !l.is_empty()).collect();
        if lines.is_empty() {
            return json!({"metadata": {"name": "web"}});
        }
        let entries: Vec<Value> = lines.into_iter().map(entry).collect();
        json!({"metadata": {"name": "web", "managedFields": entries}})
    }

    #[test]
    fn a_scale_has_the_owners_of_the_replica_count() {
        for (workload, scale) in [
            ("", ""),
            ("a Apply template", ""),
            ("a Apply template; b Apply replicas timed", "b Apply replicas timed"),
            ("a Update replicas,template timed", "a Update replicas timed"),
            (
                "a Apply replicas; b Apply replicas; c Apply replicas scale",
                "a Apply replicas; b Apply replicas; c Apply replicas scale",
            ),
        ] {
            let mut found = document("", "");
            to_scale(
                &kind::DEPLOYMENT,
                &Count::of_workload(),
                &document("apps/v1", workload),
                &mut found,
            );
            assert_eq!(found, document("autoscaling/v1", scale), "{workload}");
        }
        let mut unknown_group = document("", "");
        to_scale(
            &kind::DEPLOYMENT,
            &Count::of_workload(),
            &document("batch/v1", "a Apply replicas"),
            &mut unknown_group,
        );
        assert_eq!(unknown_group, document("", ""));
    }

    #[test]
    fn a_workload_has_the_owners_of_its_scale() {
        for (workload, scale, expected) in [
            // Another manager scales, by any combination of operations.
            (
                "test Apply replicas,selector timed",
                "scaler Update replicas scale timed",
                "test Apply selector timed; scaler Update replicas scale",
            ),
            (
                "test Apply replicas,selector timed",
                "scaler Apply replicas scale timed",
                "scaler Apply replicas scale; test Apply selector timed",
            ),
            (
                "test Update replicas,selector timed",
                "scaler Update replicas scale",
                "scaler Update replicas scale; test Update selector timed",
            ),
            (
                "test Update replicas,selector timed",
                "scaler Apply replicas scale",
                "scaler Apply replicas scale; test Update selector timed",
            ),
            // The same manager scales: its entries differ by operation and subresource.
            (
                "test Apply replicas,selector",
                "test Apply replicas scale",
                "test Apply selector; test Apply replicas scale",
            ),
            (
                "test Update replicas,selector",
                "test Update replicas scale",
                "test Update selector; test Update replicas scale",
            ),
            (
                "test Apply replicas,selector",
                "test Update replicas scale",
                "test Apply selector; test Update replicas scale",
            ),
            // Nobody, or not this manager, owns the count any more.
            ("test Apply selector", "scaler Update selector scale", "test Apply selector"),
            ("test Update replicas,selector", "", "test Update selector"),
            ("test Apply replicas", "scaler Update replicas scale", "scaler Update replicas scale"),
            // Several own it.
            (
                "test Apply replicas,selector timed",
                "test Apply replicas timed; test Apply replicas scale",
                "test Apply replicas scale; test Apply replicas,selector timed",
            ),
            (
                "test Update replicas,selector timed",
                "test Update replicas timed; scaler Apply replicas scale",
                "scaler Apply replicas scale; test Update replicas,selector timed",
            ),
        ] {
            let mut found = document("apps/v1", workload);
            to_workload(
                &kind::DEPLOYMENT,
                &Count::of_workload(),
                &mut found,
                &document("autoscaling/v1", scale),
            );
            assert_eq!(found, document("apps/v1", expected), "{workload} | {scale}");
        }
    }
}
