//! Conditions of a status: a list with one entry per type.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;

/// Sets a condition, as `SetStatusCondition` of Kubernetes' apimachinery: the transition time stays as long as the status
/// does. Tells whether anything changed.
pub fn set_condition(conditions: &mut Vec<Condition>, mut condition: Condition) -> bool {
    let same_type = |other: &&mut Condition| other.type_ == condition.type_;
    let Some(old) = conditions.iter_mut().find(same_type) else {
        conditions.push(condition);
        return true;
    };
    if old.status == condition.status {
        condition.last_transition_time = old.last_transition_time.clone();
    }
    let changed = *old != condition;
    *old = condition;
    changed
}

/// Puts a condition into the status of a document, in the place of the one of its type.
pub fn put_condition(document: &mut Value, condition: Value) {
    let conditions = document["status"]["conditions"].as_array_mut().map(std::mem::take);
    let mut conditions: Vec<Value> = conditions.unwrap_or_default();
    conditions.retain(|other| other["type"] != condition["type"]);
    conditions.push(condition);
    document["status"]["conditions"] = conditions.into();
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_time_stays_while_the_status_does() {
        let condition = |status: &str, reason: &str, time: &str| Condition {
            type_: "Ready".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            last_transition_time: Time(time.parse().unwrap()),
            observed_generation: None,
        };
        let (first, later) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let other = Condition { type_: "Other".to_owned(), ..condition("True", "A", first) };
        let mut conditions = vec![condition("True", "A", first), other];
        let mut set = |status, reason| {
            let changed = set_condition(&mut conditions, condition(status, reason, later));
            (changed, conditions[0].last_transition_time.0.to_string(), conditions.len())
        };
        assert_eq!(set("True", "A"), (false, first.to_owned(), 2));
        assert_eq!(set("True", "B"), (true, first.to_owned(), 2));
        assert_eq!(set("False", "B"), (true, later.to_owned(), 2));
        let mut none = Vec::new();
        assert!(set_condition(&mut none, condition("True", "A", later)) && none.len() == 1);
    }

    #[test]
    fn a_document_has_one_condition_of_a_type() {
        let mut document = json!({"metadata": {}});
        put_condition(&mut document, json!({"type": "A", "status": "True"}));
        put_condition(&mut document, json!({"type": "B", "status": "True"}));
        put_condition(&mut document, json!({"type": "A", "status": "False"}));
        let expected = json!([{"type": "B", "status": "True"}, {"type": "A", "status": "False"}]);
        assert_eq!(document["status"]["conditions"], expected);
    }
}
