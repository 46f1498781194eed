//! Events: when they happened, and that they stand in the namespace of what they are about.

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Event, apimachinery::pkg::apis::meta::v1::Time};

use crate::{
    model::{Cause, Object, kind},
    registry::{
        printing::{Cells, Column, age::since, row},
        strategy::{
            BuiltIn, Context, Rules, as_named, checks,
            fields::{fill, text},
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::EVENT,
    rules: &RULES,
    columns: &[
        Column::text("Last Seen", "Time since it happened last."),
        Column::text("Type", "Normal or Warning."),
        Column::text("Reason", "Why, in one word."),
        Column::text("Object", "What it is about."),
        Column::text("Subobject", "Subresource of the object that it is about.").wide(),
        Column::text("Source", "Who reports it.").wide(),
        Column::text("Message", "What happened, for people."),
        Column::text("First Seen", "Time since it happened first.").wide(),
        Column::text("Count", "How often it happened.").wide(),
        Column::NAME.wide(),
    ],
    cells,
    selectable_fields: &[
        as_named("involvedObject.kind"),
        as_named("involvedObject.namespace"),
        as_named("involvedObject.name"),
        as_named("involvedObject.uid"),
        as_named("involvedObject.apiVersion"),
        as_named("involvedObject.resourceVersion"),
        as_named("involvedObject.fieldPath"),
        as_named("reason"),
        as_named("reportingComponent"),
        ("source", "source.component|reportingComponent"),
        as_named("type"),
    ],
    created_by_put: true,
    ..BuiltIn::STORED
};

/// The form of `events.k8s.io`.
pub(super) static NEW: BuiltIn = BuiltIn {
    kind: &kind::NEW_EVENT,
    selectable_fields: &[
        ("regarding.kind", "involvedObject.kind"),
        ("regarding.namespace", "involvedObject.namespace"),
        ("regarding.name", "involvedObject.name"),
        ("regarding.uid", "involvedObject.uid"),
        ("regarding.apiVersion", "involvedObject.apiVersion"),
        ("regarding.resourceVersion", "involvedObject.resourceVersion"),
        ("regarding.fieldPath", "involvedObject.fieldPath"),
        as_named("reason"),
        ("reportingController", "reportingComponent"),
        as_named("type"),
    ],
    ..DESCRIPTOR
};

static RULES: Rules<Event> = Rules { default, validate, ..Rules::STORED };

const TEXT_MAX: usize = 128;
const MESSAGE_MAX: usize = 1024;

/// An Event of the core group without any time happened now.
fn default(new: &mut Event, old: Option<&Event>, context: &Context<'_>) {
    if old.is_none() && new.event_time.is_none() && !is_strict(context) {
        fill(&mut new.first_timestamp, Time(context.now));
        fill(&mut new.last_timestamp, Time(context.now));
    }
}

/// Whether the client speaks events.k8s.io.
fn is_strict(context: &Context<'_>) -> bool {
    *context.shown == kind::NEW_EVENT
}

fn validate(new: &Event, old: Option<&Event>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let namespace = text(&new.metadata.namespace);
    let about = text(&new.involved_object.namespace);
    // Events about cluster-scoped objects are kept in `default`.
    let fits = match (new.event_time.is_some(), about) {
        (true, "") => matches!(namespace, "default" | "kube-system"),
        (false, "") => matches!(namespace, "" | "default"),
        (true, _) => true,
        (false, about) => namespace == about,
    };
    if !fits {
        let rule = "does not match event.namespace";
        causes.push(Cause::invalid("involvedObject.namespace", about, rule));
    }
    if new.event_time.is_some() {
        validate_new_style(&mut causes, new);
    }
    match old {
        _ if !is_strict(context) => {}
        None => validate_strictly(&mut causes, new),
        Some(old) => validate_update(&mut causes, new, old),
    }
    causes
}

/// What events.k8s.io demands of a new Event.
fn validate_strictly(causes: &mut Vec<Cause>, event: &Event) {
    validate_series(causes, event);
    if event.event_time.is_none() {
        causes.push(Cause::required("eventTime", ""));
    }
    let event_type = text(&event.type_);
    if !matches!(event_type, "Normal" | "Warning") {
        let rule = format!("has invalid value: {event_type}");
        causes.push(Cause::invalid("type", "", &rule));
    }
    let source = event.source.clone().unwrap_or_default();
    for (set, field) in [
        (event.first_timestamp.is_some(), "firstTimestamp"),
        (event.last_timestamp.is_some(), "lastTimestamp"),
        (event.count.unwrap_or_default() != 0, "count"),
        (!text(&source.component).is_empty() || !text(&source.host).is_empty(), "source"),
    ] {
        if set {
            causes.push(Cause::invalid(field, "", "needs to be unset"));
        }
    }
}

/// Only the series and the metadata of an Event change.
fn validate_update(causes: &mut Vec<Cause>, new: &Event, old: &Event) {
    if new.series != old.series {
        validate_series(causes, new);
    }
    checks::immutable(causes, "involvedObject", &new.involved_object, &old.involved_object);
    for (field, new, old) in [
        ("reason", &new.reason, &old.reason),
        ("message", &new.message, &old.message),
        ("type", &new.type_, &old.type_),
        ("action", &new.action, &old.action),
        ("reportingController", &new.reporting_component, &old.reporting_component),
        ("reportingInstance", &new.reporting_instance, &old.reporting_instance),
    ] {
        checks::immutable(causes, field, new, old);
    }
    checks::immutable(causes, "source", &new.source, &old.source);
    checks::immutable(causes, "firstTimestamp", &new.first_timestamp, &old.first_timestamp);
    checks::immutable(causes, "lastTimestamp", &new.last_timestamp, &old.last_timestamp);
    checks::immutable(causes, "count", &new.count, &old.count);
    checks::immutable(causes, "eventTime", &new.event_time, &old.event_time);
    checks::immutable(causes, "related", &new.related, &old.related);
}

fn validate_series(causes: &mut Vec<Cause>, event: &Event) {
    let Some(series) = &event.series else { return };
    if series.count.unwrap_or_default() < 2 {
        causes.push(Cause::invalid("series.count", "", "should be at least 2"));
    }
    if series.last_observed_time.is_none() {
        causes.push(Cause::required("series.lastObservedTime", ""));
    }
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

fn cells(object: &Object, now: Timestamp) -> Cells {
    let event: Event = row::stored(object)?;
    let happened = event.event_time.as_ref().map(|time| time.0);
    let first = since(event.first_timestamp.as_ref().map(|time| time.0).or(happened), now);
    let last = match &event.last_timestamp {
        Some(time) => since(Some(time.0), now),
        None => first.clone(),
    };
    let (last, count) = match &event.series {
        Some(series) => {
            let observed = series.last_observed_time.as_ref().map(|time| time.0);
            (since(observed, now), series.count.unwrap_or_default())
        }
        None => (last, event.count.filter(|count| *count != 0).unwrap_or(1)),
    };
    let involved = &event.involved_object;
    let target = involved.kind.as_deref().unwrap_or_default().to_lowercase();
    let target = match involved.name.as_deref() {
        None | Some("") => target,
        Some(name) => format!("{target}/{name}"),
    };
    Ok(vec![
        last.into(),
        event.type_.clone().unwrap_or_default().into(),
        event.reason.clone().unwrap_or_default().into(),
        target.into(),
        involved.field_path.clone().unwrap_or_default().into(),
        source(&event).into(),
        event.message.as_deref().unwrap_or_default().trim().into(),
        first.into(),
        count.into(),
        object.key.name.as_str().into(),
    ])
}

/// Component and host, from the old fields or else the new ones.
fn source(event: &Event) -> String {
    let source = event.source.clone().unwrap_or_default();
    let first = |old: Option<String>, new: &Option<String>| {
        old.filter(|text| !text.is_empty()).or_else(|| new.clone()).unwrap_or_default()
    };
    let component = first(source.component, &event.reporting_component);
    let instance = first(source.host, &event.reporting_instance);
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        Subresource, View,
        strategy::checks::testing::{admitted, context, lines, merged, object, options},
    };

    fn admit(change: &Value) -> (Vec<String>, Event) {
        let base = json!({"apiVersion": "v1", "kind": "Event",
            "metadata": {"name": "a", "namespace": "shop"},
            "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web"}});
        admitted(&RULES, merged(base, change), None)
    }

    #[test]
    fn the_new_api_is_strict() {
        let (view, options) = (View::for_tests(), options());
        let strict =
            Context { shown: &kind::NEW_EVENT, ..context(&view, &options, Subresource::None) };
        let make = |change: Value| -> Event {
            object(merged(
                json!({"apiVersion": "v1", "kind": "Event",
                    "metadata": {"name": "a", "namespace": "shop"}, "type": "Normal",
                    "eventTime": "2026-01-01T00:00:00.000000Z", "reportingInstance": "i", "action": "a",
                    "reportingComponent": "c", "reason": "r",
                    "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web"}}),
                &change,
            ))
        };
        let old = make(json!({}));
        assert_eq!(lines(&validate(&old, None, &strict)), [""; 0]);
        assert_eq!(
            lines(&validate(
                &make(json!({"count": 2, "type": "Odd", "series": {"count": 1}})),
                None,
                &strict
            )),
            [
                "series.count: Invalid value: \"\": should be at least 2",
                "series.lastObservedTime: Required value",
                "type: Invalid value: \"\": has invalid value: Odd",
                "count: Invalid value: \"\": needs to be unset",
            ]
        );
        let series = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"});
        let counted = make(json!({"series": series}));
        assert_eq!(lines(&validate(&counted, Some(&old), &strict)), [""; 0]);
        let other = make(json!({"reason": "other"}));
        assert_eq!(
            lines(&validate(&other, Some(&old), &strict)),
            ["reason: Invalid value: \"other\": field is immutable"]
        );
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
