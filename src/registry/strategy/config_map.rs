//! ConfigMaps: keys, size, immutability.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    model::{Cause, kind},
    registry::{
        printing::{Column, row},
        strategy::{BuiltIn, Context, Rules, checks},
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::CONFIG_MAP,
    rules: &RULES,
    columns: &[Column::NAME, Column::text("Data", "Number of keys."), Column::AGE],
    cells: |object, now| {
        let Keys { data, binary_data, .. } = object.parse()?;
        Ok(row::plain(object, now, [count(data.as_ref()) + count(binary_data.as_ref())]))
    },
    ..BuiltIn::STORED
};

static RULES: Rules<ConfigMap> = Rules { validate, ..Rules::STORED };

/// All values of one ConfigMap or Secret.
pub(super) const DATA_MAX: usize = 1024 * 1024;
/// Why a field of an immutable ConfigMap or Secret is refused.
pub(super) const SEALED: &str = "field is immutable when `immutable` is set";

fn validate(new: &ConfigMap, old: Option<&ConfigMap>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(old) = old.filter(|old| old.immutable == Some(true)) {
        for (field, changed) in [
            ("immutable", new.immutable != Some(true)),
            ("data", new.data != old.data),
            ("binaryData", new.binary_data != old.binary_data),
        ] {
            if changed {
                causes.push(Cause::forbidden(field, SEALED));
            }
        }
    }
    let mut size = 0;
    for (key, value) in new.data.iter().flatten() {
        let field = format!("data[{key}]");
        checks::data_key(&mut causes, &field, key);
        if new.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
            let rule = "duplicate of key present in binaryData";
            causes.push(Cause::invalid(field, key.as_str(), rule));
        }
        size += value.len();
    }
    for (key, value) in new.binary_data.iter().flatten() {
        checks::data_key(&mut causes, &format!("binaryData[{key}]"), key);
        size += value.0.len();
    }
    if size > DATA_MAX {
        causes.push(Cause::too_long(checks::WHOLE_OBJECT, DATA_MAX));
    }
    causes
}

/// The keys of a ConfigMap or Secret, without decoding what they hold.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Keys {
    pub(super) data: Option<BTreeMap<String, IgnoredAny>>,
    binary_data: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(rename = "type", default)]
    pub(super) kind: String,
}

pub(super) fn count(data: Option<&BTreeMap<String, IgnoredAny>>) -> usize {
    data.map_or(0, BTreeMap::len)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        Subresource, View,
        strategy::checks::testing::{context, lines, merged, object, options},
    };

    fn check(change: &Value, old: Option<&Value>) -> Vec<String> {
        let base = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        let (view, options) = (View::for_tests(), options());
        let new = object(merged(base.clone(), change));
        let old = old.map(|old| object(merged(base, old)));
        lines(&validate(&new, old.as_ref(), &context(&view, &options, Subresource::None)))
    }

    #[test]
    fn rules() {
        let at_most = "x".repeat(DATA_MAX - 1);
        for (change, expected) in [
            (json!({"data": {"a.b": "1"}, "binaryData": {"c": "AAA="}}), vec![]),
            (json!({"data": {"a": at_most}}), vec![]),
            (
                json!({"data": {"a": format!("{at_most}xy")}}),
                vec!["[]: Too long: may not be more than 1048576 bytes"],
            ),
            (
                json!({"data": {"a": ""}, "binaryData": {"a": ""}}),
                vec!["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"],
            ),
            (
                json!({"data": {"..": ""}}),
                vec!["data[..]: Invalid value: \"..\": must not be '..'"],
            ),
        ] {
            assert_eq!(check(&change, None), expected);
        }
        let sealed = json!({"immutable": true, "data": {"a": "1"}});
        assert_eq!(check(&sealed, Some(&sealed)), [""; 0]);
        assert_eq!(
            check(&json!({"data": {"a": "2"}}), Some(&sealed)),
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ]
        );
    }
}
