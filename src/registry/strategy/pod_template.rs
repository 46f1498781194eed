//! PodTemplates: a template as workloads have it, of any restart policy.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use crate::{
    model::{Cause, Object, kind},
    registry::{
        decode,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, document::DocumentRules, json::text, pod_validation, pod_warnings,
            workload,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::POD_TEMPLATE,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Containers", "Container names of the template."),
        Column::text("Images", "Container images of the template."),
        Column::text("Pod Labels", "Labels of the template."),
    ],
    cells,
    ..BuiltIn::STORED
};

static RULES: DocumentRules =
    DocumentRules { default, validate, warnings, ..DocumentRules::STORED };

fn template(document: &Value) -> PodTemplateSpec {
    serde_json::from_value(document["template"].clone()).unwrap_or_default()
}

fn default(new: &mut Value, _old: Option<&Value>, _context: &Context<'_>) {
    let mut template = template(new);
    workload::default_template(&mut template);
    new["template"] = decode::encode(&template);
}

fn validate(new: &Value, _old: Option<&Value>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    pod_validation::template_alone(&mut causes, "template", &template(new));
    causes
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut all = Vec::new();
    if old.is_none_or(|old| old["template"] != new["template"]) {
        pod_warnings::of_template(&mut all, "template.", &template(new));
    }
    all
}

/// There is no age.
fn cells(object: &Object, _now: Timestamp) -> Cells {
    let template = object.parse::<Value>()?["template"].take();
    let containers = template["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let each = |field: &str| row::joined(containers.iter().map(|container| text(container, field)));
    let own = serde_json::from_value(template["metadata"]["labels"].clone()).ok();
    Ok(vec![
        object.key.name.as_str().into(),
        each("name").into(),
        each("image").into(),
        row::labels(own.as_ref()).into(),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::strategy::json::testing::admitted;

    #[test]
    fn rules() {
        let document = |containers: Value| {
            json!({"metadata": {"name": "t"}, "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"restartPolicy": "Never", "containers": containers}}})
        };
        let (faults, template) = admitted(
            &RULES,
            &kind::POD_TEMPLATE,
            document(json!([{"name": "a", "image": "i"}])),
            None,
        );
        assert_eq!(faults, [""; 0]);
        let spec = &template["template"]["spec"];
        assert_eq!(
            (&spec["restartPolicy"], &spec["dnsPolicy"]),
            (&json!("Never"), &json!("ClusterFirst"))
        );
        let (faults, _) = admitted(&RULES, &kind::POD_TEMPLATE, document(json!([])), None);
        assert_eq!(faults, ["template.spec.containers: Required value"]);
    }
}
