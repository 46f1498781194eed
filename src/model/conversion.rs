//! Conversion of documents between the group version that is stored and the other ones that a kind is served in.
//!
//! Versions of one group share their fields, so that only `apiVersion` changes. Events of `events.k8s.io` have other
//! names for those of the core group, and autoscalers of `autoscaling/v1` have few fields.

mod autoscaler;

use serde_json::{Map, Value};

use crate::model::{
    Kind,
    kind::{self, extension::HORIZONTAL_POD_AUTOSCALER_V1},
};

/// Field names of an Event: in `events.k8s.io/v1`, and in the core group.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// The document of a served kind as it is stored.
pub fn to_stored(served: &Kind, document: Value) -> Value {
    let document = match *served == HORIZONTAL_POD_AUTOSCALER_V1 {
        true => autoscaler::to_v2(document),
        false => document,
    };
    convert(served, document, served.stored(), |(new, old)| (new, old))
}

/// The stored document as a served kind shows it.
pub fn from_stored(served: &Kind, document: Value) -> Value {
    let document = match *served == HORIZONTAL_POD_AUTOSCALER_V1 {
        true => autoscaler::from_v2(document),
        false => document,
    };
    convert(served, document, served, |(new, old)| (old, new))
}

/// Two field names, in either order.
type Names = (&'static str, &'static str);

/// `order` puts the name in the given document before the name in the result.
fn convert(served: &Kind, document: Value, to: &Kind, order: fn(Names) -> Names) -> Value {
    let Value::Object(mut fields) = document else { return document };
    if served.stored_as.is_none() {
        return Value::Object(fields);
    }
    if *served == kind::NEW_EVENT {
        fields = renamed(fields, order);
    }
    fields.insert("apiVersion".to_owned(), to.api_version().into());
    Value::Object(fields)
}

/// The fields under their other names. A field that has a name of the other form already is none of this form.
fn renamed(fields: Map<String, Value>, order: fn(Names) -> Names) -> Map<String, Value> {
    let names = || EVENT_FIELDS.iter().copied().map(order);
    let other = |field: &str| names().find(|(from, _)| *from == field).map(|(_, to)| to);
    fields
        .into_iter()
        .filter(|(field, _)| !names().any(|(_, to)| to == field))
        .map(|(field, value)| (other(&field).map_or(field, str::to_owned), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_have_two_forms() {
        let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": "e"}, "note": "n", "regarding": {"kind": "Pod"}, "reason": "r",
            "reportingController": "c", "deprecatedCount": 2, "series": {"count": 3}});
        let old = json!({"apiVersion": "v1", "kind": "Event",
            "metadata": {"name": "e"}, "message": "n", "involvedObject": {"kind": "Pod"},
            "reason": "r", "reportingComponent": "c", "count": 2, "series": {"count": 3}});
        assert_eq!(to_stored(&kind::NEW_EVENT, new.clone()), old);
        assert_eq!(from_stored(&kind::NEW_EVENT, old.clone()), new);
        assert_eq!(to_stored(&kind::EVENT, old.clone()), old);
    }

    #[test]
    fn versions_of_a_group_differ_in_their_name() {
        let alpha = json!({"apiVersion": "multicluster.x-k8s.io/v1alpha1", "message": 1});
        let beta = json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "message": 1});
        assert_eq!(to_stored(&kind::SERVICE_EXPORT_ALPHA, alpha.clone()), beta);
        assert_eq!(from_stored(&kind::SERVICE_EXPORT_ALPHA, beta.clone()), alpha);
        assert_eq!(to_stored(&kind::SERVICE_EXPORT, beta.clone()), beta);
    }
}
