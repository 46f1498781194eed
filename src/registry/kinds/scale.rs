//! [`ScalePaths`]: where the scale of a custom resource has its parts, how they are read, written and validated. Texts are
//! those of `unstructured.NestedInt64` and its like in apimachinery.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    model::Cause,
    schema::go_text::{plain, type_name},
};

/// Paths in a custom resource, like `.spec.replicas`. The first point may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ScalePaths {
    pub(crate) spec_replicas_path: String,
    pub(crate) status_replicas_path: String,
    pub(crate) label_selector_path: Option<String>,
}

impl ScalePaths {
    /// The replica count that is wanted.
    ///
    /// # Errors
    /// Why there cannot be one.
    pub(crate) fn replicas(&self, document: &Value) -> Result<Option<i64>, String> {
        integer(document, &self.spec_replicas_path)
    }

    /// The replica count that is there.
    ///
    /// # Errors
    /// Why there cannot be one.
    pub(crate) fn status_replicas(&self, document: &Value) -> Result<Option<i64>, String> {
        integer(document, &self.status_replicas_path)
    }

    /// The selector of the replicas, as text. Kinds need not have one.
    ///
    /// # Errors
    /// Why there cannot be one.
    pub(crate) fn selector(&self, document: &Value) -> Result<Option<String>, String> {
        match self.label_selector_path.as_deref() {
            None | Some("") => Ok(None),
            Some(path) => text(document, path),
        }
    }

    /// Sets the replica count that is wanted.
    ///
    /// # Errors
    /// Something that is no object stands in the way.
    pub(crate) fn set_replicas(&self, document: &mut Value, replicas: i64) -> Result<(), String> {
        let path = &self.spec_replicas_path;
        let mut at = document;
        for (depth, name) in names(path).enumerate() {
            if depth > 0 && at.is_null() {
                *at = Value::Object(Map::new());
            }
            let Value::Object(fields) = at else {
                let way = printed(path, depth);
                return Err(format!(
                    "value cannot be set because {way} is not a map[string]interface{{}}"
                ));
            };
            at = fields.entry(name).or_insert(Value::Null);
        }
        *at = replicas.into();
        Ok(())
    }

    /// What is wrong with the wanted count.
    pub(crate) fn validate_spec(&self, document: &Value) -> Vec<Cause> {
        count_fault(&self.spec_replicas_path, self.replicas(document)).into_iter().collect()
    }

    /// What is wrong with the count that is there, and the selector.
    pub(crate) fn validate_status(&self, document: &Value) -> Vec<Cause> {
        let count = count_fault(&self.status_replicas_path, self.status_replicas(document));
        let selector = self.selector(document).err().map(|fault| {
            Cause::invalid(self.label_selector_path.clone().unwrap_or_default(), "", &fault)
        });
        count.into_iter().chain(selector).collect()
    }
}

/// The names of the fields on a path.
pub(crate) fn names(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('.').unwrap_or(path).split('.')
}

fn count_fault(path: &str, count: Result<Option<i64>, String>) -> Option<Cause> {
    let (count, fault) = match count {
        Err(fault) => (0, fault),
        Ok(None) => return None,
        Ok(Some(count @ ..0)) => (count, "should be a non-negative integer".to_owned()),
        Ok(Some(count)) if i32::try_from(count).is_err() => {
            (count, format!("should be less than or equal to {}", i32::MAX))
        }
        Ok(Some(_)) => return None,
    };
    Some(Cause::invalid(path, count, &fault))
}

fn integer(document: &Value, path: &str) -> Result<Option<i64>, String> {
    let Some(value) = value_at(document, path)? else { return Ok(None) };
    value.as_i64().map(Some).ok_or_else(|| mistyped(path, usize::MAX, value, "int64"))
}

fn text(document: &Value, path: &str) -> Result<Option<String>, String> {
    let Some(value) = value_at(document, path)? else { return Ok(None) };
    let text = value.as_str().map(|text| Some(text.to_owned()));
    text.ok_or_else(|| mistyped(path, usize::MAX, value, "string"))
}

