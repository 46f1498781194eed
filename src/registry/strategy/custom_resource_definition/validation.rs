//! What kube-apiserver checks of a CustomResourceDefinition beside its schemas (apiextensions'
//! `validation/validation.go`). What all versions say alike stands once in its internal type, so messages name it there:
//! `spec.validation`, `spec.subresources`, `spec.additionalPrinterColumns`.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceConversion, CustomResourceDefinition,
    CustomResourceDefinitionNames, CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
    CustomResourceSubresources, SelectableField,
};
use serde_json::Value;

use crate::{
    model::Cause,
    registry::{
        Subresource,
        strategy::{
            Context, checks,
            fields::{items, text},
            metadata,
        },
    },
    schema::{self, Path, Schema, cel::Compiled, field_path, structural::Type},
};

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] =
    &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const SELECTABLE_FIELDS_MAX: usize = 8;
const DEPRECATION_MAX: usize = 256;
const WEBHOOK: &str = "Webhook";
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const APPROVED: &str = "api-approved.kubernetes.io";

pub(super) fn validate(
    new: &CustomResourceDefinition,
    old: Option<&CustomResourceDefinition>,
    context: &Context<'_>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    let status = new.status.clone().unwrap_or_default();
    let accepted = status.accepted_names.unwrap_or_default();
    if context.subresource == Subresource::Status {
        names(&mut causes, "status.acceptedNames", &accepted);
        return causes;
    }
    let wanted = format!("{}.{}", new.spec.names.plural, new.spec.group);
    let name = new.metadata.name.as_deref().unwrap_or_default();
    if name != wanted {
        let rule = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", name, rule));
    }
    spec(&mut causes, &new.spec, old.map(|old| &old.spec));
    if let Some(old) = old {
        immutable(&mut causes, new, old);
    }
    names(&mut causes, "status.acceptedNames", &accepted);
    stored_versions(&mut causes, items(&status.stored_versions), &new.spec.versions);
    approval(&mut causes, new, old);
    if new.spec.preserve_unknown_fields == Some(true)
        && old.is_none_or(|old| old.spec.preserve_unknown_fields != Some(true))
    {
        let rule = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        causes.push(Cause::invalid("spec.preserveUnknownFields", true, rule));
    }
    causes
}

fn spec(
    causes: &mut Vec<Cause>,
    spec: &CustomResourceDefinitionSpec,
    old: Option<&CustomResourceDefinitionSpec>,
) {
    let group = spec.group.as_str();
    let broken = metadata::validate_name(group, metadata::NameForm::Subdomain);
    if group.is_empty() {
        causes.push(Cause::required("spec.group", ""));
    } else if !broken.is_empty() {
        causes.push(Cause::invalid("spec.group", group, &broken.join(",")));
    } else if !group.contains('.') {
        let rule = "should be a domain with at least one dot";
        causes.push(Cause::invalid("spec.group", group, rule));
    }
    checks::required_one_of(causes, "spec.scope", &spec.scope, &["Cluster", "Namespaced"]);
    for (index, version) in spec.versions.iter().enumerate() {
        let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        if schema.is_none() {
            let field = format!("spec.versions[{index}].schema.openAPIV3Schema");
            causes.push(Cause::required(field, ""));
        }
    }
    versions(causes, spec, old);
    for (field, value) in [
        ("plural", spec.names.plural.as_str()),
        ("singular", text(&spec.names.singular)),
        ("kind", spec.names.kind.as_str()),
        ("listKind", text(&spec.names.list_kind)),
    ] {
        if value.is_empty() {
            causes.push(Cause::required(format!("spec.names.{field}"), ""));
        }
    }
    names(causes, "spec.names", &spec.names);
    if let Some(found) = &spec.conversion {
        conversion(causes, found);
    }
}

