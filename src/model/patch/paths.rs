//! [`Paths`]: a set of field paths, the form in which server-side apply remembers who owns what, and its JSON
//! (`fieldsV1`: `{"f:spec":{"f:ports":{"k:{\"port\":80}":{".":{},"f:port":{}}}}}`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use serde_json::{Map, Value, json};

/// One step of a path. The order is the order in `fieldsV1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A field of an object.
    Field(String),
    /// A list item that has these fields; canonical JSON of an object, sorted by name.
    Key(String),
    /// An item of a list that is a set; canonical JSON.
    Value(String),
    /// An item by its place.
    Index(usize),
}

/// A set of paths. A path may be a member and have members below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Paths {
    members: BTreeSet<Step>,
    below: BTreeMap<Step, Self>,
}

impl Paths {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.below.values().all(Self::is_empty)
    }

    /// Adds one path; the empty path is nothing.
    pub(super) fn insert(&mut self, path: &[Step]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.below.entry(first.clone()).or_default().insert(rest),
        }
    }

    pub(super) fn has(&self, step: &Step) -> bool {
        self.members.contains(step)
    }

    /// What lies below a step, if anything.
    pub(super) fn below(&self, step: &Step) -> Option<&Self> {
        self.below.get(step).filter(|paths| !paths.is_empty())
    }

    pub(super) fn union(mut self, other: &Self) -> Self {
        self.members.extend(other.members.iter().cloned());
        for (step, paths) in &other.below {
            let mine = self.below.remove(step).unwrap_or_default();
            self.below.insert(step.clone(), mine.union(paths));
        }
        self
    }

    /// The paths of `self` that are not in `other`; paths below one that is stay.
    pub(super) fn difference(&self, other: &Self) -> Self {
        let below = self.below.iter().map(|(step, paths)| match other.below.get(step) {
            Some(others) => (step, paths.difference(others)),
            None => (step, paths.clone()),
        });
        Self {
            members: self.members.difference(&other.members).cloned().collect(),
            below: non_empty(below),
        }
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let below = self
            .below
            .iter()
            .filter_map(|(step, paths)| Some((step, paths.intersection(other.below.get(step)?))));
        Self {
            members: self.members.intersection(&other.members).cloned().collect(),
            below: non_empty(below),
        }
    }

    /// The paths that begin with a top-level field for which `keep` holds.
    pub(super) fn filter_fields(mut self, keep: impl Fn(&str) -> bool) -> Self {
        let keep_step = |step: &Step| matches!(step, Step::Field(name) if keep(name));
        self.members.retain(|step| keep_step(step));
        self.below.retain(|step, _| keep_step(step));
        self
    }

    /// The paths without those of one field of the metadata.
    pub(super) fn without_metadata(mut self, field: &str) -> Self {
        let step = Step::Field(field.to_owned());
        if let Some(metadata) = self.below.get_mut(&Step::Field("metadata".to_owned())) {
            metadata.members.remove(&step);
            metadata.below.remove(&step);
        }
        self
    }

    /// Makes a member of every field that has members below it, so that removal can take the field itself.
    pub(super) fn with_parents(&self) -> Self {
        let mut members = self.members.clone();
        members.extend(self.below.keys().filter(|step| matches!(step, Step::Field(_))).cloned());
        let below = self.below.iter().map(|(step, paths)| (step.clone(), paths.with_parents()));
        Self { members, below: below.collect() }
    }

    /// Every path as Kubernetes prints it, `.spec.ports[port=80,protocol="TCP"].name`.
    pub(super) fn to_strings(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.print("", &mut out);
        out
    }

    fn print(&self, prefix: &str, out: &mut Vec<String>) {
        out.extend(self.members.iter().map(|step| format!("{prefix}{}", step.print())));
        for (step, paths) in &self.below {
            paths.print(&format!("{prefix}{}", step.print()), out);
        }
    }

    /// The `fieldsV1` document.
    pub(super) fn to_json(&self) -> Value {
        let mut out = Map::new();
        let steps: BTreeSet<&Step> = self.members.iter().chain(self.below.keys()).collect();
        for step in steps {
            let mut value = self.below(step).map_or_else(|| json!({}), Self::to_json);
            if self.has(step)
                && let Some(fields) = value.as_object_mut()
                && !fields.is_empty()
            {
                fields.shift_insert(0, ".".to_owned(), json!({}));
            }
            out.insert(step.to_json_key(), value);
        }
        Value::Object(out)
    }

    /// The inverse of [`Paths::to_json`]; `None` for what is not `fieldsV1`.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let mut paths = Self::default();
        for (name, value) in value.as_object()? {
            if name == "." {
                continue;
            }
            let step = Step::from_json_key(name)?;
            let fields = value.as_object()?;
            if fields.is_empty() || fields.contains_key(".") {
                paths.members.insert(step.clone());
            }
            let below = Self::from_json(value)?;
            if !below.is_empty() {
                paths.below.insert(step, below);
            }
        }
        Some(paths)
    }
}

fn non_empty<'a>(below: impl Iterator<Item = (&'a Step, Paths)>) -> BTreeMap<Step, Paths> {
    below.filter(|(_, paths)| !paths.is_empty()).map(|(step, p)| (step.clone(), p)).collect()
}

impl Step {
    fn print(&self) -> String {
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Value(value) => format!("[={value}]"),
            Self::Index(index) => format!("[{index}]"),
            Self::Key(key) => {
                let mut out = String::new();
                let fields: BTreeMap<String, Value> = serde_json::from_str(key).unwrap_or_default();
                for (name, value) in fields {
                    let comma = if out.is_empty() { "" } else { "," };
                    let _infallible = write!(out, "{comma}{name}={value}");
                }
                format!("[{out}]")
            }
        }
    }

    fn to_json_key(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(key) => format!("k:{key}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn from_json_key(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        Some(match kind {
            "f" => Self::Field(rest.to_owned()),
            "k" => {
                let fields: BTreeMap<String, Value> = serde_json::from_str(rest).ok()?;
                Self::Key(serde_json::to_string(&fields).ok()?)
            }
            "v" => Self::Value(serde_json::from_str::<Value>(rest).ok()?.to_string()),
            "i" => Self::Index(rest.parse().ok()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(value: &Value) -> Paths {
        Paths::from_json(value).unwrap()
    }

    #[test]
    fn fields_v1_round_trips() {
        let value = json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"a/b\"": {}}},
            "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}});
        assert_eq!(paths(&value).to_json(), value);
        for broken in [json!([]), json!({"x:a": {}}), json!({"f:a": 1}), json!({"k:{": {}})] {
            assert_eq!(Paths::from_json(&broken), None, "{broken}");
        }
    }

    #[test]
    fn set_operations() {
        let a = paths(&json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        let b = paths(&json!({"f:a": {"f:b": {}}, "f:d": {}}));
        assert_eq!(a.difference(&b).to_json(), json!({"f:a": {}, "f:c": {}}));
        assert_eq!(a.intersection(&b).to_json(), json!({"f:a": {"f:b": {}}}));
        assert_eq!(
            a.clone().union(&b).to_json(),
            json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}, "f:d": {}})
        );
        assert!(a.difference(&a).is_empty());
    }

    #[test]
    fn paths_print_as_kubernetes_prints_them() {
        let set =
            paths(&json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {"f:image": {}}}},
            "f:finalizers": {"v:\"x\"": {}}}));
        assert_eq!(set.to_strings(), [".finalizers[=\"x\"]", ".spec.containers[name=\"a\"].image"]);
    }
}