fn value_at<'a>(document: &'a Value, path: &str) -> Result<Option<&'a Value>, String> {
    let mut at = document;
    for (depth, name) in names(path).enumerate() {
        let found = match at {
            Value::Null => None,
            Value::Object(fields) => fields.get(name),
            other => {
                return Err(mistyped(
                    path,
                    depth.saturating_add(1),
                    other,
                    "map[string]interface{}",
                ));
            }
        };
        let Some(found) = found else { return Ok(None) };
        at = found;
    }
    Ok(Some(at))
}

fn mistyped(path: &str, depth: usize, value: &Value, expected: &str) -> String {
    let (value, found) = (plain(value), type_name(value));
    let path = printed(path, depth);
    format!("{path} accessor error: {value} is of the type {found}, expected {expected}")
}

/// The first names of a path.
fn printed(path: &str, depth: usize) -> String {
    names(path).take(depth).map(|name| format!(".{name}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths() -> ScalePaths {
        ScalePaths {
            spec_replicas_path: ".spec.size.count".to_owned(),
            status_replicas_path: "status.replicas".to_owned(),
            label_selector_path: Some(".status.selector".to_owned()),
        }
    }

    #[test]
    fn parts_are_found_or_not() {
        for (document, expected) in [
            (json!({"spec": {"size": {"count": 3}}}), Ok(Some(3))),
            (json!({}), Ok(None)),
            (json!({"spec": {"size": null}}), Ok(None)),
            (
                json!({"spec": {"size": {"count": null}}}),
                Err(".spec.size.count accessor error: <nil> is of the type <nil>, expected int64"),
            ),
            (
                json!({"spec": {"size": {"count": "3"}}}),
                Err(".spec.size.count accessor error: 3 is of the type string, expected int64"),
            ),
            (
                json!({"spec": {"size": {"count": 1.5}}}),
                Err(".spec.size.count accessor error: 1.5 is of the type float64, expected int64"),
            ),
            (
                json!({"spec": {"size": {"count": {"b": [true, null], "a": "x"}}}}),
                Err(
                    ".spec.size.count accessor error: map[a:x b:[true <nil>]] is of the type map[string]interface {}, \
                    expected int64",
                ),
            ),
            (
                json!({"spec": {"size": [1]}}),
                Err(
                    ".spec.size.count accessor error: [1] is of the type []interface {}, expected map[string]interface{}",
                ),
            ),
        ] {
            let found = paths().replicas(&document);
            assert_eq!(found, expected.map_err(str::to_owned), "{document}");
        }
        let document = json!({"status": {"replicas": 2, "selector": "app=web"}});
        assert_eq!(paths().status_replicas(&document), Ok(Some(2)));
        assert_eq!(paths().selector(&document), Ok(Some("app=web".to_owned())));
        assert_eq!(ScalePaths::default().selector(&document), Ok(None));
    }

    #[test]
    fn the_count_is_set() {
        for (mut document, expected) in [
            (json!({}), Ok(json!({"spec": {"size": {"count": 5}}}))),
            (json!({"spec": {"a": 1}}), Ok(json!({"spec": {"a": 1, "size": {"count": 5}}}))),
            (
                json!({"spec": {"size": "x"}}),
                Err("value cannot be set because .spec.size is not a map[string]interface{}"),
            ),
        ] {
            let done = paths().set_replicas(&mut document, 5).map(|()| document);
            assert_eq!(done, expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn counts_have_bounds() {
        let told = |count: Value| {
            let document = json!({"spec": {"size": {"count": count}},
                "status": {"replicas": count, "selector": 1}});
            let mut causes = paths().validate_spec(&document);
            causes.extend(paths().validate_status(&document));
            causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect::<Vec<_>>()
        };
        let selector = ".status.selector: Invalid value: \"\": .status.selector accessor error: 1 is of the type int64, \
            expected string";
        assert_eq!(told(0.into()), [selector]);
        assert_eq!(
            told((-1).into()),
            [
                ".spec.size.count: Invalid value: -1: should be a non-negative integer",
                "status.replicas: Invalid value: -1: should be a non-negative integer",
                selector,
            ]
        );
        assert_eq!(
            told(2_147_483_648_i64.into())[0],
            ".spec.size.count: Invalid value: 2147483648: should be less than or equal to 2147483647"
        );
    }
}