fn versions(
    causes: &mut Vec<Cause>,
    spec: &CustomResourceDefinitionSpec,
    old: Option<&CustomResourceDefinitionSpec>,
) {
    let versions = &spec.versions;
    let alike =
        |same: fn(&CustomResourceDefinitionVersion, &CustomResourceDefinitionVersion) -> bool| {
            versions
                .first()
                .is_some_and(|first| versions.iter().all(|version| same(first, version)))
        };
    let same_schema = alike(|one, other| one.schema.is_some() && one.schema == other.schema);
    let same_subresources =
        alike(|one, other| one.subresources.is_some() && one.subresources == other.subresources);
    let same_columns = alike(|one, other| {
        one.additional_printer_columns.is_some()
            && one.additional_printer_columns == other.additional_printer_columns
    });
    let shown = checks::shown(versions);
    for (index, version) in versions.iter().enumerate() {
        let at = format!("spec.versions[{index}]");
        dns_1035_label(causes, &format!("{at}.name"), &version.name, "");
        deprecation(causes, &at, version);
        let once = index == 0;
        if once || !same_schema {
            let path =
                if same_schema { "spec.validation".to_owned() } else { format!("{at}.schema") };
            let before = old.and_then(|old| old.versions.iter().find(|v| v.name == version.name));
            let unchanged = before.is_some_and(|before| before.schema == version.schema);
            check_schema(causes, &path, version, unchanged);
        }
        if let Some(subresources) = &version.subresources
            && (once || !same_subresources)
        {
            let path = if same_subresources { "spec" } else { at.as_str() };
            scale(causes, &format!("{path}.subresources"), subresources);
        }
        if once || !same_columns {
            let path = if same_columns { "spec" } else { at.as_str() };
            for (index, column) in items(&version.additional_printer_columns).iter().enumerate() {
                printer_column(
                    causes,
                    &format!("{path}.additionalPrinterColumns[{index}]"),
                    column,
                );
            }
        }
        selectable_fields(causes, &format!("{at}.selectableFields"), version);
    }
    let unique: BTreeSet<&str> = versions.iter().map(|version| version.name.as_str()).collect();
    if unique.len() < versions.len() {
        let rule = "must contain unique version names";
        causes.push(Cause::invalid("spec.versions", shown.clone(), rule));
    }
    if versions.iter().filter(|version| version.storage).count() != 1 {
        let rule = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", shown, rule));
    }
}

/// Checks the schema and compiles its rules. A schema that was accepted before is not looked at again.
fn check_schema(
    causes: &mut Vec<Cause>,
    path: &str,
    version: &CustomResourceDefinitionVersion,
    unchanged: bool,
) {
    if unchanged {
        return;
    }
    let Some(document) = schema_document(version) else { return };
    let path = format!("{path}.openAPIV3Schema");
    let path = Path::root(&path);
    let schema = match Schema::parse(&document, &path) {
        Ok(schema) => schema,
        Err(cause) => return causes.push(cause),
    };
    let has_status = version.subresources.as_ref().is_some_and(|s| s.status.is_some());
    let context = schema::check::Context {
        has_status,
        metadata: &|document| metadata::validate(document, metadata::NameForm::Subdomain),
        rules: &Compiled::validate_default,
    };
    let found = schema::check::check(&schema, &path, &context);
    if found.is_empty()
        && let Err(found) = Compiled::compile(&schema, &path)
    {
        causes.extend(found);
    }
    causes.extend(found);
}

fn schema_document(version: &CustomResourceDefinitionVersion) -> Option<Value> {
    let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    Some(checks::shown(schema))
}

fn deprecation(causes: &mut Vec<Cause>, at: &str, version: &CustomResourceDefinitionVersion) {
    let Some(warning) = &version.deprecation_warning else { return };
    let mut add = |rule: &str| {
        causes.push(Cause::invalid(format!("{at}.deprecationWarning"), warning.as_str(), rule));
    };
    if version.deprecated != Some(true) {
        add("can only be set for deprecated versions");
        return;
    }
    if warning.len() > DEPRECATION_MAX {
        add("must be <= 256 characters long");
    }
    if warning.is_empty() {
        add("must not be an empty string");
    }
    if let Some((index, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        add(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {index}"
        ));
    }
}

fn scale(causes: &mut Vec<Cause>, at: &str, subresources: &CustomResourceSubresources) {
    let Some(scale) = &subresources.scale else { return };
    for (field, path, parent) in [
        ("specReplicasPath", &scale.spec_replicas_path, ".spec"),
        ("statusReplicasPath", &scale.status_replicas_path, ".status"),
    ] {
        let field = format!("{at}.scale.{field}");
        if path.is_empty() {
            causes.push(Cause::required(field, ""));
        } else if !path.starts_with('.') {
            causes.push(simple_path(field, path));
        } else if !path.starts_with(&format!("{parent}.")) {
            let rule = format!("should be a json path under {parent}");
            causes.push(Cause::invalid(field, path.as_str(), &rule));
        }
    }
    let selector = text(&scale.label_selector_path);
    let field = format!("{at}.scale.labelSelectorPath");
    if selector.is_empty() {
        return;
    }
    if !selector.starts_with('.') {
        causes.push(simple_path(field, selector));
    } else if !selector.starts_with(".spec.") && !selector.starts_with(".status.") {
        let rule = "should be a json path under either .spec or .status";
        causes.push(Cause::invalid(field, selector, rule));
    }
}

