//! PodTemplates: a template as workloads have it, of any restart policy.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use crate::{
    model::Cause,
    registry::{
        decode,
        strategy::{Context, document::DocumentRules, pod_validation, pod_warnings, workload},
    },
};

pub(super) static RULES: DocumentRules =
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::strategy::document::testing::check;

    #[test]
    fn rules() {
        let document = |containers: Value| {
            json!({"metadata": {"name": "t"}, "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"restartPolicy": "Never", "containers": containers}}})
        };
        let (faults, template) =
            check(&RULES, document(json!([{"name": "a", "image": "i"}])), None);
        assert_eq!(faults, [""; 0]);
        let spec = &template["template"]["spec"];
        assert_eq!(
            (&spec["restartPolicy"], &spec["dnsPolicy"]),
            (&json!("Never"), &json!("ClusterFirst"))
        );
        let (faults, _) = check(&RULES, document(json!([])), None);
        assert_eq!(faults, ["template.spec.containers: Required value"]);
    }
}
