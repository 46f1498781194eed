//! VolumeAttachments: which node wants which volume. Nothing is attached here.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    model::{Cause, Object, kind},
    registry::{
        Subresource,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, checks,
            csi::driver_name,
            document::DocumentRules,
            json::{bytes, stored_only, text},
            metadata::NameForm,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::VOLUME_ATTACHMENT,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Attacher", "Driver that attaches the volume.").named(),
        Column::text("PV", "Volume."),
        Column::text("Node", "Node that wants the volume."),
        Column::boolean("Attached", "Whether the node has it."),
        Column::AGE,
    ],
    cells,
    replaced_by_revision: true,
    ..BuiltIn::STORED
};

static RULES: DocumentRules = DocumentRules {
    validate,
    warnings: |new, old| stored_only(new, old, "attaches no volumes"),
    ..DocumentRules::STORED
};

const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: usize = 1024;

fn validate(new: &Value, old: Option<&Value>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.subresource == Subresource::Status {
        status(&mut causes, &new["status"]);
        return causes;
    }
    let spec = &new["spec"];
    driver_name(&mut causes, "spec.attacher", text(spec, "attacher"));
    source(&mut causes, &spec["source"]);
    checks::name(&mut causes, "spec.nodeName", text(spec, "nodeName"), NameForm::Subdomain);
    if let Some(old) = old {
        checks::immutable(&mut causes, "spec", spec, &old["spec"]);
    }
    causes
}

fn source(causes: &mut Vec<Cause>, source: &Value) {
    const PATH: &str = "spec.source";
    const RULE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let name = source["persistentVolumeName"].as_str();
    match (source["inlineVolumeSpec"].is_null(), name) {
        (true, None) => causes.push(Cause::required(PATH, RULE)),
        (false, Some(_)) => causes.push(Cause::forbidden(PATH, RULE)),
        (true, Some("")) => {
            let field = format!("{PATH}.persistentVolumeName");
            causes.push(Cause::required(field, "must specify non empty persistentVolumeName"));
        }
        (true, Some(name)) => {
            checks::name(
                causes,
                &format!("{PATH}.persistentVolumeName"),
                name,
                NameForm::Subdomain,
            );
        }
        (false, None) => {}
    }
}

fn status(causes: &mut Vec<Cause>, status: &Value) {
    if status["attachmentMetadata"].as_object().map_or(0, bytes) > METADATA_BYTES_MAX {
        causes.push(Cause::too_long("status.attachmentMetadata", METADATA_BYTES_MAX));
    }
    for field in ["attachError", "detachError"] {
        let error = &status[field];
        if text(error, "message").len() > MESSAGE_BYTES_MAX {
            causes.push(Cause::too_long(format!("status.{field}.message"), MESSAGE_BYTES_MAX));
        }
        if let Some(code) = error["errorCode"].as_i64().filter(|code| *code < 0) {
            let rule = "must be between 0 and 2147483647, inclusive";
            causes.push(Cause::invalid(format!("status.{field}.errorCode"), code, rule));
        }
    }
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let document: Value = object.parse()?;
    let spec = &document["spec"];
    let cells: [Value; 4] = [
        text(spec, "attacher").into(),
        text(&spec["source"], "persistentVolumeName").into(),
        text(spec, "nodeName").into(),
        document["status"]["attached"].as_bool().unwrap_or_default().into(),
    ];
    Ok(row::plain(object, now, cells))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::strategy::json::testing::admitted;

    #[test]
    fn rules() {
        let attachment = |source: Value| {
            json!({"metadata": {"name": "a"},
                "spec": {"attacher": "d.example.com", "nodeName": "n", "source": source}})
        };
        let named = json!({"persistentVolumeName": "pv"});
        let (faults, old) = admitted(&RULES, &kind::VOLUME_ATTACHMENT, attachment(named), None);
        assert_eq!(faults, [""; 0]);
        let rule = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        assert_eq!(
            admitted(&RULES, &kind::VOLUME_ATTACHMENT, attachment(json!({})), None).0,
            [format!("spec.source: Required value: {rule}")]
        );
        let both = json!({"persistentVolumeName": "pv", "inlineVolumeSpec": {}});
        assert_eq!(
            admitted(&RULES, &kind::VOLUME_ATTACHMENT, attachment(both), None).0,
            [format!("spec.source: Forbidden: {rule}")]
        );
        let empty = json!({"persistentVolumeName": ""});
        let (faults, _) = admitted(&RULES, &kind::VOLUME_ATTACHMENT, attachment(empty), Some(&old));
        assert_eq!(
            faults[0],
            "spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName"
        );
        assert!(
            faults[1].starts_with("spec: Invalid value:")
                && faults[1].ends_with("field is immutable")
        );
    }
}