fn simple_path(field: String, path: &str) -> Cause {
    Cause::invalid(field, path, "must be a simple json path starting with .")
}

fn printer_column(causes: &mut Vec<Cause>, at: &str, column: &CustomResourceColumnDefinition) {
    if column.name.is_empty() {
        causes.push(Cause::required(format!("{at}.name"), ""));
    }
    let types = format!("must be one of {}", COLUMN_TYPES.join(","));
    if column.type_.is_empty() {
        causes.push(Cause::required(format!("{at}.type"), &types));
    } else if !COLUMN_TYPES.contains(&column.type_.as_str()) {
        causes.push(Cause::invalid(format!("{at}.type"), column.type_.as_str(), &types));
    }
    let format = text(&column.format);
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let rule = format!("must be one of {}", COLUMN_FORMATS.join(","));
        causes.push(Cause::invalid(format!("{at}.format"), format, &rule));
    }
    if column.json_path.is_empty() {
        causes.push(Cause::required(format!("{at}.JSONPath"), ""));
    } else if !column.json_path.starts_with('.') {
        causes.push(simple_path(format!("{at}.JSONPath"), &column.json_path));
    }
}

fn selectable_fields(causes: &mut Vec<Cause>, at: &str, version: &CustomResourceDefinitionVersion) {
    let fields: &[SelectableField] = items(&version.selectable_fields);
    let document = (!fields.is_empty()).then(|| schema_document(version)).flatten();
    let schema = document.and_then(|document| Schema::parse(&document, &Path::root("")).ok());
    let Some(schema) = schema else { return };
    let mut unique = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        let (at, path) = (format!("{at}[{index}].jsonPath"), field.json_path.as_str());
        if path.is_empty() {
            causes.push(Cause::required(at, ""));
            continue;
        }
        let found = match field_path::resolve(path, &schema, false) {
            Ok(found) => found,
            Err(why) => {
                causes.push(Cause::invalid(at, path, &format!("is an invalid path: {why}")));
                continue;
            }
        };
        if found.path.split(['.', '[']).next() == Some("metadata") {
            let rule = "must not point to fields in metadata";
            causes.push(Cause::invalid(at.as_str(), path, rule));
        }
        if !matches!(found.schema.value_type, Type::String | Type::Boolean | Type::Integer) {
            let rule = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            causes.push(Cause::invalid(at.as_str(), path, rule));
        }
        if !unique.insert(found.path) {
            causes.push(Cause::duplicate(at, path));
        }
    }
    if unique.len() > SELECTABLE_FIELDS_MAX {
        causes.push(Cause::too_many(at, unique.len(), SELECTABLE_FIELDS_MAX));
    }
}

fn names(causes: &mut Vec<Cause>, at: &str, names: &CustomResourceDefinitionNames) {
    const MIXED: &str = "may have mixed case, but should otherwise match: ";
    let (kind, list_kind) = (names.kind.as_str(), text(&names.list_kind));
    let mut check = |field: &str, value: &str, prefix: &str| {
        if !value.is_empty() {
            dns_1035_label(causes, &format!("{at}.{field}"), value, prefix);
        }
    };
    check("plural", &names.plural, "");
    check("singular", text(&names.singular), "");
    check("kind", kind, MIXED);
    check("listKind", list_kind, MIXED);
    for (field, list) in [("shortNames", &names.short_names), ("categories", &names.categories)] {
        if field == "categories" && !kind.is_empty() && kind == list_kind {
            let rule = "kind and listKind may not be the same";
            causes.push(Cause::invalid(format!("{at}.listKind"), list_kind, rule));
        }
        for (index, name) in items(list).iter().enumerate() {
            dns_1035_label(causes, &format!("{at}.{field}[{index}]"), name, "");
        }
    }
}

/// A name after `prefix`, which allows capital letters if it says so.
fn dns_1035_label(causes: &mut Vec<Cause>, field: &str, value: &str, prefix: &str) {
    const RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
        alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
        validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    let lower = if prefix.is_empty() { value.to_owned() } else { value.to_lowercase() };
    let mut rules = Vec::new();
    if lower.len() > 63 {
        rules.push("must be no more than 63 bytes");
    }
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label = lower.starts_with(|c: char| c.is_ascii_lowercase())
        && !lower.ends_with('-')
        && lower.chars().all(is_inner);
    if !is_label {
        rules.push(RULE);
    }
    if !rules.is_empty() {
        causes.push(Cause::invalid(field, value, &format!("{prefix}{}", rules.join(","))));
    }
}

