//! ClusterTrustBundles: certificates of authorities in PEM, for one signer or for none. No pod gets them.

use std::collections::BTreeMap;

use serde_json::Value;
use x509_parser::{certificate::X509Certificate, pem::Pem, prelude::FromDer};

use crate::{
    model::{Cause, kind::extension::CLUSTER_TRUST_BUNDLE},
    registry::{
        printing::{Column, row},
        strategy::{
            BuiltIn, Context,
            certificate_signing_request::signer_name,
            checks,
            document::DocumentRules,
            json::{stored_only, text},
            metadata::{NameForm, validate_name},
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &CLUSTER_TRUST_BUNDLE,
    rules: &RULES,
    columns: &[Column::NAME, Column::text("SignerName", "Signer whose authorities these are.")],
    cells: |object, _| {
        let document: Value = object.parse()?;
        let signer = row::or(text(&document["spec"], "signerName"), row::NONE);
        Ok(vec![object.key.name.as_str().into(), signer.into()])
    },
    selectable_fields: &[("spec.signerName", "spec.signerName")],
    replaced_by_revision: true,
    ..BuiltIn::STORED
};

static RULES: DocumentRules = DocumentRules {
    validate,
    warnings: |new, old| stored_only(new, old, "gives it to no pods"),
    // What it must be else depends on the signer.
    name: NameForm::PathSegment,
    ..DocumentRules::STORED
};

const SIGNER: &str = "spec.signerName";
const BUNDLE: &str = "spec.trustBundle";
const BUNDLE_BYTES_MAX: usize = 1024 * 1024;

fn validate(new: &Value, old: Option<&Value>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (spec, signer) = (&new["spec"], text(&new["spec"], "signerName"));
    let name = text(&new["metadata"], "name");
    let rules = name_rules(name, signer);
    causes.extend(rules.iter().map(|rule| Cause::invalid("metadata.name", name, rule)));
    if !signer.is_empty() {
        signer_name(&mut causes, SIGNER, signer);
    }
    let bundle = text(spec, "trustBundle");
    if old.is_none_or(|old| text(&old["spec"], "trustBundle") != bundle) {
        anchors(&mut causes, bundle);
    }
    if let Some(old) = old {
        checks::immutable(&mut causes, SIGNER, &spec["signerName"], &old["spec"]["signerName"]);
    }
    causes
}

/// The name of a signer's bundle begins with the signer.
fn name_rules(name: &str, signer: &str) -> Vec<String> {
    if signer.is_empty() {
        if name.contains(':') {
            let rule = "ClusterTrustBundle without signer name must not have \":\" in its name";
            return vec![rule.to_owned()];
        }
        return validate_name(name, NameForm::Subdomain);
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => validate_name(rest, NameForm::Subdomain),
        None => vec![format!(
            "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
        )],
    }
}

/// At least one certificate, each of an authority, and none twice.
fn anchors(causes: &mut Vec<Cause>, bundle: &str) {
    if bundle.len() > BUNDLE_BYTES_MAX {
        causes.push(Cause::too_long(BUNDLE, BUNDLE_BYTES_MAX));
        return;
    }
    let before = causes.len();
    let mut refuse = |rule: &str| causes.push(Cause::invalid(BUNDLE, "<value omitted>", rule));
    let mut known = BTreeMap::<Vec<u8>, Vec<usize>>::new();
    for (i, block) in Pem::iter_from_buffer(bundle.as_bytes()).enumerate() {
        match block {
            Err(_) => refuse(&format!("entry {i} does not parse as X.509")),
            Ok(Pem { label, .. }) if label != "CERTIFICATE" => {
                refuse(&format!("entry {i} has bad block type: {label}"));
            }
            Ok(Pem { contents, .. }) => match is_authority(&contents) {
                None => refuse(&format!("entry {i} does not parse as X.509")),
                Some(false) => refuse(&format!("entry {i} does not have the CA bit set")),
                Some(true) => known.entry(contents).or_default().push(i),
            },
        }
    }
    if causes.len() > before {
        return;
    }
    if known.is_empty() {
        let rule = "at least one trust anchor must be provided";
        causes.push(Cause::invalid(BUNDLE, "<value omitted>", rule));
    }
    for indices in known.values().filter(|indices| indices.len() > 1) {
        let indices: Vec<String> = indices.iter().map(usize::to_string).collect();
        let rule = format!("duplicate trust anchor (indices [{}])", indices.join(" "));
        causes.push(Cause::invalid(BUNDLE, "<value omitted>", &rule));
    }
}

fn is_authority(der: &[u8]) -> Option<bool> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.is_ca())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use serde_json::json;

    use super::*;
    use crate::registry::{
        Subresource, View,
        strategy::checks::testing::{context, lines, options},
    };

    fn certificate(is_ca: IsCa) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = is_ca;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn rules() {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let own = certificate(IsCa::Ca(BasicConstraints::Unconstrained));
        let bundle = |name: &str, signer: &str, trust: &str| {
            json!({"metadata": {"name": name},
            "spec": {"signerName": signer, "trustBundle": trust}})
        };
        let value = "spec.trustBundle: Invalid value: \"<value omitted>\"";
        let twice = format!("{own}{own}");
        let leaf = certificate(IsCa::NoCa);
        for (document, expected) in [
            (bundle("roots", "", &own), vec![]),
            (bundle("example.com:a:roots", "example.com/a", &own), vec![]),
            (
                bundle("a:b", "", &own),
                vec!["metadata.name: Invalid value: \"a:b\": ClusterTrustBundle without signer name must not have \":\" in \
                      its name"
                    .to_owned()],
            ),
            (
                bundle("roots", "example.com/a", &own),
                vec!["metadata.name: Invalid value: \"roots\": ClusterTrustBundle for signerName example.com/a must be named \
                      with prefix example.com:a:"
                    .to_owned()],
            ),
            (
                bundle("roots", "", ""),
                vec![format!("{value}: at least one trust anchor must be provided")],
            ),
            (
                bundle("roots", "", &twice),
                vec![format!("{value}: duplicate trust anchor (indices [0 1])")],
            ),
            (
                bundle("roots", "", &leaf),
                vec![format!("{value}: entry 0 does not have the CA bit set")],
            ),
            (
                bundle("roots", "", &own.replace("CERTIFICATE", "KEY")),
                vec![format!("{value}: entry 0 has bad block type: KEY")],
            ),
        ] {
            assert_eq!(lines(&validate(&document, None, &context)), expected);
        }
        let (old, new) = (
            bundle("example.com:a:roots", "example.com/a", &own),
            bundle("example.com:b:roots", "example.com/b", &own),
        );
        assert_eq!(
            lines(&validate(&new, Some(&old), &context)),
            ["spec.signerName: Invalid value: \"example.com/b\": field is immutable"]
        );
    }
}
