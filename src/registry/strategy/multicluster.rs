//! ServiceExports and ServiceImports of the multi-cluster API, by the schemas of its resource definitions.

use serde_json::Value;

use crate::{
    model::{
        Cause, kind,
        multicluster::{ServiceExport, ServiceImport, ServiceImportSpec},
    },
    registry::{
        Subresource,
        printing::{Column, row},
        strategy::{BuiltIn, Rules, checks},
    },
};

pub(super) static EXPORT: BuiltIn = BuiltIn {
    kind: &kind::SERVICE_EXPORT,
    rules: &EXPORT_RULES,
    columns: &[Column::NAME, Column::DATE],
    ..BuiltIn::STORED
};

pub(super) static EXPORT_ALPHA: BuiltIn = BuiltIn { kind: &kind::SERVICE_EXPORT_ALPHA, ..EXPORT };

pub(super) static IMPORT: BuiltIn = BuiltIn {
    kind: &kind::SERVICE_IMPORT,
    rules: &IMPORT_RULES,
    columns: &[
        Column::NAME,
        Column::text("Type", "The type of this ServiceImport"),
        Column::text("IP", "The VIP for this ServiceImport"),
        Column::DATE,
    ],
    cells: |object, now| Ok(row::plain(object, now, printed_import(&object.parse()?))),
    ..BuiltIn::STORED
};

pub(super) static IMPORT_ALPHA: BuiltIn = BuiltIn { kind: &kind::SERVICE_IMPORT_ALPHA, ..IMPORT };

/// Any ServiceExport is well formed.
static EXPORT_RULES: Rules<ServiceExport> = Rules::STORED;

static IMPORT_RULES: Rules<ServiceImport> = Rules {
    validate: |new, _, context| {
        if context.subresource == Subresource::Status {
            return Vec::new();
        }
        new.spec.as_ref().map(validate).unwrap_or_default()
    },
    ..Rules::STORED
};

/// At most one address and one family of each kind.
const FAMILIES_MAX: usize = 2;

fn validate(spec: &ServiceImportSpec) -> Vec<Cause> {
    let mut causes = Vec::new();
    let lists = [("ips", &spec.ips), ("ipFamilies", &spec.ip_families)];
    for (field, list) in lists {
        if list.len() > FAMILIES_MAX {
            causes.push(Cause::too_many(format!("spec.{field}"), list.len(), FAMILIES_MAX));
        }
    }
    match &spec.ports {
        None => causes.push(Cause::required("spec.ports", "")),
        Some(ports) => {
            for (i, port) in ports.iter().enumerate() {
                match port.port {
                    None => causes.push(Cause::required(format!("spec.ports[{i}].port"), "")),
                    Some(number) => {
                        checks::port_number(&mut causes, &format!("spec.ports[{i}].port"), number);
                    }
                }
            }
        }
    }
    checks::required_one_of(&mut causes, "spec.type", &spec.type_, &["ClusterSetIP", "Headless"]);
    causes
}

/// Type and addresses, as the columns of the resource definition give them.
fn printed_import(import: &Value) -> [Value; 2] {
    let field = |path: &str| import.pointer(path).cloned().unwrap_or_default();
    let addresses = field("/spec/ips");
    let addresses =
        if addresses.is_null() { Value::from("") } else { addresses.to_string().into() };
    [field("/spec/type"), addresses]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::strategy::checks::testing::{lines, object};

    #[test]
    fn rules() {
        for (spec, expected) in [
            (json!({"type": "Headless", "ports": [{"port": 80}]}), vec![]),
            (json!({}), vec!["spec.ports: Required value", "spec.type: Required value"]),
            (
                json!({"type": "ClusterIP", "ports": [{}], "ips": ["1.1.1.1", "::1", "1.1.1.2"]}),
                vec![
                    "spec.ips: Too many: 3: must have at most 2 items",
                    "spec.ports[0].port: Required value",
                    "spec.type: Unsupported value: \"ClusterIP\": supported values: \"ClusterSetIP\", \"Headless\"",
                ],
            ),
        ] {
            let spec: ServiceImportSpec = object(spec);
            assert_eq!(lines(&validate(&spec)), expected);
        }
    }
}
