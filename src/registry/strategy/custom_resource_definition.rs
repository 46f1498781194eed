//! CustomResourceDefinitions: names, versions and schemas of kinds that users define. Enter at [`DESCRIPTOR`].

mod validation;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionSpec,
    CustomResourceDefinitionStatus,
};

use crate::{
    model::kind,
    registry::{
        Subresource,
        strategy::{BuiltIn, Context, Rules, fields::fill_text},
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::CUSTOM_RESOURCE_DEFINITION,
    rules: &RULES,
    replaced_by_revision: true,
    ..BuiltIn::GENERIC
};

static RULES: Rules<CustomResourceDefinition> =
    Rules { default, validate: validation::validate, refuse: |_, _, _| None, ..Rules::STORED };

const HTTPS_PORT: i32 = 443;

fn default(
    new: &mut CustomResourceDefinition,
    _old: Option<&CustomResourceDefinition>,
    context: &Context<'_>,
) {
    default_spec(&mut new.spec);
    // On create there is no status yet; an update may name another version to be stored.
    if context.subresource != Subresource::Status {
        let storage = new.spec.versions.iter().find(|version| version.storage);
        let storage = storage.map(|version| version.name.clone());
        let status = new.status.get_or_insert_with(CustomResourceDefinitionStatus::default);
        let stored = status.stored_versions.get_or_insert_default();
        if let Some(storage) = storage.filter(|storage| !stored.contains(storage)) {
            stored.push(storage);
        }
    }
}

fn default_spec(spec: &mut CustomResourceDefinitionSpec) {
    let kind = spec.names.kind.clone();
    fill_text(&mut spec.names.singular, &kind.to_lowercase());
    if !kind.is_empty() {
        fill_text(&mut spec.names.list_kind, &format!("{kind}List"));
    }
    let conversion = spec.conversion.get_or_insert_with(|| CustomResourceConversion {
        strategy: "None".to_owned(),
        webhook: None,
    });
    let config = conversion.webhook.as_mut().and_then(|webhook| webhook.client_config.as_mut());
    if let Some(service) = config.and_then(|config| config.service.as_mut()) {
        service.port.get_or_insert(HTTPS_PORT);
    }
}

#[cfg(test)]
mod tests;
