//! Events: when they happened, and that they stand in the namespace of what they are about.

use k8s_openapi::{api::core::v1::Event, apimachinery::pkg::apis::meta::v1::Time};

use crate::{
    model::Cause,
    registry::strategy::{
        Context, Rules, checks,
        fields::{fill, text},
    },
};

pub(super) static RULES: Rules<Event> = Rules { default, validate, ..Rules::STORED };

const TEXT_MAX: usize = 128;
const MESSAGE_MAX: usize = 1024;

/// An Event without any time happened now.
fn default(new: &mut Event, old: Option<&Event>, context: &Context<'_>) {
    if old.is_none() && new.event_time.is_none() {
        fill(&mut new.first_timestamp, Time(context.now));
        fill(&mut new.last_timestamp, Time(context.now));
    }
}

fn validate(new: &Event, _old: Option<&Event>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let namespace = text(&new.metadata.namespace);
    let about = text(&new.involved_object.namespace);
    // Events about cluster-scoped objects are kept in `default`.
    let fits =
        if about.is_empty() { matches!(namespace, "" | "default") } else { namespace == about };
    if !fits {
        let rule = "does not match event.namespace";
        causes.push(Cause::invalid("involvedObject.namespace", about, rule));
    }
    if new.event_time.is_some() {
        validate_new_style(&mut causes, new);
    }
    causes
}

/// Events with `eventTime` follow the rules of events.k8s.io.
fn validate_new_style(causes: &mut Vec<Cause>, event: &Event) {
    let component = text(&event.reporting_component);
    if component.is_empty() {
        causes.push(Cause::required("reportingController", ""));
    } else {
        checks::qualified_name(causes, "reportingController", component);
    }
    for (field, value) in [
        ("reportingInstance", &event.reporting_instance),
        ("action", &event.action),
        ("reason", &event.reason),
    ] {
        if text(value).is_empty() {
            causes.push(Cause::required(field, ""));
        }
        limit(causes, field, text(value), TEXT_MAX);
    }
    limit(causes, "message", text(&event.message), MESSAGE_MAX);
}

fn limit(causes: &mut Vec<Cause>, field: &str, value: &str, max: usize) {
    if value.len() > max {
        let rule = format!("can have at most {max} characters");
        causes.push(Cause::invalid(field, "", &rule));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        Part, View,
        strategy::checks::testing::{context, lines, merged, object, options},
    };

    fn admit(change: &Value) -> (Vec<String>, Event) {
        let base = json!({"apiVersion": "v1", "kind": "Event",
            "metadata": {"name": "a", "namespace": "shop"},
            "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web"}});
        let (view, options) = (View::default(), options());
        let context = context(&view, &options, Part::Main);
        let mut new: Event = object(merged(base, change));
        default(&mut new, None, &context);
        (lines(&validate(&new, None, &context)), new)
    }

    #[test]
    fn defaults_and_rules() {
        let (faults, event) = admit(&json!({}));
        assert_eq!(faults, [""; 0]);
        assert!(event.first_timestamp.is_some() && event.last_timestamp.is_some());
        for (change, expected) in [
            (
                json!({"metadata": {"namespace": "other"}}),
                vec![
                    "involvedObject.namespace: Invalid value: \"shop\": does not match event.namespace",
                ],
            ),
            (
                json!({"involvedObject": {"kind": "Node", "namespace": null}}),
                vec![
                    "involvedObject.namespace: Invalid value: \"\": does not match event.namespace",
                ],
            ),
            (
                json!({"metadata": {"namespace": "default"},
                       "involvedObject": {"kind": "Node", "namespace": null}}),
                vec![],
            ),
            (
                json!({"eventTime": "2026-01-01T00:00:00.000000Z", "reportingInstance": "i",
                       "action": "a", "reason": "r".repeat(129)}),
                vec![
                    "reportingController: Required value",
                    "reason: Invalid value: \"\": can have at most 128 characters",
                ],
            ),
        ] {
            assert_eq!(admit(&change).0, expected);
        }
    }
}
