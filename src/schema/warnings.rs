//! What a client is warned of when it writes a `CustomResourceDefinition`.

use std::collections::BTreeSet;

use crate::schema::{
    structural::{ListType, Schema, Type},
    validate,
};

/// Warnings about a schema. An update is not told again what was so before.
pub fn warnings(schema: &Schema, old: Option<&Schema>) -> Vec<String> {
    let mut found = BTreeSet::new();
    collect(schema, &mut found);
    let mut known = BTreeSet::new();
    if let Some(old) = old {
        collect(old, &mut known);
    }
    found.difference(&known).cloned().collect()
}

fn collect(schema: &Schema, found: &mut BTreeSet<String>) {
    let checks = schema.validations();
    if !checks.format.is_empty() && !validate::knows_format(schema) {
        found.insert(format!("unrecognized format \"{}\"", checks.format));
    }
    if let (Some(ListType::Set), Some(items)) = (&schema.list_type, &schema.items)
        && matches!(items.value_type, Type::Object | Type::Array)
    {
        found.insert(format!(
            "x-kubernetes-list-type: set for items of type \"{}\" is not supported by server-side apply or CEL \
             validation rules",
            items.value_type.name()
        ));
    }
    let below = schema.properties.iter().map(|(_, property)| property);
    let below = below.chain(schema.items.as_deref()).chain(schema.additional_properties.schema());
    let nested = [&checks.all_of, &checks.any_of, &checks.one_of];
    let nested = nested.into_iter().flat_map(|all| all.iter()).chain(&checks.not);
    below.chain(nested).for_each(|schema| collect(schema, found));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::Path;

    #[test]
    fn what_is_warned_of() {
        let schema = |format: &str| {
            let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object", "x-kubernetes-map-type": "atomic"}});
            let document = json!({"type": "object", "properties": {
                "a": {"type": "string", "format": format}, "b": set,
                "c": {"type": "integer", "format": "int32", "anyOf": [{"format": "ice"}]},
            }});
            Schema::parse(&document, &Path::root("")).unwrap()
        };
        let set = "x-kubernetes-list-type: set for items of type \"object\" is not supported by server-side apply or \
            CEL validation rules";
        assert_eq!(
            warnings(&schema("snow"), None),
            ["unrecognized format \"ice\"", "unrecognized format \"snow\"", set]
        );
        assert_eq!(
            warnings(&schema("snow"), Some(&schema("date"))),
            ["unrecognized format \"snow\""]
        );
    }
}