fn conversion(causes: &mut Vec<Cause>, conversion: &CustomResourceConversion) {
    const CONFIG: &str = "spec.conversion.webhookClientConfig";
    const VERSIONS: &str = "spec.conversion.conversionReviewVersions";
    let strategy = conversion.strategy.as_str();
    checks::required_one_of(causes, "spec.conversion.strategy", strategy, &["None", WEBHOOK]);
    let webhook = conversion.webhook.as_ref();
    let config = webhook.and_then(|webhook| webhook.client_config.as_ref());
    let versions = webhook.map_or(&[][..], |webhook| &webhook.conversion_review_versions);
    if strategy != WEBHOOK {
        let rule = "should not be set when strategy is not set to Webhook";
        if config.is_some() {
            causes.push(Cause::forbidden(CONFIG, rule));
        }
        if !versions.is_empty() {
            causes.push(Cause::forbidden(VERSIONS, rule));
        }
        return;
    }
    match config {
        None => causes.push(Cause::required(CONFIG, "required when strategy is set to Webhook")),
        Some(config) if config.url.is_some() == config.service.is_some() => {
            causes.push(Cause::required(CONFIG, "exactly one of url or service is required"));
        }
        Some(_) => {}
    }
    if versions.is_empty() {
        causes.push(Cause::required(VERSIONS, ""));
    } else if !versions.iter().any(|version| REVIEW_VERSIONS.contains(&version.as_str())) {
        let rule = "must include at least one of v1, v1beta1";
        causes.push(Cause::invalid(VERSIONS, checks::shown(&versions), rule));
    }
}

fn immutable(
    causes: &mut Vec<Cause>,
    new: &CustomResourceDefinition,
    old: &CustomResourceDefinition,
) {
    let conditions = old.status.as_ref().map_or(&[][..], |status| items(&status.conditions));
    let established = conditions.iter().any(|c| c.type_ == "Established" && c.status == "True");
    let (new, old) = (&new.spec, &old.spec);
    if established {
        checks::immutable(causes, "spec.scope", &new.scope, &old.scope);
        checks::immutable(causes, "spec.names.kind", &new.names.kind, &old.names.kind);
    }
    checks::immutable(causes, "spec.group", &new.group, &old.group);
    checks::immutable(causes, "spec.names.plural", &new.names.plural, &old.names.plural);
}

fn stored_versions(
    causes: &mut Vec<Cause>,
    stored: &[String],
    versions: &[CustomResourceDefinitionVersion],
) {
    const FIELD: &str = "status.storedVersions";
    if stored.is_empty() {
        let rule = "must have at least one stored version";
        return causes.push(Cause::invalid(FIELD, checks::shown(&stored), rule));
    }
    for (index, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version.name == *name) {
            let rule = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {name} and removes {name} from \
                 status.storedVersions"
            );
            causes.push(Cause::invalid(format!("{FIELD}[{index}]"), name.as_str(), &rule));
        }
    }
}

/// Groups of Kubernetes itself need an approval, as an annotation with a URL or `unapproved, ...`.
fn approval(
    causes: &mut Vec<Cause>,
    new: &CustomResourceDefinition,
    old: Option<&CustomResourceDefinition>,
) {
    let group = new.spec.group.as_str();
    let is_protected = ["k8s.io", "kubernetes.io"].iter().any(|suffix| {
        group.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    if !is_protected {
        return;
    }
    let state = |definition: &CustomResourceDefinition| {
        let annotations = definition.metadata.annotations.as_ref();
        let value = annotations.and_then(|annotations| annotations.get(APPROVED));
        let value = value.map(String::as_str).unwrap_or_default();
        let is_url = value.split_once("://").is_some_and(|(scheme, host)| {
            !scheme.is_empty() && !host.split('/').next().unwrap_or_default().is_empty()
        });
        (value.is_empty(), value.starts_with("unapproved") || is_url)
    };
    let (is_missing, is_valid) = state(new);
    if is_valid || old.is_some_and(|old| state(old) == (is_missing, is_valid)) {
        return;
    }
    let field = format!("metadata.annotations[{APPROVED}]");
    let rule = "see https://github.com/kubernetes/enhancements/pull/1111";
    if is_missing {
        let detail =
            format!("protected groups must have approval annotation \"{APPROVED}\", {rule}");
        causes.push(Cause::required(field, &detail));
    } else {
        let annotations = new.metadata.annotations.as_ref();
        let value = annotations.and_then(|a| a.get(APPROVED)).cloned().unwrap_or_default();
        let detail = format!(
            "protected groups must have approval annotation \"{APPROVED}\" with either a URL or a reason starting with \
             \"unapproved\", {rule}"
        );
        causes.push(Cause::invalid(field, value, &detail));
    }
}
